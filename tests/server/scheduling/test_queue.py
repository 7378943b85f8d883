import asyncio
import math
from collections.abc import Iterable

import pytest
from prometheus_client import REGISTRY

from server.errors import QueueFullError, WaitTooLongError
from server.scheduling.jobs import AnyJob, BatchJob
from server.scheduling.queue import MAX_JOBS, Queue
from server.scheduling.throughput import Throughput
from tests.server.scheduling.fakes import RATE, Clock, clip
from tests.server.scheduling.test_batches import nobody


def jobs_of(*seconds: float) -> list[BatchJob]:
    return [BatchJob(clip(one), nobody(), frozenset({"a"})) for one in seconds]


def queue_of(jobs: Iterable[BatchJob] = (), audio_per_second: float = 0.0, workers: int = 1) -> Queue:
    per_sample = 1 / (audio_per_second * RATE) if audio_per_second else 0.0
    queue = Queue("queued", RATE, Throughput(workers, per_sample))
    queue.add(list(jobs))
    return queue


def test_a_full_queue() -> None:
    queue = queue_of(jobs_of(6), audio_per_second=2)
    queue.check(jobs_of(4), [], limit_seconds=10, deadline=math.inf)
    with pytest.raises(QueueFullError, match="6 s of audio wait, 10 s is the limit") as caught:
        queue.check(jobs_of(5), jobs_of(4), limit_seconds=10, deadline=math.inf)
    assert caught.value.retry_after == 5  # 6 s that wait and 4 s that run, at 2 s a second
    assert caught.value.code == "queue_full"


def test_too_many_clips() -> None:
    queue = queue_of(jobs_of(*[0.01] * (MAX_JOBS - 1)))
    queue.check(jobs_of(0.01), [], limit_seconds=1000, deadline=math.inf)
    with pytest.raises(QueueFullError, match="clips wait"):
        queue.check(jobs_of(0.01, 0.01), [], limit_seconds=1000, deadline=math.inf)


def test_an_engine_that_has_nothing_to_do_takes_anything(clock: Clock) -> None:
    queue_of(audio_per_second=2).check(jobs_of(100), [], limit_seconds=10, deadline=clock() + 1)


def test_a_wait_beyond_the_deadline_is_refused_with_the_time_until_it_is_not(clock: Clock) -> None:
    queue = queue_of(jobs_of(4, 4), audio_per_second=2, workers=2)
    queue.check(jobs_of(2), jobs_of(2), limit_seconds=100, deadline=clock() + 4)  # 12 s at 4 s a second
    with pytest.raises(WaitTooLongError) as caught:
        queue.check(jobs_of(6), jobs_of(2), limit_seconds=100, deadline=clock() + 1.3)
    assert caught.value.retry_after == 3  # 4 s of work, and 0.8 x 1.3 s there
    assert caught.value.code == "wait_too_long"
    queue_of(jobs_of(100)).check(jobs_of(1), [], limit_seconds=1000, deadline=clock() + 0.01)  # nothing is known


def test_the_windows_of_a_long_clip_keep_nobody_else_out(clock: Clock) -> None:
    queue = queue_of(jobs_of(*[30] * 60), audio_per_second=10)  # three minutes of work
    queue.check(jobs_of(3), [], limit_seconds=100, deadline=clock() + 10)  # it comes after the first of them
    queue.check([], [], limit_seconds=100, deadline=clock() + 10)
    with pytest.raises(WaitTooLongError):  # while another as long would have to share the time with it
        queue.check(jobs_of(*[30] * 60), [], limit_seconds=100, deadline=clock() + 200)


def test_the_cancelled_make_room_and_are_forgotten() -> None:
    async def run() -> None:
        jobs = [BatchJob(clip(5), asyncio.Future(), frozenset({"a"})) for _ in range(2)]
        queue = queue_of(jobs)
        jobs[0].future.cancel()
        queue.check(jobs_of(5), [], limit_seconds=10, deadline=math.inf)
        assert queue.waiting == jobs[1:]
        assert REGISTRY.get_sample_value("sonant_queue_audio_seconds", {"model": "queued"}) == 5

    asyncio.run(run())


def test_what_must_run_again_does_so_in_its_parts_and_first() -> None:
    async def run() -> None:
        jobs: list[AnyJob] = [BatchJob(clip(1), asyncio.Future(), frozenset({"a"})) for _ in range(4)]
        queue = queue_of()
        queue.put_back([jobs[:1], jobs[1:3]])
        queue.put_back([jobs[3:]])
        assert REGISTRY.get_sample_value("sonant_queue_audio_seconds", {"model": "queued"}) == 4
        jobs[0].future.cancel()
        jobs[2].future.cancel()
        assert queue.next_again() == [jobs[3]]
        queue.take_again()
        assert queue.next_again() == [jobs[1]]
        queue.take_again()
        assert queue.next_again() == []

    asyncio.run(run())


def test_a_long_request_is_due_piece_by_piece(clock: Clock) -> None:
    long = jobs_of(10, 10, 10)
    queue = queue_of(long, audio_per_second=1000)
    [between] = jobs_of(1)
    between.due = long[1].due + 0.005
    queue.add([between])
    assert queue.waiting == [long[0], long[1], between, long[2]]
    assert queue.clear() == [long[0], long[1], between, long[2]]
    assert not queue.waiting


def test_a_long_clip_that_is_late_does_not_go_before_those_who_came_meanwhile(clock: Clock) -> None:
    queue = queue_of(audio_per_second=10)
    with queue.admission(jobs_of(3600)) as admission:
        admission.due_at -= 100  # others have kept the engine busy
        queue.add(first := jobs_of(30), admission)
        queue.add(short := jobs_of(1))
        queue.add(second := jobs_of(30), admission)
        assert queue.waiting == [*first, *short, *second]


def test_what_waits_is_shown_though_another_queue_of_the_model_was_made_and_dropped() -> None:
    """As where an engine is loaded in another form, that does not work, beside the one that is served on."""

    def shown() -> float | None:
        return REGISTRY.get_sample_value("sonant_queue_audio_seconds", {"model": "queued"})

    served = queue_of(jobs_of(6))
    queue_of()
    served.add(jobs_of(2))
    assert shown() == 8
    served.clear()
    assert shown() == 0
