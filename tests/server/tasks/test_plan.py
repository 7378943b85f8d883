from typing import Any

import numpy as np
import pytest

from engines.manifest import Generation, Search
from server.decoding.search import Plan
from server.errors import OptionError, OptionNotSupportedError
from server.schemas.options import TranscribeOptions
from server.settings import Settings
from server.tasks.plan import default_search, make_plan
from tests.server.scheduling.fakes import plan as any_plan


def generation(**search: Any) -> Generation:
    return any_plan().generation.model_copy(
        update={"search": Search(max_length=30, **search), "max_positions": 100, "languages": {"de": 7, "en": 8}}
    )


def plan(spec: Generation | None = None, **options: Any) -> Plan:
    settings = Settings(max_tokens=50, max_beams=6)
    return make_plan(spec or generation(), TranscribeOptions.model_validate(options), settings)


def test_a_request_that_asks_for_nothing_gets_what_the_checkpoint_asks_for() -> None:
    for spec in (generation(), generation(num_beams=4, length_penalty=0.5, forced_bos_token_id=9, do_sample=True)):
        assert plan(spec) == Plan(spec, spec.search)


def test_what_a_request_asks_for() -> None:
    found = plan(beams=3, alternatives=3, temperature=0.5, top_k=0, top_p=0.9, seed=5, max_tokens=20, language="de")
    asked = {"num_beams": 3, "do_sample": True, "temperature": 0.5, "top_k": 0, "top_p": 0.9}
    expected = Search(max_length=21, forced_bos_token_id=7, **asked)
    assert found == Plan(generation(), expected, seed=5)


def test_temperature_zero_takes_the_best() -> None:
    assert not plan(generation(do_sample=True), temperature=0).search.do_sample


def test_the_lowest_temperature_overflows_nothing() -> None:
    logits = np.array([[1e5, -1e5, 0]], np.float32)
    for spec in (generation(), generation(do_sample=True, temperature=1e-40)):
        searcher = plan(spec, temperature=0.001 if not spec.search.do_sample else None).begin()
        searcher.advance(logits)
        assert searcher.tokens.tolist() == [0]


def test_the_operator_bounds_what_a_checkpoint_asks_for() -> None:
    search = plan(generation(num_beams=50).model_copy(update={"search": Search(max_length=300, num_beams=50)})).search
    assert (search.num_beams, search.max_length) == (6, 51)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 7}, "up to 6"),
        ({"max_tokens": 51}, "up to 50"),
        ({"alternatives": 2}, "as many beams, not 1"),
        ({"top_k": 5}, "set 'temperature'"),
        ({"top_p": 0.5}, "set 'temperature'"),
        ({"seed": 1, "temperature": 0}, "set 'temperature'"),
        ({"temperature": 1e-40}, "set 0 to take the best"),
        ({"language": "fr"}, "'fr'; it has: de, en"),
    ],
)
def test_what_cannot_be_honoured(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        plan(**options)
    assert caught.value.param == next(iter(options))


def test_the_decoder_has_so_many_positions() -> None:
    short = generation().model_copy(update={"max_positions": 10})
    assert plan(short).search.max_length == 11
    with pytest.raises(OptionError, match="up to 10"):
        plan(short, max_tokens=11)


def test_a_model_without_languages() -> None:
    with pytest.raises(OptionNotSupportedError, match="language"):
        plan(generation().model_copy(update={"languages": {}}), language="de")


def test_the_default_is_what_a_request_gets_that_asks_for_nothing() -> None:
    assert default_search(generation(num_beams=3), Settings()) == plan(generation(num_beams=3)).search
