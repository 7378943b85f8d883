from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines import forms, runtimes
from engines.errors import EngineInvalidError, EngineMismatchError, OutOfMemoryError, RuntimeUnavailableError
from engines.forms import Form
from engines.manifest import Manifest
from engines.runtimes import RuntimeOptions
from server.calibration import FormTime
from server.calibration.measure import Measured
from server.calibration.race import Race, in_front
from server.calibration.timing import Timer
from tests.engines.test_consistency import ctc, graph
from tests.engines.test_forms import Host
from tests.server.calibration.subjects import Clock, FakeSubject

FP32, INT8, BF16 = "onnxruntime/fp32", "onnxruntime/int8", "openvino/bf16"
ERRORS = {FP32: 1e-6, INT8: 2e-2, BF16: 1e-2}


class Track:
    """Races forms that take so many seconds for each second of audio, and counts how many are loaded at a time."""

    def __init__(
        self, costs: Mapping[str, float], errors: Mapping[str, float] = ERRORS, **more: dict[str, Any]
    ) -> None:
        """`more` is said of single forms."""
        self.clock = Clock()
        self.costs = costs
        self.forms = [form(name, errors.get(name, 1e-3)) for name in costs]
        self.more = more
        self.failing: dict[tuple[str, int], Exception] = {}  # by form, and how often it was loaded before
        self.opened: list[FakeSubject] = []
        self.names: list[str] = []
        self.said: list[str] = []

    def open(self, name: str, threads: int) -> FakeSubject:
        failure = self.failing.get((name, self.names.count(name)))
        self.names.append(name)
        if failure:
            raise failure
        assert all(subject.closed for subject in self.opened), "two are loaded at a time"
        cost = {"fixed": 0.0002, "per_second": self.costs[name], **self.more.get(name, {})}
        self.opened.append(FakeSubject(self.clock, threads, **cost))
        return self.opened[-1]

    def run(self, seconds: float = 60.0) -> Measured:
        timer = Timer(self.clock, lambda: 0.0)
        return Race(self.forms, self.open, 1, seconds, self.said.append, timer).run()


def form(name: str, error: float) -> Form:
    runtime, _, precision = name.partition("/")
    graphs = manifest({name: error}).graphs
    return Form(name, runtime, precision, tuple(each for each in graphs if each.form == name))  # type: ignore[arg-type]


def manifest(errors: Mapping[str, float]) -> Manifest:
    """An engine with fp32, and a graph of each other form."""
    data = ctc()
    for index, (name, error) in enumerate(errors.items()):
        runtime, _, precision = name.partition("/")
        if name == FP32:
            for each in data["graphs"]:
                each["errors"] = dict.fromkeys(each["outputs"], error)
            continue
        each = graph(f"other.{index}", ["embeddings", "hidden_states.0"], 2)
        data["graphs"].append(
            each | {"runtime": runtime, "precision": precision, "errors": {"embeddings": error}, "devices": ["cpu"]}
        )
    return Manifest.model_validate(data)


def test_the_fastest_is_chosen_and_one_is_loaded_at_a_time() -> None:
    track = Track({FP32: 0.02, INT8: 0.01, BF16: 0.005})
    found = track.run().calibration
    assert found.form == BF16
    assert found.seconds_per_second == pytest.approx(0.005, rel=0.01)
    assert [each.form for each in found.forms] == [FP32, INT8, BF16]
    assert found.forms[1].sentence_seconds == pytest.approx(0.0502)
    assert found.forms[1].long_seconds == pytest.approx(0.1002)
    assert track.names == [FP32, INT8, BF16, BF16]  # the others are too slow to be measured


def test_those_that_are_nearly_as_fast_are_measured_too() -> None:
    """int8 takes 7 % longer for one clip, by the mean of both lengths, and gains from batches as bf16 does not."""
    track = Track({FP32: 0.02, BF16: 0.01, INT8: 0.0001}, **{INT8: {"fixed": 0.075}})
    found = track.run().calibration
    assert track.names == [FP32, BF16, INT8, BF16, INT8]
    assert found.form == INT8
    assert found.batch_seconds > 10


@pytest.mark.parametrize(("second", "expected"), [(0.0098, FP32), (0.0092, INT8)])
def test_of_those_that_are_as_fast_the_most_exact_is_chosen(second: float, expected: str) -> None:
    track = Track({FP32: 0.01, INT8: second})
    assert track.run().calibration.form == expected
    assert track.names == [FP32, INT8, FP32, INT8]


