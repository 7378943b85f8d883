import asyncio
import io
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any, cast

import numpy as np
import pytest

from engines.engine import Engine
from server.audio.decoders import Source
from server.errors import EngineFailedError, EngineHungError, QueueFullError, ShuttingDownError, WaitTooLongError
from server.kept import Kept
from server.memory import Memory
from server.models.model import Served
from server.running import LEAST_WINDOWS, Cut, Runner, TextWindow, Writer, ahead_of, gathered, outcome
from server.scheduling.jobs import BatchJob
from server.scheduling.limits import Limits
from server.scheduling.scheduler import Scheduler
from server.windows import Geometry, Span, Window, spans
from tests.server.scheduling.fakes import LIMITS, RATE, Clock, FakeEngine, clip, plan, scheduled
from tests.server.tasks.manifests import manifest
from tests.server.test_service import FakeTask

WINDOW = Geometry(RATE)  # a second
ANSWER = Memory("answer", 1e9)
SOURCE = Source("file[1]", io.BytesIO)
FEW = Limits(queue_seconds=1000, batch_seconds=1, max_padding=0.2, live_beams=8, live_seconds=2, start_seconds=10)


class FakeWithManifest(FakeEngine):
    """Its manifest has the output `a`."""

    outputs = (manifest().outputs[0].model_copy(update={"name": "a", "shape": ("batch", 1), "lengths": None}),)
    manifest = manifest().model_copy(update={"sample_rate": RATE, "outputs": outputs})


async def now(function: Callable[[], Any]) -> Any:
    return function()


def ramp(seconds: float) -> Cut:
    """A clip of which each second has its own value."""
    samples = np.repeat(np.arange(seconds, dtype=np.float32), RATE)
    return Cut(SOURCE, samples, spans(len(samples), WINDOW), RATE)


def runner(engine: FakeWithManifest, scheduler: Scheduler, *cuts: Cut, **options: Any) -> Runner:
    served = Served(cast(Engine, engine), scheduler)
    deadline = options.pop("deadline", float("inf"))
    return Runner(served, FakeTask(Kept(["a"]), **options), cuts, {}, deadline, now)


def means(windows: Sequence[Window]) -> list[float]:
    return [float(window.row["a"][0]) for window in windows]


def run(engine: FakeWithManifest, test: Callable[[Scheduler], Coroutine[Any, Any, None]], limits: Limits = FEW) -> None:
    scheduled(engine, test, limits)


def test_windows_come_in_order_and_clip_by_clip() -> None:
    async def test(scheduler: Scheduler) -> None:
        rows = await runner(engine, scheduler, ramp(5), ramp(1), ramp(2)).rows(ANSWER.hold())
        assert [means(row.windows) for row in rows] == [[0, 1, 2, 3, 4], [0], [0, 1]]
        assert [row.duration for row in rows] == [5, 1, 2]

    run(engine := FakeWithManifest(), test)


def test_few_windows_wait_at_a_time() -> None:
    most = 0

    async def test(scheduler: Scheduler) -> None:
        nonlocal most
        engine.fault = lambda clips: watch(scheduler)
        await runner(engine, scheduler, ramp(50)).rows(ANSWER.hold())

    def watch(scheduler: Scheduler) -> None:
        nonlocal most
        most = max(most, len(scheduler._queue.waiting))

    run(engine := FakeWithManifest(), test)
    assert most <= LEAST_WINDOWS
    assert len(engine.calls) >= 25


def test_who_reads_slowly_holds_back_the_windows() -> None:
    async def test(scheduler: Scheduler) -> None:
        async with aclosing(runner(engine, scheduler, ramp(50)).in_order(ANSWER.hold())) as windows:
            for _ in range(3):
                await anext(windows)
            await asyncio.sleep(0.05)
            count = sum(len(lengths) for lengths in engine.lengths)
            assert 3 <= count <= 3 + LEAST_WINDOWS
        assert not scheduler._queue.is_owed

    run(engine := FakeWithManifest(), test)


def test_the_last_windows_come_first() -> None:
    async def test(scheduler: Scheduler) -> None:
        async with aclosing(runner(engine, scheduler, ramp(4), ramp(1), ramp(3)).last_first(ANSWER.hold())) as windows:
            found = [window async for window in windows]
        assert means(found) == [3, 0, 2, 0, 1, 2, 0, 1]

    run(engine := FakeWithManifest(), test)


