import asyncio

import numpy as np
from prometheus_client import REGISTRY

from server.errors import EngineFailedError
from server.scheduling.jobs import BatchJob, Result
from server.scheduling.runs import BatchMetrics, run_batch
from tests.server.scheduling.fakes import LIMITS, RATE, FakeEngine, clip


def jobs_of(*seconds: float, value: float = 1.0) -> list[BatchJob]:
    return [BatchJob(clip(one, value), asyncio.Future(), frozenset({"a"})) for one in seconds]


def test_each_gets_the_outputs_that_it_wants() -> None:
    async def run() -> None:
        engine = FakeEngine()
        first, second = jobs_of(1, 2, value=3.0)
        second.outputs = frozenset({"b", "c"})
        one, other = run_batch(engine, [first, second]).values()
        assert isinstance(one, Result)
        assert isinstance(other, Result)
        assert one.row == {"a": np.array([3.0])}
        assert other.row == {"b": np.array([6.0]), "c": np.array([9.0])}
        assert engine.calls == [([RATE, 2 * RATE], ("a", "b", "c"))]

    asyncio.run(run())


def test_what_is_not_finite_fails_if_it_is_wanted() -> None:
    async def run() -> None:
        [good], [bad] = jobs_of(1), jobs_of(1, value=np.nan)
        one, other = run_batch(FakeEngine(), [good, bad]).values()
        assert isinstance(one, Result)
        assert isinstance(other, EngineFailedError)

    asyncio.run(run())


def test_what_nobody_waits_for_is_left_out() -> None:
    async def run() -> None:
        engine = FakeEngine()
        gone, there = jobs_of(1, 2)
        gone.future.cancel()
        assert list(run_batch(engine, [gone, there])) == [there]
        assert engine.calls == [([2 * RATE], ("a",))]
        assert run_batch(engine, [gone]) == {}
        assert len(engine.calls) == 1

    asyncio.run(run())


def test_a_batch_is_counted() -> None:
    async def run() -> None:
        metrics = BatchMetrics("counted", RATE)
        metrics.limited(LIMITS)
        metrics.ran(jobs_of(1, 3), seconds=0.5)
        metrics.stepped(seconds=0.25)

        def value(name: str, **labels: str) -> float | None:
            return REGISTRY.get_sample_value(name, {"model": "counted", **labels})

        assert value("sonant_batch_clips_sum") == 2
        assert value("sonant_batch_padding_ratio_sum") == 1 - 4 / 6
        assert value("sonant_engine_audio_seconds_total") == 4
        assert value("sonant_engine_busy_seconds_total") == 0.75
        assert value("sonant_engine_workers") == LIMITS.workers
        assert value("sonant_queue_limit_audio_seconds") == LIMITS.queue_seconds
        assert value("sonant_clip_queue_seconds_count") == 2

    asyncio.run(run())
