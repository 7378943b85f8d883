import asyncio
import math
import time
from collections.abc import Iterable

import pytest
from prometheus_client import REGISTRY

from server.errors import QueueFullError, WaitTooLongError
from server.scheduling.jobs import AnyJob, BatchJob
from server.scheduling.queue import Queue, Throughput
from tests.server.scheduling.fakes import RATE, clip
from tests.server.scheduling.test_batches import nobody


def jobs_of(*seconds: float) -> list[BatchJob]:
    return [BatchJob(clip(one), nobody(), frozenset({"a"})) for one in seconds]


def queue_of(jobs: Iterable[BatchJob] = (), audio_per_second: float = 0.0, workers: int = 1) -> Queue:
    queue = Queue("queued", RATE, Throughput(workers, audio_per_second * RATE))
    queue.add(list(jobs))
    return queue


def soon(seconds: float) -> float:
    return time.perf_counter() + seconds


def test_throughput_is_measured_and_of_all_workers() -> None:
    throughput = Throughput(workers=2)
    assert throughput.seconds(1000) == 0
    throughput.measure(100, 2.0)
    assert throughput.seconds(100) == 1.0
    throughput.measure(200, 2.0)  # one fifth of the mean is the newest
    assert throughput.seconds(120) == 1.0


def test_a_full_queue() -> None:
    queue = queue_of(jobs_of(6), audio_per_second=2)
    queue.check(4 * RATE, 0, limit_seconds=10, deadline=math.inf)
    with pytest.raises(QueueFullError, match="6 s of audio wait, 10 s is the limit") as caught:
        queue.check(5 * RATE, 4 * RATE, limit_seconds=10, deadline=math.inf)
    assert caught.value.retry_after == 5  # 6 s that wait and 4 s that run, at 2 s a second
    assert caught.value.code == "queue_full"


def test_an_empty_queue_takes_anything() -> None:
    queue_of(audio_per_second=2).check(100 * RATE, 0, limit_seconds=10, deadline=soon(1))


def test_a_wait_beyond_the_deadline_is_refused_with_the_time_until_it_is_not() -> None:
    queue = queue_of(jobs_of(4, 4), audio_per_second=2, workers=2)
    queue.check(2 * RATE, 2 * RATE, limit_seconds=100, deadline=soon(4))  # 12 s at 4 s a second
    with pytest.raises(WaitTooLongError) as caught:
        queue.check(2 * RATE, 2 * RATE, limit_seconds=100, deadline=soon(1.3))
    assert caught.value.retry_after == 2  # 3 s of work, and 0.8 x 1.3 s there
    assert caught.value.code == "wait_too_long"
    queue_of(jobs_of(100)).check(RATE, 0, limit_seconds=1000, deadline=soon(0.01))  # nothing is known


def test_the_cancelled_make_room_and_are_forgotten() -> None:
    async def run() -> None:
        jobs = [BatchJob(clip(5), asyncio.Future(), frozenset({"a"})) for _ in range(2)]
        queue = queue_of(jobs)
        jobs[0].future.cancel()
        queue.check(5 * RATE, 0, limit_seconds=10, deadline=math.inf)
        assert queue.waiting == jobs[1:]
        assert REGISTRY.get_sample_value("sonant_queue_audio_seconds", {"model": "queued"}) == 5

    asyncio.run(run())


def test_what_must_run_again_does_so_in_its_parts_and_first() -> None:
    async def run() -> None:
        jobs: list[AnyJob] = [BatchJob(clip(1), asyncio.Future(), frozenset({"a"})) for _ in range(4)]
        queue = queue_of()
        queue.put_back([jobs[:1], jobs[1:3]])
        queue.put_back([jobs[3:]])
        assert queue.samples == 4 * RATE
        jobs[0].future.cancel()
        jobs[2].future.cancel()
        assert queue.next_again() == [jobs[3]]
        queue.take_again()
        assert queue.next_again() == [jobs[1]]
        queue.take_again()
        assert queue.next_again() == []

    asyncio.run(run())


def test_a_long_request_is_due_piece_by_piece() -> None:
    long = jobs_of(10, 10, 10)
    queue = queue_of(long, audio_per_second=1000)
    [between] = jobs_of(1)
    between.due = long[1].due + 0.005
    queue.add([between])
    assert queue.waiting == [long[0], long[1], between, long[2]]
    assert queue.clear() == [long[0], long[1], between, long[2]]
    assert queue.samples == 0