def test_the_time_is_shared() -> None:
    track = Track(dict.fromkeys((FP32, INT8, BF16), 0.01))
    track.run(60)
    assert track.clock() < 70


@pytest.mark.parametrize("error", [EngineMismatchError("it is wrong"), OutOfMemoryError("no memory")])
def test_what_cannot_be_loaded_is_left_out_with_its_reason(error: Exception) -> None:
    track = Track({FP32: 0.02, INT8: 0.01})
    track.failing[INT8, 0] = error
    found = track.run().calibration
    assert found.form == FP32
    assert found.forms[1] == FormTime(INT8, reason=str(error))


def test_what_fails_on_the_way_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    track = Track({FP32: 0.02, INT8: 0.01}, **{INT8: {"capacity": 4.0}})  # a sentence is too long for it
    found = track.run().calibration
    assert (found.form, found.forms[1].reason) == (FP32, "no memory")
    assert all(subject.closed for subject in track.opened)


def test_where_the_fastest_fails_when_it_is_measured_the_next_is() -> None:
    track = Track({FP32: 0.02, INT8: 0.01, BF16: 0.04})
    track.failing[INT8, 1] = EngineInvalidError("it fails now")
    found = track.run().calibration
    assert found.form == FP32
    assert found.forms[1].reason == "it fails now"
    assert track.names == [FP32, INT8, BF16, INT8, FP32]


def test_where_all_fail_all_reasons_are_said() -> None:
    track = Track({FP32: 0.02, INT8: 0.01})
    track.failing = {(FP32, 0): EngineMismatchError("it is wrong"), (INT8, 1): EngineInvalidError("it fails now")}
    with pytest.raises(RuntimeUnavailableError, match="fp32: it is wrong; onnxruntime/int8: it fails now"):
        track.run()


def test_an_only_form_does_not_race() -> None:
    track = Track({FP32: 0.02})
    found = track.run().calibration
    assert (found.form, found.forms) == (FP32, ())
    assert track.said[0] == "Loading the engine"
    track.failing[FP32, 1] = EngineMismatchError("it is wrong")
    with pytest.raises(EngineMismatchError):
        track.run()


def test_a_model_of_short_clips_races_with_its_longest() -> None:
    found = Track({FP32: 0.02, INT8: 0.01}, **{FP32: {"longest": 1.0}, INT8: {"longest": 1.0}}).run().calibration
    assert found.forms[0].sentence_seconds == found.forms[0].long_seconds == pytest.approx(0.0202)


def test_it_says_what_it_does() -> None:
    track = Track({FP32: 0.02, INT8: 0.01})
    track.run()
    assert track.said[:3] == [f"{FP32}: race", f"{INT8}: race", f"{INT8}: Loading the engine"]


def test_who_is_in_front() -> None:
    times = [FormTime("a", 1.0, 2.0), FormTime("b", 1.1, 2.1), FormTime("c", 1.3, 2.2), FormTime("d", reason="broken")]
    assert in_front(times) == [0, 1]
    assert in_front(times[3:]) == []


@settings(max_examples=50)
@given(
    errors=st.dictionaries(
        st.sampled_from([INT8, BF16, "onnxruntime/fp16", "openvino/fp32", "openvino/int8"]),
        st.floats(0, 1),
        max_size=5,
    ),
    bound=st.floats(1e-4, 1),
    speeds=st.lists(st.floats(1e-4, 1), min_size=6, max_size=6),
    failing=st.sets(st.integers(1, 5)),
)
def test_auto_never_chooses_a_form_over_the_bound(
    errors: dict[str, float], bound: float, speeds: list[float], failing: set[int]
) -> None:
    """Whatever the errors and the speeds are, and whatever fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtimes, "find", lambda name: Host("cpu"))
        found = forms.find(manifest({FP32: 1e-6, **errors}), RuntimeOptions(max_error=bound))
    names = [form.name for form in found.usable]
    track = Track(dict(zip(names, speeds, strict=False)), {FP32: 1e-6, **errors})
    track.forms = list(found.usable)
    track.failing = {(names[index], 0): OutOfMemoryError("none") for index in failing if index < len(names)}
    track.failing.pop((FP32, 0), None)
    chosen = track.run(0.1).calibration.form
    assert {FP32: 1e-6, **errors}[chosen or ""] <= bound
