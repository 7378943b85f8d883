import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.batch import Clip, Row
from engines.errors import EngineMismatchError
from server.errors import ApiError, EngineFailedError, ModelNotReadyError, QueueFullError, ShuttingDownError
from server.scheduler import Job, Limits, Named, Result, Scheduler, form_batch

RATE = 100
LIMITS = Limits(queue_seconds=1000, batch_seconds=10, max_padding=0.2)


def clip(seconds: float, value: float = 1.0) -> Clip:
    return np.full(round(seconds * RATE), value, np.float32)


@dataclass
class FakeEngine:
    """Outputs are the clip's mean, times 2 for `b`. `b` and `c` come from graphs of their own."""

    calls: list[tuple[list[int], tuple[str, ...]]] = field(default_factory=list)
    fault: Callable[[Sequence[Clip]], None] = lambda clips: None
    gate: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.gate.set()

    def graph_for(self, outputs: Iterable[str]) -> Named:
        return SimpleNamespace(name="other" if "c" in outputs else "main")

    def run(self, clips: Sequence[Clip], outputs: Sequence[str]) -> list[Row]:
        self.calls.append(([len(clip) for clip in clips], tuple(outputs)))
        self.gate.wait(10)
        time.sleep(self.seconds)
        self.fault(clips)
        factors = {"a": 1, "b": 2, "c": 3}
        return [{name: np.array([clip.mean() * factors[name]]) for name in outputs} for clip in clips]

    @property
    def lengths(self) -> list[list[int]]:
        return [lengths for lengths, _ in self.calls]


def scheduled(
    engine: FakeEngine, test: Callable[[Scheduler], Coroutine[Any, Any, None]], limits: Limits = LIMITS
) -> None:
    async def run() -> None:
        scheduler = Scheduler("fake", engine, RATE, limits)
        try:
            await asyncio.wait_for(test(scheduler), 20)
        finally:
            engine.gate.set()
            await scheduler.close()

    asyncio.run(run())


async def outcomes(jobs: Iterable[Job]) -> list[Result | ApiError]:
    return [await job.future for job in jobs]


def values(found: Iterable[Result | ApiError], name: str = "a") -> list[float]:
    return [float(one.row[name][0]) for one in found if isinstance(one, Result)]


async def occupied(engine: FakeEngine, scheduler: Scheduler) -> list[Job]:
    """Submit a clip that holds the engine until its gate opens."""
    engine.gate.clear()
    jobs = scheduler.submit([clip(1)], ["a"])
    while not engine.calls:  # noqa: ASYNC110  # they come from another thread
        await asyncio.sleep(0.001)
    return jobs


def jobs_of(seconds: Iterable[float], graph: str = "main") -> list[Job]:
    future: asyncio.Future[Result | ApiError] = asyncio.Future(loop=asyncio.new_event_loop())
    future.get_loop().close()
    return [Job(clip(one), frozenset({"a"}), graph, future) for one in seconds]


def lengths_of(batch: Iterable[Job]) -> list[float]:
    return [job.samples / RATE for job in batch]


def test_the_oldest_takes_those_nearest_to_it_in_length() -> None:
    waiting = jobs_of([2.0, 9.0, 2.1, 0.5, 1.9, 2.2])
    assert lengths_of(form_batch(waiting, 7 * RATE, 0.2)) == [2.0, 2.1, 1.9]


def test_a_clip_that_does_not_fit_does_not_keep_out_one_that_does() -> None:
    waiting = jobs_of([2.0, 2.3, 1.6])
    assert lengths_of(form_batch(waiting, 4 * RATE, 0.2)) == [2.0, 1.6]


def test_padding_is_limited() -> None:
    assert lengths_of(form_batch(jobs_of([2.0, 1.0]), 100 * RATE, 0.2)) == [2.0]
    assert lengths_of(form_batch(jobs_of([2.0, 1.3]), 100 * RATE, 0.2)) == [2.0, 1.3]


