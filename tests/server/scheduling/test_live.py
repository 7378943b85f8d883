import asyncio
import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from engines.batch import Clip
from engines.errors import EngineMismatchError, OutOfMemoryError
from server.errors import EngineFailedError, ModelNotReadyError
from server.scheduling.jobs import GenerationJob, Written
from server.scheduling.limits import Limits
from server.scheduling.live import Live, LiveBatch
from server.scheduling.scheduler import Scheduler
from tests.server.scheduling.fakes import (
    EOS,
    LIMITS,
    RATE,
    WORD,
    Clock,
    FakeEngine,
    FakeState,
    clip,
    occupied,
    outcomes,
    plan,
    scheduled,
    values,
)


def words(found: Iterable[Any]) -> list[int]:
    """Return how many words each text has."""
    return [one.hypotheses[0].tokens.count(WORD) for one in found if isinstance(one, Written)]


def jobs_of(*wordy: int, beams: int = 1, seconds: float = 1) -> list[GenerationJob]:
    """Jobs with so many words each; to be made in a running loop."""
    loop = asyncio.get_running_loop()
    return [GenerationJob(clip(seconds, value), loop.create_future(), plan(beams)) for value in wordy]


async def steps(engine: FakeEngine, count: int) -> None:
    """Wait until the engine has made so many steps."""
    while engine.order.count(".") < count:  # noqa: ASYNC110  # they come from another thread
        await asyncio.sleep(0)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_clip_leaves_when_its_text_has_ended(beams: int) -> None:
    async def run() -> None:
        jobs = jobs_of(2, 0, 5, beams=beams)
        batch = LiveBatch(FakeEngine(), jobs)
        assert batch.beams == 3 * beams
        found: list[tuple[int, GenerationJob]] = []
        for step in range(20):
            found += [(step, job) for job in batch.step()]
        if beams == 1:
            assert found == [(0, jobs[1]), (2, jobs[0]), (5, jobs[2])]
        assert {job for _, job in found} == set(jobs)
        assert batch.beams == batch.padded_samples == 0

    asyncio.run(run())


def test_the_text_and_what_it_cost() -> None:
    async def run() -> None:
        [job] = jobs_of(2)
        batch = LiveBatch(FakeEngine(step_seconds=0.01), [job])
        assert batch.step() == batch.step() == {}
        [written] = batch.step().values()
        assert isinstance(written, Written)
        assert [one.tokens for one in written.hypotheses] == [(WORD, WORD, EOS)]
        assert written.inference_seconds >= 0.03
        assert batch.engine_seconds >= 0.03
        assert written.queue_seconds >= 0

    asyncio.run(run())


def test_those_that_left_are_forgotten_before_the_step() -> None:
    engine = FakeEngine()

    async def run() -> None:
        jobs = jobs_of(5, 5)
        batch = LiveBatch(engine, jobs)
        batch.step({jobs[0]})
        assert batch.jobs == [jobs[1]]
        batch.step({jobs[1]})
        assert batch.step() == {}

    asyncio.run(run())
    assert engine.lengths == [[100, 100], [100]]