def test_what_is_kept_is_foreseen() -> None:
    memory = Memory("answer", 1e9)

    async def test(scheduler: Scheduler) -> None:
        one = runner(engine, scheduler, ramp(50))
        with memory.hold() as hold:
            await one.in_order(hold).aclose()
            assert memory.held == 4 * (LEAST_WINDOWS + 1)
        with memory.hold() as hold:
            await one.last_first(hold).aclose()
            assert memory.held == 4 * (LEAST_WINDOWS + 2)
        with memory.hold() as hold:
            await one.rows(hold)
            assert memory.held == 4 * 50

    run(engine := FakeWithManifest(), test)


def test_short_clips_are_not_kept_waiting_by_a_long_one(clock: Clock) -> None:
    async def test(scheduler: Scheduler) -> None:
        engine.seconds, engine.sleep = 0.01, clock.sleep
        await asyncio.gather(*(job.future for job in scheduler.submit([clip(1)] * 5, ["a"])))  # to know its speed
        long = asyncio.create_task(runner(engine, scheduler, ramp(40)).rows(ANSWER.hold()))
        while len(engine.calls) < 8:  # noqa: ASYNC110  # they come from another thread
            await asyncio.sleep(0)
        before = len(engine.calls)
        for _ in range(5):
            [job] = scheduler.submit([clip(0.5)], ["a"])
            await job.future
        assert len(engine.calls) - before <= 5 * (LEAST_WINDOWS + 2)
        assert not long.done()
        await long

    run(engine := FakeWithManifest(), test)


def test_short_clips_do_not_keep_a_long_one_waiting(clock: Clock) -> None:
    """Its windows are due as if all had been submitted at once: nothing that came later goes before them for good."""

    async def test(scheduler: Scheduler) -> None:
        engine.seconds, engine.sleep = 0.002, clock.sleep
        await asyncio.gather(*(job.future for job in scheduler.submit([clip(1)] * 5, ["a"])))  # to know its speed
        loop = asyncio.get_running_loop()

        def more() -> None:
            with suppress(QueueFullError, ShuttingDownError):
                scheduler.submit([clip(1)] * 4, ["a"])  # than the engine can do

        def come(clips: Sequence[np.ndarray]) -> None:
            loop.call_soon_threadsafe(more)

        engine.fault = come
        await runner(engine, scheduler, ramp(20)).rows(ANSWER.hold())
        assert len(engine.calls) < 400

    run(engine := FakeWithManifest(), test)


def test_a_window_that_fails_ends_it_and_names_its_clip() -> None:
    async def test(scheduler: Scheduler) -> None:
        def fault(clips: Sequence[np.ndarray]) -> None:
            if any(clip[0] == 7 for clip in clips):
                raise RuntimeError

        engine.fault = fault
        with pytest.raises(EngineFailedError) as caught:
            await runner(engine, scheduler, ramp(50)).rows(ANSWER.hold())
        assert caught.value.param == "file[1]"
        assert not scheduler._queue.is_owed

    run(engine := FakeWithManifest(), test)
    assert len(engine.calls) < 20


def test_what_is_cancelled_gives_everything_back() -> None:
    async def test(scheduler: Scheduler) -> None:
        engine.gate.clear()
        request = asyncio.create_task(runner(engine, scheduler, ramp(50)).rows(ANSWER.hold()))
        while not engine.calls:  # noqa: ASYNC110  # they come from another thread
            await asyncio.sleep(0.001)
        request.cancel()
        await asyncio.wait([request])
        assert not scheduler._queue.is_owed
        engine.gate.set()

    run(engine := FakeWithManifest(), test)
    assert len(engine.calls) == 1


def test_an_engine_that_is_lost_meanwhile() -> None:
    async def test(scheduler: Scheduler) -> None:
        async with aclosing(runner(engine, scheduler, ramp(50)).in_order(ANSWER.hold())) as windows:
            await anext(windows)
            scheduler._give_up("it hangs", 1.0)
            with pytest.raises(EngineHungError):
                await drained(windows)

    run(engine := FakeWithManifest(), test)


def test_a_scheduler_that_closes_finishes_what_was_admitted() -> None:
    async def test(scheduler: Scheduler) -> None:
        async with aclosing(runner(engine, scheduler, ramp(20)).in_order(ANSWER.hold())) as windows:
            await anext(windows)
            closing = asyncio.create_task(scheduler.close())
            await asyncio.sleep(0.02)  # nothing is submitted, and nothing runs
            assert not closing.done()
            with pytest.raises(ShuttingDownError):
                scheduler.submit([clip(1)], ["a"])
            assert len([window async for window in windows]) == 19
        await closing

    run(engine := FakeWithManifest(), test)


