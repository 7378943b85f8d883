"""Every family over HTTP: the answers are what transformers computes for each clip alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from export.parity import TOLERANCE
from tests.conftest import Exported
from tests.server.agreement import errors
from tests.server.process import Server, noise, serving
from tests.zoo import kinds

NAMES = [f"{kind.name}, {name}" for kind in kinds().values() for name in kind.exports]


@pytest.fixture(scope="module")
def server(exports: Exported) -> Iterator[Server]:
    with serving(exports.models()) as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_what_transformers_computes(server: Server, exports: Exported, name: str) -> None:
    engine = exports.engine(name)
    clips = [noise(seconds, seed=index) for index, seconds in enumerate((0.31, 0.9, 0.62))]
    found = errors(
        server.client, engine.name, engine.manifest, exports.checkpoint(name), exports.specimens[name].options, clips
    )
    assert set(found) == set(engine.manifest.tasks)
    assert max(found.values()) <= TOLERANCE, found