@pytest.mark.parametrize("leaving", [0, 1, 2])
def test_a_client_that_leaves_before_the_first_token_disturbs_nobody(
    leaving: int, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        engine.gate.clear()
        jobs = scheduler.submit_generation([clip(1, 5), clip(1, 3), clip(1, 7)], plan(beams=2))
        while not engine.calls:  # noqa: ASYNC110  # they come from another thread
            await asyncio.sleep(0.001)
        jobs.pop(leaving).future.cancel()
        engine.gate.set()
        expected = [5, 3, 7]
        expected.pop(leaving)
        assert words(await outcomes(jobs)) == expected
        assert engine.lengths[:2] == [[100] * 3, [100] * 2]

    scheduled(engine, test)
    assert not caplog.records


def test_whoever_leaves_the_texts_of_the_others_are_those_of_their_clips_alone() -> None:
    def babble(clip: Clip, text: tuple[int, ...]) -> list[float]:
        return list(np.random.default_rng([int(clip[0]), *text]).standard_normal(3))

    async def written(jobs: list[GenerationJob], leaving: dict[int, GenerationJob]) -> dict[int, Any]:
        batch = LiveBatch(FakeEngine(spell=babble), jobs)
        found: dict[int, Any] = {}
        for step in range(12):
            left = {leaving[step]} if step in leaving else set()
            found |= {int(job.clip[0]): one.hypotheses for job, one in batch.step(left).items()}  # type: ignore[union-attr]
        assert not batch.jobs
        return found

    def jobs(*values: int) -> list[GenerationJob]:
        loop = asyncio.get_running_loop()
        return [GenerationJob(clip(1, value), loop.create_future(), plan(3, max_length=10)) for value in values]

    async def run() -> None:
        several = jobs(*range(8))
        found = await written(several, {0: several[0], 1: several[7], 2: several[4]})
        assert {1, 2, 3, 5, 6} <= set(found)
        for value, texts in found.items():
            assert texts == (await written(jobs(value), {}))[value]

    asyncio.run(run())


def test_a_clip_fails_only_after_it_was_alone() -> None:
    def fault(state: FakeState) -> None:
        if state.steps == 3 and state.started == 2:
            raise MemoryError

    engine = FakeEngine(step_fault=fault)

    async def test(scheduler: Scheduler) -> None:
        jobs = scheduler.submit_generation([clip(1, 1), clip(1, 9)], plan())
        assert words(await outcomes(jobs)) == [1, 9]
        assert engine.order.count("s") == 2

    scheduled(engine, test)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_fail_only_their_clip(value: float) -> None:
    async def run() -> None:
        good, bad = jobs_of(2, 2)
        bad.clip[:] = value
        batch = LiveBatch(FakeEngine(), [good, bad])
        [outcome] = batch.step().values()
        assert isinstance(outcome, EngineFailedError)
        assert batch.jobs == [good]

    asyncio.run(run())


def test_room_is_counted_in_padded_seconds_and_in_beams() -> None:
    async def run() -> None:
        live = Live()
        assert live.room(10 * RATE) == 10 * RATE
        assert live.clips(beams=20, max_beams=8) == 1
        short, shorter = *jobs_of(3, beams=2, seconds=4), *jobs_of(0, beams=2, seconds=3)
        batch = LiveBatch(FakeEngine(), [short, shorter])
        live.add(batch)
        assert live.room(10 * RATE) == 2 * RATE
        assert live.clips(beams=2, max_beams=8) == 2
        assert live.clips(beams=5, max_beams=8) == 0
        batch.step({shorter})
        assert live.room(10 * RATE) == 6 * RATE
        assert live.next() is batch
        assert live.room(10 * RATE) == 6 * RATE  # also while it is advanced
        assert live.jobs == [short]

    asyncio.run(run())


def test_live_batches_take_turns() -> None:
    async def run() -> None:
        live = Live()
        batches = [LiveBatch(FakeEngine(), jobs_of(1)) for _ in range(3)]
        for batch in batches:
            live.add(batch)
        first, second = live.next(), live.next()
        assert [first, second] == batches[:2]
        live.add(batches[1])
        live.add(batches[0])
        assert [live.next() for _ in range(4)] == [batches[2], batches[1], batches[0], None]
        live.remove(batches[1])
        assert len(live) == 2

    asyncio.run(run())


def test_texts_that_ended_are_handed_out_though_memory_is_short() -> None:
    failures = [OutOfMemoryError("no")]

    class ShortState(FakeState):
        def keep(self, clips: Sequence[int]) -> None:
            if failures:
                raise failures.pop()
            super().keep(clips)

    class Short(FakeEngine):
        def start(self, clips: Sequence[Clip], beams: int) -> FakeState:
            state = super().start(clips, beams)
            return ShortState(state.clips, state.rows, state.cache)

    async def test(scheduler: Scheduler) -> None:
        assert words(await outcomes(scheduler.submit_generation([clip(1, 2), clip(1, 6), clip(1, 9)], plan()))) == [
            2,
            6,
            9,
        ]

    scheduled(Short(), test)
    assert not failures


def test_a_long_text_holds_up_no_short_one_however_small_batches_are() -> None:
    engine = FakeEngine(step_seconds=0.001)

    async def test(scheduler: Scheduler) -> None:
        [long] = scheduler.submit_generation([clip(5, 900)], plan())
        while not engine.calls:  # noqa: ASYNC110  # they come from another thread
            await asyncio.sleep(0.001)
        await outcomes(scheduler.submit_generation([clip(3, 3)], plan()))
        assert not long.future.done()
        long.future.cancel()

    scheduled(engine, test, dataclasses.replace(LIMITS, batch_seconds=1))


def busy_seconds() -> float:
    return REGISTRY.get_sample_value("sonant_engine_busy_seconds_total", {"model": "fake"}) or 0.0


def test_texts_are_written_together_and_each_is_handed_out_when_it_has_ended() -> None:
    engine, before = FakeEngine(step_seconds=0.001), busy_seconds()

    async def test(scheduler: Scheduler) -> None:
        first = await occupied(engine, scheduler)
        jobs = scheduler.submit_generation([clip(1, 30), clip(1, 1), clip(1, 4)], plan())
        engine.gate.set()
        await asyncio.gather(jobs[1].future)
        assert not jobs[0].future.done()
        assert words(await outcomes([*first, *jobs])) == [30, 1, 4]
        assert engine.order == ["a", "s", *"." * 31]

    scheduled(engine, test)
    # Each step is time of the engine's too.
    assert busy_seconds() - before >= 31 * 0.001


def test_a_short_request_runs_between_two_steps_of_a_long_text() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        [long] = scheduler.submit_generation([clip(1, 100)], plan())
        await steps(engine, 5)
        assert values(await outcomes(scheduler.submit([clip(1, 3)], ["a"]))) == [3]
        assert words(await outcomes(scheduler.submit_generation([clip(1, 2)], plan()))) == [2]
        assert engine.order.count(".") <= 20  # its own three, and those of the long one that take turns with them
        assert not long.future.done()
        assert words(await outcomes([long])) == [100]

    scheduled(engine, test)


def test_a_full_queue_takes_no_more_than_half_of_the_engine_from_a_text(clock: Clock) -> None:
    engine = FakeEngine(seconds=0.02, step_seconds=0.005, sleep=clock.sleep)

    async def test(scheduler: Scheduler) -> None:
        [text] = scheduler.submit_generation([clip(1, 60)], plan())
        await steps(engine, 1)
        jobs = scheduler.submit([clip(10)] * 200, ["a"])  # a batch each
        await text.future
        done = sum(job.future.done() for job in jobs)
        assert 10 <= done <= 20  # 60 steps of 5 ms, and as long for batches of 20 ms: 15
        for job in jobs:
            job.future.cancel()

    scheduled(engine, test, Limits(queue_seconds=10_000, batch_seconds=10, max_padding=0.2, live_beams=8))


def test_live_texts_keep_the_limits_and_none_starves() -> None:
    engine = FakeEngine(step_seconds=0.0005)
    most = 0

    def watch(state: FakeState) -> None:
        nonlocal most
        most = max(most, len(state.clips))

    engine.step_fault = watch
    generator = np.random.default_rng(0)
    lengths = generator.uniform(0.1, 12, 60)

    async def test(scheduler: Scheduler) -> None:
        jobs = [
            job
            for length in lengths
            for job in scheduler.submit_generation(
                [clip(length, int(generator.integers(20)))], plan(int(length) % 3 + 1)
            )
        ]
        assert len(words(await outcomes(jobs))) == 60

    scheduled(engine, test)
    assert 1 < most <= 8
    for (started, _), kind in zip(engine.calls, engine.order, strict=True):
        if kind == "s" and len(started) > 1:
            assert max(started) * len(started) <= 10 * RATE


def test_a_cancelled_text_ends_before_its_next_token() -> None:
    engine = FakeEngine(step_seconds=0.002)

    async def test(scheduler: Scheduler) -> None:
        left, stays = scheduler.submit_generation([clip(1, 900), clip(1, 30)], plan())
        await steps(engine, 3)
        left.future.cancel()
        assert words(await outcomes([stays])) == [30]
        assert engine.order.count(".") <= 33
        assert engine.lengths[-1] == [100]

    scheduled(engine, test)


def test_when_all_have_left_nothing_runs() -> None:
    engine = FakeEngine(step_seconds=0.002)

    async def test(scheduler: Scheduler) -> None:
        for job in scheduler.submit_generation([clip(1, 900)], plan()):
            await steps(engine, 3)
            job.future.cancel()
        while scheduler._live:  # noqa: ASYNC110
            await asyncio.sleep(0)
        made = len(engine.calls)
        await asyncio.sleep(0.05)
        assert len(engine.calls) == made <= 6

    scheduled(engine, test)


@pytest.mark.parametrize("where", ["start", "step"])
def test_only_the_guilty_clip_fails(where: str) -> None:
    def fault(clips: Sequence[Clip]) -> None:
        if any(one[0] == 13 for one in clips):
            raise MemoryError

    engine = FakeEngine()
    if where == "start":
        engine.fault = fault
    else:
        engine.step_fault = lambda state: fault(state.clips) if state.steps == 3 else None

    async def test(scheduler: Scheduler) -> None:
        jobs = scheduler.submit_generation([clip(1, value) for value in (5, 13, 7)], plan())
        found = await outcomes(jobs)
        assert words(found) == [5, 7]
        assert isinstance(found[1], EngineFailedError)
        assert words(await outcomes(scheduler.submit_generation([clip(1, 4)], plan()))) == [4]

    scheduled(engine, test)


def test_a_graph_that_cannot_be_loaded_is_not_tried_for_each_clip() -> None:
    def fault(clips: Sequence[Clip]) -> None:
        raise EngineMismatchError("does not reproduce its golden clips")

    engine = FakeEngine(fault=fault)

    async def test(scheduler: Scheduler) -> None:
        found = await outcomes(scheduler.submit_generation([clip(1)] * 3, plan()))
        assert all(isinstance(one, ModelNotReadyError) for one in found)
        assert engine.order == ["s"]

    scheduled(engine, test)


def test_closing_finishes_the_texts_that_were_admitted() -> None:
    engine = FakeEngine(step_seconds=0.001)

    async def test(scheduler: Scheduler) -> None:
        jobs = scheduler.submit_generation([clip(1, 20), clip(9, 5)], plan())
        await steps(engine, 2)
        await scheduler.close()
        assert words([job.future.result() for job in jobs]) == [20, 5]

    scheduled(engine, test)


def test_a_step_costs_little_beside_the_engines_own_time() -> None:
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        [job] = scheduler.submit_generation([clip(1, 400)], plan())
        started = time.process_time()  # not of the clock: what else the host does is not counted
        await job.future
        taken = time.process_time() - started
        started = time.process_time()
        sum(range(400 * 20_000))  # 0.2 ms each, on the machine where a step takes 0.5, half of them for the search
        assert taken < 10 * (time.process_time() - started)

    scheduled(engine, test)


def test_random_cancellations_leave_every_survivor_its_own_text() -> None:
    generator = np.random.default_rng(0)
    engine = FakeEngine()

    async def test(scheduler: Scheduler) -> None:
        jobs: list[GenerationJob] = []
        for _ in range(80):
            length, value = generator.uniform(0.1, 8), int(generator.integers(25))
            jobs += scheduler.submit_generation([clip(length, value)], plan())
            if generator.random() < 0.3:
                jobs[generator.integers(len(jobs))].future.cancel()
            if generator.random() < 0.2:
                await asyncio.sleep(0.001)
        for job in jobs:
            if not job.future.cancelled():
                assert words([await job.future]) == [int(job.clip[0])]

    scheduled(engine, test)
