import asyncio
import dataclasses
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pytest

from engines.batch import Clip
from engines.errors import EngineMismatchError, OutOfMemoryError
from server.errors import (
    EngineFailedError,
    EngineHungError,
    EngineMemoryError,
    ModelNotReadyError,
    QueueFullError,
    ShuttingDownError,
    WaitTooLongError,
)
from server.scheduling.faults import SUSPICIOUS
from server.scheduling.jobs import BatchJob, Result
from server.scheduling.limits import Limits
from server.scheduling.scheduler import Scheduler
from tests.server.scheduling.fakes import (
    LIMITS,
    PATIENCE_SECONDS,
    RATE,
    Clock,
    FakeEngine,
    clip,
    occupied,
    outcomes,
    scheduled,
    values,
)


def test_an_idle_engine_takes_a_clip_at_once() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        found = [await outcomes(scheduler.submit([clip(1, 3.0)], ["a"])) for _ in range(20)]
        assert values(one for [one] in found) == [3.0] * 20
        # One of them at least, also where the machine is held up.
        assert min(one.queue_seconds for [one] in found) < 0.005

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


def test_requests_for_the_same_layers_share_a_batch_and_get_what_they_asked_for() -> None:
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

    scheduled(engine, test, Limits(queue_seconds=10, batch_seconds=10, max_padding=0.2, live_beams=8))


def test_a_full_queue_refuses_the_whole_request_and_says_when_to_come_back(clock: Clock) -> None:
    engine = FakeEngine(seconds=0.5, sleep=clock.sleep)

    async def test(scheduler: Scheduler) -> None:
        await outcomes(scheduler.submit([clip(1)], ["a"]))  # measured: 2 s of audio a second
        engine.calls.clear()
        await occupied(engine, scheduler)
        scheduler.submit([clip(5)], ["a"])
        with pytest.raises(QueueFullError, match="5 s of audio wait, 10 s is the limit") as caught:
            scheduler.submit([clip(6)], ["a"])
        assert caught.value.retry_after == 3  # 6 s at 2 s a second
        scheduler.submit([clip(5)], ["a"])

    scheduled(engine, test, Limits(queue_seconds=10, batch_seconds=10, max_padding=0.2, live_beams=8))


def test_others_come_between_the_clips_of_a_long_request_and_none_starves(clock: Clock) -> None:
    engine, others = FakeEngine(seconds=0.02, sleep=clock.sleep), list[BatchJob]()

    async def test(scheduler: Scheduler) -> None:
        await outcomes(scheduler.submit([clip(10)], ["a"]))  # measured: 10 s of audio in 20 ms
        engine.gate.clear()
        long = scheduler.submit([clip(10)] * 20, ["a"])
        clock.sleep(0.03)
        short = scheduler.submit([clip(1)], ["a"])
        engine.gate.set()
        await outcomes(short)
        assert sum(job.future.done() for job in long) <= 3
        loop = asyncio.get_running_loop()

        def come(clips: Sequence[Clip]) -> None:
            more = lambda: others.extend(scheduler.submit([clip(10, 3)] * 2, ["a"]))  # noqa: E731
            loop.call_soon_threadsafe(more)  # more than the engine can do

        engine.fault = come
        await outcomes(long)
        assert sum(job.future.done() for job in others) >= 5
        for job in others:
            job.future.cancel()

    scheduled(engine, test, Limits(queue_seconds=10_000, batch_seconds=10, max_padding=0.2, live_beams=8))


def test_an_empty_queue_takes_a_request_that_is_larger_than_it() -> None:
    async def test(scheduler: Scheduler) -> None:
        await outcomes(scheduler.submit([clip(30)] * 3, ["a"]))

    scheduled(FakeEngine(), test, Limits(queue_seconds=10, batch_seconds=10, max_padding=0.2, live_beams=8))


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


def test_a_failing_batch_is_run_again_by_halves() -> None:
    def fault(clips: Sequence[Clip]) -> None:
        if any(clip[0] == -1 for clip in clips):
            raise RuntimeError

    engine = FakeEngine(fault=fault)

    async def test(scheduler: Scheduler) -> None:
        await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(1, -1 if index == 9 else index) for index in range(16)], ["a"])
        engine.gate.set()
        found = await outcomes(jobs)
        assert [index for index, one in enumerate(found) if isinstance(one, EngineFailedError)] == [9]
        # The one before, all, and of each half the two halves of the guilty: 1 + 1 + 2 x log2(16).
        assert len(engine.lengths) == 1 + 1 + 2 * 4

    scheduled(engine, test, Limits(queue_seconds=1000, batch_seconds=16, max_padding=0.2, live_beams=8))