def test_the_oldest_goes_even_if_it_exceeds_the_budget() -> None:
    assert lengths_of(form_batch(jobs_of([50.0, 1.0]), 10 * RATE, 0.2)) == [50.0]


def test_a_batch_has_one_graph() -> None:
    waiting = jobs_of([1.0]) + jobs_of([1.0], "other") + jobs_of([1.0])
    assert [job.graph for job in form_batch(waiting, 10 * RATE, 0.2)] == ["main", "main"]


@given(st.lists(st.floats(0.1, 20), min_size=1, max_size=60).map(jobs_of), st.floats(1, 100), st.floats(0, 0.9))
def test_every_batch_keeps_the_limits(waiting: list[Job], budget_seconds: float, max_padding: float) -> None:
    batch = form_batch(waiting, budget_seconds * RATE, max_padding)
    assert batch[0] is waiting[0]
    assert len(set(batch)) == len(batch)
    if len(batch) > 1:
        padded = max(job.samples for job in batch) * len(batch)
        assert padded <= budget_seconds * RATE
        assert 1 - sum(job.samples for job in batch) / padded <= max_padding + 1e-9


def test_an_idle_engine_takes_a_clip_at_once() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        [result] = await outcomes(scheduler.submit([clip(1, 3.0)], ["a"]))
        assert isinstance(result, Result)
        assert values([result]) == [3.0]
        assert result.queue_seconds < 0.5

    scheduled(engine, test)


def test_what_arrives_while_the_engine_runs_becomes_one_batch() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        first = await occupied(engine, scheduler)
        jobs = [job for value in range(5) for job in scheduler.submit([clip(1, value)], ["a"])]
        engine.gate.set()
        assert values(await outcomes(first + jobs)) == [1, 0, 1, 2, 3, 4]
        assert engine.lengths == [[100], [100] * 5]

    scheduled(engine, test)


def test_jobs_of_one_graph_share_a_batch_and_get_what_they_asked_for() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        first = await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(1)], ["a"]) + scheduler.submit([clip(1)], ["b"])
        jobs += scheduler.submit([clip(1)], ["c"])
        engine.gate.set()
        found = await outcomes(first + jobs)
        assert engine.calls[1:] == [([100, 100], ("a", "b")), ([100], ("c",))]
        assert [list(one.row) for one in found if isinstance(one, Result)] == [["a"], ["a"], ["b"], ["c"]]

    scheduled(engine, test)


def test_a_cancelled_clip_does_not_run() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        first = await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(1), clip(2), clip(3)], ["a"])
        jobs[1].future.cancel()
        engine.gate.set()
        await outcomes([*first, jobs[0], jobs[2]])
        assert sorted(length for call in engine.lengths for length in call) == [100, 100, 300]

    scheduled(engine, test)


def test_a_clip_cancelled_while_it_runs_harms_nobody() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        [running] = await occupied(engine, scheduler)
        running.future.cancel()
        engine.gate.set()
        assert values(await outcomes(scheduler.submit([clip(1, 5)], ["a"]))) == [5]

    scheduled(engine, test)


def test_cancelled_clips_make_room_in_the_queue() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        await occupied(engine, scheduler)
        for job in scheduler.submit([clip(10)], ["a"]):
            job.future.cancel()
        scheduler.submit([clip(10)], ["a"])

    scheduled(engine, test, Limits(queue_seconds=10, batch_seconds=10, max_padding=0.2))


def test_a_full_queue_refuses_the_whole_request_and_says_when_to_come_back() -> None:
    engine = FakeEngine(seconds=0.5)

    async def test(scheduler: Scheduler) -> None:
        await outcomes(scheduler.submit([clip(1)], ["a"]))  # measured: 2 s of audio a second
        engine.calls.clear()
        await occupied(engine, scheduler)
        scheduler.submit([clip(5)], ["a"])
        with pytest.raises(QueueFullError, match="5 s of audio wait, 10 s is the limit") as caught:
            scheduler.submit([clip(3), clip(3)], ["a"])
        assert caught.value.retry_after in (3, 4)  # 6 s at somewhat less than 2 s a second
        scheduler.submit([clip(5)], ["a"])

    scheduled(engine, test, Limits(queue_seconds=10, batch_seconds=10, max_padding=0.2))


