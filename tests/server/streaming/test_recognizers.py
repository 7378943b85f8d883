import asyncio
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.batch import Clip
from engines.manifest import Manifest
from server.errors import EngineFailedError, OptionError, QueueFullError, TaskNotSupportedError
from server.scheduling.admission import Admission
from server.scheduling.jobs import BatchJob, Result
from server.schemas.options import TranscribeOptions
from server.settings import Settings
from server.streaming.recognizers import Labelling, Offload, Recognizer, recognizer
from server.windows import Span

ENGINES = Path(__file__).parents[3] / "demo" / "engines"
OPTIONS = TranscribeOptions(window_seconds=8)
SPAN = Span.whole(16_000)


async def offload(function: Any) -> Any:
    return function()


class Scheduler:
    """Refuses what is not admitted; else what comes of a job is `outcome`, once it is set."""

    def __init__(self) -> None:
        self.outcome: Any = None
        self.jobs: list[BatchJob] = []

    def submit(
        self, clips: Sequence[Clip], outputs: Iterable[str], deadline: float, admitted: Admission | None
    ) -> list[BatchJob]:
        if admitted is None:
            assert deadline < math.inf
            raise QueueFullError("full")
        [clip] = clips
        self.jobs = [BatchJob(clip, asyncio.get_running_loop().create_future(), frozenset(outputs))]
        if self.outcome is not None:
            self.jobs[0].settle(self.outcome)
        return self.jobs


def make(scheduler: Any, name: str = "hubert-ctc-english", options: TranscribeOptions = OPTIONS) -> Recognizer:
    engine = SimpleNamespace(manifest=Manifest.read(ENGINES / name), name=name)
    served: Any = SimpleNamespace(engine=engine, scheduler=scheduler, text=None)
    run: Offload = offload
    return recognizer(served, options, Settings(), run)


def test_a_full_queue_costs_partial_texts_only() -> None:
    async def test() -> None:
        scheduler = Scheduler()
        found = make(scheduler)
        assert isinstance(found, Labelling)
        clip = np.zeros(16_000, np.float32)
        assert await found.partial(clip, SPAN, 1.0) is None
        vocabulary = len(Manifest.read(ENGINES / "hubert-ctc-english").ctc.vocabulary)  # type: ignore[union-attr]
        scheduler.outcome = Result(0.0, 0.0, {"logits": np.zeros((50, vocabulary), np.float32)})
        text = await found.final(clip, SPAN, is_last=True)
        assert (text.start, text.end) == (0, 1)

    asyncio.run(test())


def test_what_fails_is_raised() -> None:
    async def test() -> None:
        scheduler = Scheduler()
        scheduler.outcome = EngineFailedError("broken")
        with pytest.raises(EngineFailedError):
            await make(scheduler).final(np.zeros(16_000, np.float32), SPAN, is_last=True)

    asyncio.run(test())


def test_cancelling_drops_the_job() -> None:
    async def test() -> None:
        scheduler = Scheduler()
        waiting = asyncio.ensure_future(make(scheduler).final(np.zeros(16_000, np.float32), SPAN, is_last=True))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert scheduler.jobs[0].future.cancelled()

    asyncio.run(test())


def test_what_transcribes_nothing() -> None:
    with pytest.raises(TaskNotSupportedError):
        make(None, "ast-sound-events")


def test_windows_that_cannot_be() -> None:
    with pytest.raises(OptionError):
        make(None, options=TranscribeOptions(window_seconds=1e6))
