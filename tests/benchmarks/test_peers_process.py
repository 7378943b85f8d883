from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import process
from benchmarks.peers.environments import Environment
from benchmarks.peers.process import ContestantError, Process

Start = Callable[..., Process]
SECONDS = 60.0  # within which a process that does nothing of note answers on any machine


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start the contestant of the tests with the given options."""
    monkeypatch.setattr(process, "SCRIPTS", "tests.benchmarks")
    with ExitStack() as stack:

        def started(**options: object) -> Process:
            given = {"threads": 1, "scale": 2.0, **options}
            where = Environment("own", Path(sys.executable), {})
            return stack.enter_context(Process(where, "contestant", given, tmp_path / "log", {}))

        yield started


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    np.savez(tmp_path / "clips.npz", np.ones(3, np.float32), np.ones(5, np.float32))
    return tmp_path / "clips.npz"


def test_a_contestant_computes_and_says_how_long_it_took(start: Start, clips: Path, tmp_path: Path) -> None:
    contestant = start()
    assert contestant.ready(SECONDS) >= 0.0
    assert contestant.run(clips, False, SECONDS, tmp_path / "alone.npz") > 0.0
    assert contestant.run(clips, True, SECONDS, tmp_path / "padded.npz") > 0.0
    with np.load(tmp_path / "alone.npz") as alone, np.load(tmp_path / "padded.npz") as padded:
        assert [alone[name].tolist() for name in alone.files] == [[[2.0]] * 3, [[2.0]] * 5]
        assert [padded[name].shape for name in padded.files] == [(5, 1), (5, 1)]


def test_it_stands_still_while_it_is_not_its_turn(start: Start, clips: Path) -> None:
    contestant = start()
    for wait in (contestant.ready, lambda seconds: contestant.run(clips, False, seconds)):
        wait(SECONDS)
        assert state(contestant) == "T"


def state(contestant: Process) -> str:
    return Path(f"/proc/{contestant.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_why_it_was_not_loaded_is_said(start: Start) -> None:
    with pytest.raises(ContestantError, match="FileNotFoundError: no such checkpoint"):
        start(at_load="no such checkpoint").ready(SECONDS)


def test_what_fails_at_one_length_may_run_at_the_next(start: Start, clips: Path) -> None:
    contestant = start(at_work="fail")
    contestant.ready(SECONDS)
    for _ in range(2):
        with pytest.raises(ContestantError, match=r"ArithmeticError: no such length$"):
            contestant.run(clips, False, SECONDS)


def test_how_it_ended_is_said(start: Start, clips: Path) -> None:
    contestant = start(at_work="die")
    contestant.ready(SECONDS)
    for _ in range(2):
        with pytest.raises(ContestantError, match="ended with status 3"):
            contestant.run(clips, False, SECONDS)


def test_what_takes_too_long_is_ended(start: Start, clips: Path) -> None:
    contestant = start(at_work="hang")
    contestant.ready(SECONDS)
    with pytest.raises(ContestantError, match=r"longer than 0\.1 s"):
        contestant.run(clips, False, 0.1)
    with pytest.raises(ContestantError, match=f"signal {signal.SIGKILL:d}"):
        contestant.run(clips, False, SECONDS)