def test_an_empty_queue_takes_a_request_that_is_larger_than_it() -> None:
    async def test(scheduler: Scheduler) -> None:
        await outcomes(scheduler.submit([clip(30)] * 3, ["a"]))

    scheduled(FakeEngine(), test, Limits(queue_seconds=10, batch_seconds=10, max_padding=0.2))


def test_only_the_guilty_clip_of_a_batch_fails() -> None:
    def fault(clips: Sequence[Clip]) -> None:
        if any(clip[0] == 13 for clip in clips):
            raise MemoryError

    engine = FakeEngine(fault=fault)

    async def test(scheduler: Scheduler) -> None:
        await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(1, value) for value in (1, 13, 2)], ["a"])
        engine.gate.set()
        found = await outcomes(jobs)
        assert values(found) == [1, 2]
        assert isinstance(found[1], EngineFailedError)
        assert values(await outcomes(scheduler.submit([clip(1, 4)], ["a"]))) == [4]

    scheduled(engine, test)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite_fail_only_their_clip(value: float) -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(1), clip(1, value), clip(1)], ["a"])
        engine.gate.set()
        found = await outcomes(jobs)
        assert values(found) == [1, 1]
        assert isinstance(found[1], EngineFailedError)

    scheduled(engine, test)


def test_a_graph_that_cannot_be_loaded_is_not_tried_for_each_clip() -> None:
    def fault(clips: Sequence[Clip]) -> None:
        raise EngineMismatchError("does not reproduce its golden clips")

    engine = FakeEngine(fault=fault)

    async def test(scheduler: Scheduler) -> None:
        first = await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(1)] * 3, ["a"])
        engine.gate.set()
        assert all(isinstance(one, ModelNotReadyError) for one in await outcomes(first + jobs))
        assert len(engine.calls) == 2

    scheduled(engine, test)


def test_an_engine_that_returns_too_few_rows_fails_and_the_loop_lives() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        original = engine.run
        engine.run = lambda clips, outputs: []  # type: ignore[method-assign]
        assert all(isinstance(one, EngineFailedError) for one in await outcomes(scheduler.submit([clip(1)], ["a"])))
        engine.run = original  # type: ignore[method-assign]
        assert values(await outcomes(scheduler.submit([clip(1)], ["a"]))) == [1]

    scheduled(engine, test)


def test_closing_runs_what_waits_and_takes_nothing_new() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        first = await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(1), clip(5)], ["a"])
        closing = asyncio.create_task(scheduler.close())
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDownError):
            scheduler.submit([clip(1)], ["a"])
        engine.gate.set()
        await closing
        assert values([job.future.result() for job in first + jobs]) == [1, 1, 1]

    scheduled(engine, test)


def test_random_cancellations_leave_every_survivor_its_own_result() -> None:
    generator = np.random.default_rng(0)
    engine = FakeEngine(seconds=0.0005)

    async def test(scheduler: Scheduler) -> None:
        jobs: list[Job] = []
        for value in range(400):
            jobs += scheduler.submit([clip(generator.uniform(0.1, 8), value)], ["a"])
            if generator.random() < 0.3:
                jobs[generator.integers(len(jobs))].future.cancel()
            if generator.random() < 0.2:
                await asyncio.sleep(0.001)
        for value, job in enumerate(jobs):
            if not job.future.cancelled():
                assert values([await job.future]) == [value]

    scheduled(engine, test, Limits(queue_seconds=10_000, batch_seconds=20, max_padding=0.2))
    assert max(len(lengths) for lengths in engine.lengths) > 1
