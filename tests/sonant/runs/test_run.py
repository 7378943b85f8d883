from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path, PurePath

import pytest

from sonant.runs.errors import FileError, RunError
from sonant.runs.inputs import Input
from sonant.runs.outcomes import Outcome
from sonant.runs.progress import Plain, Totals
from sonant.runs.run import Room, run


def files(*seconds: float) -> dict[Input, float]:
    return {Input(Path(f"{index}.wav"), PurePath(f"{index}.wav")): one for index, one in enumerate(seconds)}


class Kept:
    """An output in memory."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failed: list[str] = []
        self.full = False

    def is_done(self, each: Input) -> bool:
        return False

    def write(self, each: Input, outcome: Outcome) -> None:
        if self.full:
            raise OSError("the disk is full")
        self.done.append(str(each.path))

    def fail(self, each: Input, error: FileError) -> None:
        self.failed.append(str(each.path))

    def finish(self) -> None:
        pass


class Fake:
    """A worker that fails with what it is told."""

    def __init__(self, errors: Mapping[str, Exception] | None = None, seconds: float = 0.001) -> None:
        self._errors, self._seconds = errors or {}, seconds
        self.now = self.most = 0
        self.order: list[str] = []

    async def run(self, each: Input) -> Outcome:
        self.order.append(str(each.path))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self._seconds)
            if str(each.path) in self._errors:
                raise self._errors[str(each.path)]
            return Outcome(2.0)
        finally:
            self.now -= 1


def execute(found: Mapping[Input, float], worker: Fake, room: Room, kept: Kept | None = None) -> Totals:
    totals = Totals(len(found))

    async def ordered() -> Mapping[Input, float]:
        return found

    async def main() -> None:
        await run(ordered(), worker, room, kept or Kept(), Plain(), totals)

    asyncio.run(main())
    return totals


def test_only_so_much_is_in_progress() -> None:
    worker = Fake()
    execute(files(*[1.0] * 20), worker, Room(5.0, 100))
    assert worker.most == 5
    worker = Fake()
    execute(files(*[1.0] * 20), worker, Room(1e9, 3))
    assert worker.most == 3
    worker = Fake()
    assert execute(files(9.0, 9.0), worker, Room(5.0, 100)).done == 2  # what never fits goes alone
    assert worker.most == 1


def test_files_are_taken_in_their_order() -> None:
    worker = Fake()
    execute(files(*range(10)), worker, Room(1e9, 2))
    assert worker.order == [f"{index}.wav" for index in range(10)]


def test_one_that_fails_is_reported_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    kept = Kept()
    totals = execute(files(1, 1, 1), Fake({"1.wav": FileError("audio_empty", "nothing")}), Room(1, 1), kept)
    assert (kept.done, kept.failed) == (["0.wav", "2.wav"], ["1.wav"])
    assert (totals.done, totals.failed, totals.audio_seconds) == (2, 1, 4.0)
    assert capsys.readouterr().err == "sonant: 1.wav: nothing (audio_empty)\n"
    assert str(totals).startswith("2 of 3 files done, 1 failed; 4.0 s of audio in ")


def test_what_all_would_fail_with_ends_the_run() -> None:
    kept = Kept()
    with pytest.raises(RunError, match="gone"):
        execute(files(*[1.0] * 50), Fake({"3.wav": RunError("the server is gone")}), Room(1e9, 2), kept)
    assert len(kept.done) < 10


def test_a_full_disk_ends_the_run() -> None:
    kept = Kept()
    kept.full = True
    with pytest.raises(OSError, match="disk"):
        execute(files(1, 1), Fake(), Room(1e9, 2), kept)


def test_a_run_that_is_stopped_keeps_what_is_done() -> None:
    kept, totals = Kept(), Totals(100)

    async def ordered() -> Mapping[Input, float]:
        return files(*[1.0] * 100)

    async def main() -> None:
        running = asyncio.create_task(run(ordered(), Fake(seconds=0.05), Room(1e9, 1), kept, Plain(), totals))
        while not totals.done:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert 0 < totals.done <= len(kept.done) < 100