def test_out_of_memory_makes_batches_smaller_for_a_while() -> None:
    def fault(clips: Sequence[Clip]) -> None:
        if len(clips) > 2:
            raise OutOfMemoryError("the host has no more memory")

    engine = FakeEngine(fault=fault)

    async def test(scheduler: Scheduler) -> None:
        await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(1, index) for index in range(8)], ["a"])
        engine.gate.set()
        assert values(await outcomes(jobs)) == list(range(8))
        engine.calls.clear()
        await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(1, index) for index in range(8)], ["a"])
        engine.gate.set()
        assert values(await outcomes(jobs)) == list(range(8))
        assert [len(lengths) for lengths in engine.lengths[1:]] == [2] * 4

    scheduled(engine, test)


def test_one_clip_that_has_not_enough_memory() -> None:
    def fault(clips: Sequence[Clip]) -> None:
        raise OutOfMemoryError("the host has no more memory")

    async def test(scheduler: Scheduler) -> None:
        [found] = await outcomes(scheduler.submit([clip(1)], ["a"]))
        assert isinstance(found, EngineMemoryError)

    scheduled(FakeEngine(fault=fault), test)


def test_a_clip_that_fits_alone_is_not_refused_for_its_neighbours_memory() -> None:
    gate, together = threading.Event(), list[int]()

    def fault(clips: Sequence[Clip]) -> None:
        if clips[0][0] == 7:
            together.append(1)
            if len(together) == 1:
                raise OutOfMemoryError("the host has no more memory")
        else:
            assert gate.wait(PATIENCE_SECONDS)

    engine = FakeEngine(fault=fault)

    async def test(scheduler: Scheduler) -> None:
        neighbour = scheduler.submit([clip(1)], ["a"])
        while not engine.calls:  # noqa: ASYNC110  # they come from other threads
            await asyncio.sleep(0.001)
        jobs = scheduler.submit([clip(1, 7)], ["a"])
        while not together:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        gate.set()
        assert values(await outcomes(neighbour + jobs)) == [1, 7]

    scheduled(engine, test, dataclasses.replace(LIMITS, workers=2))


def test_a_graph_is_loaded_once_without_the_watchdog_and_is_not_measured(clock: Clock) -> None:
    def load() -> None:
        clock.sleep(0.5)
        time.sleep(0.5)

    engine, told = FakeEngine(load=load), list[float]()

    async def run() -> None:
        limits = dataclasses.replace(LIMITS, watchdog_seconds=0.3)
        scheduler = Scheduler("loading", engine, RATE, limits, lambda name, seconds: told.append(seconds))
        assert values(await outcomes(scheduler.submit([clip(1)], ["c"])), "c") == [3]
        assert values(await outcomes(scheduler.submit([clip(1)], ["c"])), "c") == [3]
        assert engine.loads == [("c",)]
        engine.gate.clear()
        waiting = scheduler.submit([clip(1)], ["c"])
        scheduler.submit([clip(1)], ["c"], clock() + 0.25)  # soon done, as far as was measured
        engine.gate.set()
        await outcomes(waiting)
        await scheduler.close()

    asyncio.run(run())
    assert told == []


def test_an_engine_that_fails_on_everything_is_given_up() -> None:
    def fault(clips: Sequence[Clip]) -> None:
        raise RuntimeError("an illegal memory access")

    engine, told = FakeEngine(fault=fault), list[str]()

    async def run() -> None:
        scheduler = Scheduler("broken", engine, RATE, LIMITS, lambda name, seconds: told.append(name))
        for _ in range(2 * SUSPICIOUS):  # its golden clips still come out
            await outcomes(scheduler.submit([clip(1)], ["a"]))
        assert told == []
        engine.works = False
        with suppress(EngineHungError):
            while not told:  # it is checked after the answer
                await outcomes(scheduler.submit([clip(1)], ["a"]))
        with pytest.raises(EngineHungError, match="does not work"):
            scheduler.submit([clip(1)], ["a"])
        await scheduler.close()

    asyncio.run(run())
    assert told == ["broken"]