def test_a_full_queue_refuses_a_long_clip_at_once_or_not_at_all() -> None:
    limits = Limits(queue_seconds=4, batch_seconds=1, max_padding=0.2, live_beams=8)

    async def test(scheduler: Scheduler) -> None:
        async with aclosing(runner(engine, scheduler, ramp(20)).in_order(ANSWER.hold())) as windows:
            await anext(windows)
            engine.gate.clear()
            with pytest.raises(QueueFullError):
                fill(scheduler)
            engine.gate.set()
            assert len([window async for window in windows]) == 19

    run(engine := FakeWithManifest(), test, limits)


def test_two_long_clips_are_not_both_promised_the_engine(clock: Clock) -> None:
    async def test(scheduler: Scheduler) -> None:
        engine.seconds, engine.sleep = 0.02, clock.sleep
        await asyncio.gather(*(job.future for job in scheduler.submit([clip(1)] * 10, ["a"])))  # to know its speed
        wanted = clock() + 2
        async with aclosing(runner(engine, scheduler, ramp(60), deadline=wanted).in_order(ANSWER.hold())) as windows:
            await anext(windows)
            with pytest.raises(WaitTooLongError):
                await runner(engine, scheduler, ramp(60), deadline=wanted).rows(ANSWER.hold())

    run(engine := FakeWithManifest(), test)


def test_long_clips_are_written_about_window_by_window() -> None:
    async def test(scheduler: Scheduler) -> None:
        served = Served(cast(Engine, engine), scheduler)
        cuts = [Cut(SOURCE, 1 + ramp(3).clip, ramp(3).spans, RATE), Cut(SOURCE, clip(1, 4), [Span.whole(RATE)], RATE)]
        timings: dict[str, float] = {}
        long, short = await Writer(served, plan(), cuts, timings, float("inf")).texts()
        assert [words(window) for window in long.windows] == [1, 2, 3]
        assert [words(window) for window in short.windows] == [4]
        assert [window.span for window in long.windows] == list(ramp(3).spans)
        assert (long.duration, short.duration) == (3, 1)
        assert set(timings) == {"queue", "inference"}
        assert not scheduler._queue.is_owed

    run(engine := FakeWithManifest(), test, LIMITS)


def fill(scheduler: Scheduler) -> None:
    while True:
        scheduler.submit([clip(1)], ["a"])


async def drained(windows: AsyncGenerator[Window, None]) -> list[Window]:
    return [window async for window in windows]


def words(window: TextWindow) -> int:
    return len(window.hypotheses[0].tokens) - 1


def test_work_is_done_ahead_as_far_as_there_is_room() -> None:
    started: list[int] = []

    async def one(index: int) -> int:
        started.append(index)
        await asyncio.sleep(0)
        return index

    async def test() -> None:
        work = ((lambda index=index: one(index), 10) for index in range(20))
        async with aclosing(ahead_of(work, 45)) as results:
            assert await anext(results) == 0
            await asyncio.sleep(0.01)
            assert started == [0, 1, 2, 3]
            assert [result async for result in results] == list(range(1, 20))

    asyncio.run(test())


def test_work_that_is_not_wanted_any_more_is_cancelled() -> None:
    cancelled: list[int] = []

    async def one(index: int) -> int:
        try:
            await asyncio.sleep(1000 * index)
        except asyncio.CancelledError:
            cancelled.append(index)
            raise
        return index

    async def test() -> None:
        work = ((lambda index=index: one(index), 1) for index in range(5))
        async with aclosing(ahead_of(work, 3)) as results:
            assert await anext(results) == 0
            await asyncio.sleep(0.01)

    asyncio.run(test())
    assert sorted(cancelled) == [1, 2]


def test_the_first_clip_that_fails_ends_the_waiting_for_those_before_it() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        jobs = [BatchJob(np.zeros(1, np.float32), loop.create_future(), frozenset()) for _ in range(2)]
        jobs[1].settle(EngineFailedError("failed"))
        with pytest.raises(EngineFailedError) as caught:
            await asyncio.wait_for(gathered([outcome(job, SOURCE) for job in jobs], jobs), 30)
        assert caught.value.param == "file[1]"
        assert jobs[0].future.cancelled()

    asyncio.run(test())
