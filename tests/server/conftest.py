from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.process import Server, noise, serving, wav
from tests.server.scheduling.fakes import Clock


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[Server]:
    """The real server with its default settings and the three tiny engines; tiny-base is the default to encode with."""
    with serving(models, defaults={"encode": "tiny-base"}) as running:
        yield running


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the server reads, as far as it does not wait."""
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    return clock


@pytest.fixture(scope="session")
def speech() -> bytes:
    """1.5 s of audio, as a WAV file."""
    return wav(noise(1.5))