def test_an_engine_that_hangs_fails_all_that_waits_and_is_reported() -> None:
    engine, told = FakeEngine(), list[tuple[str, float]]()

    async def run() -> None:
        limits = dataclasses.replace(LIMITS, watchdog_seconds=0.2)
        scheduler = Scheduler("hung", engine, RATE, limits, lambda name, seconds: told.append((name, seconds)))
        running = await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(1)] * 3, ["a"])
        found = await asyncio.wait_for(outcomes(running + jobs), 20)
        assert [type(one) for one in found] == [EngineHungError] * 4
        with pytest.raises(EngineHungError):
            scheduler.submit([clip(1)], ["a"])
        with pytest.raises(EngineHungError):
            scheduler.check()
        assert told == [("hung", 0.2)]
        await asyncio.wait_for(scheduler.close(), 20)  # while the engine hangs
        engine.gate.set()

    asyncio.run(run())


def test_workers_run_batches_at_the_same_time() -> None:
    engine = FakeEngine()
    engine.gate.clear()

    async def test(scheduler: Scheduler) -> None:
        jobs = [scheduler.submit([clip(1, value)], ["a"])[0] for value in (1, 2)]
        jobs += scheduler.submit([clip(1, 3), clip(1, 4)], ["a"])
        while len(engine.calls) < 2:  # noqa: ASYNC110  # they come from other threads
            await asyncio.sleep(0.001)
        engine.gate.set()
        assert values(await outcomes(jobs)) == [1, 2, 3, 4]

    scheduled(engine, test, dataclasses.replace(LIMITS, batch_seconds=1, workers=2))


def test_limits_can_change_while_it_runs() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        first = await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(1, value) for value in range(6)], ["a"])
        scheduler.tune(dataclasses.replace(LIMITS, batch_seconds=3))
        engine.gate.set()
        assert values(await outcomes(first + jobs)) == [1, *range(6)]
        assert [len(lengths) for lengths in engine.lengths] == [1, 3, 3]

    scheduled(engine, test)


def test_memory_limits_the_rows_of_a_batch() -> None:
    engine = FakeEngine(rows=4 * RATE)

    async def test(scheduler: Scheduler) -> None:
        await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(2)] * 5, ["a"])
        engine.gate.set()
        await outcomes(jobs)
        assert [len(lengths) for lengths in engine.lengths[1:]] == [2, 2, 1]

    scheduled(engine, test)


def test_what_cannot_be_done_by_its_deadline_is_refused(clock: Clock) -> None:
    engine = FakeEngine(seconds=0.05, sleep=clock.sleep)

    async def test(scheduler: Scheduler) -> None:
        await outcomes(scheduler.submit([clip(1)], ["a"]))  # measured: 20 s of audio a second
        engine.calls.clear()
        await occupied(engine, scheduler)
        scheduler.check(clock() + 10)
        with pytest.raises(WaitTooLongError) as caught:
            scheduler.submit([clip(60)], ["a"], clock() + 2)
        assert caught.value.retry_after is not None
        scheduler.submit([clip(10)], ["a"], clock() + 60)

    scheduled(engine, test)


def test_a_fault_of_the_scheduler_itself_fails_only_the_first_that_waits() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        def broken(samples: int) -> int:
            if samples > RATE:
                raise RuntimeError
            return 1000

        engine.max_rows = broken  # type: ignore[method-assign]
        first = await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(1, 5), clip(1.1), clip(1, 6)], ["a"])
        engine.gate.set()
        found = await outcomes(first + jobs)
        assert any(isinstance(one, EngineFailedError) for one in found)
        assert any(isinstance(one, Result) for one in found)
        engine.max_rows = lambda samples: 1000  # type: ignore[method-assign]
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
        jobs: list[BatchJob] = []
        for value in range(400):
            jobs += scheduler.submit([clip(generator.uniform(0.1, 8), value)], ["a"])
            if generator.random() < 0.3:
                jobs[generator.integers(len(jobs))].future.cancel()
            if generator.random() < 0.2:
                await asyncio.sleep(0.001)
        for value, job in enumerate(jobs):
            if not job.future.cancelled():
                assert values([await job.future]) == [value]

    scheduled(engine, test, Limits(queue_seconds=10_000, batch_seconds=20, max_padding=0.2, live_beams=8))
    assert max(len(lengths) for lengths in engine.lengths) > 1
