import asyncio
import time

from server.errors import EngineFailedError
from server.scheduling.jobs import Result
from server.scheduling.scheduler import Scheduler
from tests.server.scheduling.fakes import FakeEngine, clip, occupied, outcomes, plan, scheduled, values


async def waiting(scheduler: Scheduler, seconds: float) -> None:
    """Wait until so many seconds of audio are left in the queue: what is ahead is not there any more."""
    while sum(job.samples for job in scheduler._queue.waiting) != seconds * 100:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def test_a_full_batch_is_formed_ahead_and_one_that_is_not_waits_for_more() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        first = await occupied(engine, scheduler)
        early = scheduler.submit([clip(2), clip(2)], ["a"])  # 4 s of 10
        await asyncio.sleep(0.05)
        assert len(scheduler._queue.waiting) == 2
        early += scheduler.submit([clip(2, 7)], ["a"])
        await waiting(scheduler, 0)
        late = scheduler.submit([clip(2)], ["a"])  # for which there would have been room
        engine.gate.set()
        assert values(await outcomes(first + early + late)) == [1, 1, 1, 7, 1]
        assert engine.lengths == [[100], [200] * 3, [200]]

    scheduled(engine, test)


def test_only_one_batch_is_formed_ahead() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        first = await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(9, 1), clip(8, 2), clip(7, 3)], ["a"])
        await waiting(scheduler, 15)
        await asyncio.sleep(0.05)
        assert len(scheduler._queue.waiting) == 2
        engine.gate.set()
        assert values(await outcomes(first + jobs)) == [1, 1, 2, 3]

    scheduled(engine, test)


def test_a_client_that_leaves_before_the_turn_of_its_batch_costs_nothing() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        [first] = await occupied(engine, scheduler)
        gone, stays = scheduler.submit([clip(3), clip(3, 4)], ["a"])
        [alone] = scheduler.submit([clip(9)], ["a"])
        await waiting(scheduler, 9)
        gone.future.cancel()
        alone.future.cancel()
        engine.gate.set()
        assert values(await outcomes([first, stays])) == [1, 4]
        assert engine.lengths == [[100], [300]]

    scheduled(engine, test)


def test_what_takes_long_is_not_formed_ahead() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        scheduler._throughput.know(1 / 100)  # a second takes a second
        first = await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(9)], ["a"])
        await asyncio.sleep(0.05)
        assert len(scheduler._queue.waiting) == 1
        engine.gate.set()
        await outcomes(first + jobs)

    scheduled(engine, test)


def test_the_wait_for_the_batch_before_is_not_the_engines_time() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        first = await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(9)], ["a"])
        await waiting(scheduler, 0)
        begun = time.perf_counter()
        await asyncio.sleep(0.2)
        held = time.perf_counter() - begun
        engine.gate.set()
        *_, result = await outcomes(first + jobs)
        assert isinstance(result, Result)
        assert result.queue_seconds >= held
        assert result.inference_seconds < held

    scheduled(engine, test)


def test_a_fault_of_the_batch_before_is_its_own() -> None:
    engine = FakeEngine()

    def fail_once(clips: object) -> None:
        if len(engine.calls) == 1:
            raise ValueError("poison")

    engine.fault = fail_once

    async def test(scheduler: Scheduler) -> None:
        first = await occupied(engine, scheduler)
        jobs = scheduler.submit([clip(9, 2)], ["a"])
        await waiting(scheduler, 0)
        engine.gate.set()
        poisoned, good = await outcomes(first + jobs)
        assert isinstance(poisoned, EngineFailedError)
        assert values([good]) == [2]

    scheduled(engine, test)


def test_clips_to_be_written_about_are_not_taken_ahead() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        first = await occupied(engine, scheduler)
        [job] = scheduler.submit_generation([clip(9)], plan())
        await asyncio.sleep(0.05)
        assert len(scheduler._queue.waiting) == 1
        engine.gate.set()
        await outcomes([*first, job])

    scheduled(engine, test)
