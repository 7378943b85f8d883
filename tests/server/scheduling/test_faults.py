import asyncio

import pytest
from prometheus_client import REGISTRY

from engines.errors import EngineMismatchError, OutOfMemoryError
from server.errors import EngineFailedError, EngineMemoryError, ModelNotReadyError
from server.scheduling.faults import RECOVERY_BATCHES, SUSPICIOUS, Faults
from server.scheduling.jobs import BatchJob
from server.scheduling.queue import Queue
from server.scheduling.throughput import Throughput
from tests.server.scheduling.fakes import RATE, clip


def made(count: int) -> tuple[Faults, Queue, list[BatchJob]]:
    queue = Queue("faulty", RATE, Throughput(1))
    return Faults("faulty", queue), queue, [BatchJob(clip(2), asyncio.Future(), frozenset({"a"})) for _ in range(count)]


def failures(reason: str) -> float:
    return REGISTRY.get_sample_value("sonant_batch_failures_total", {"model": "faulty", "reason": reason}) or 0


def test_a_batch_that_fails_is_put_back_by_halves() -> None:
    async def run() -> None:
        faults, queue, jobs = made(5)
        before = failures("raised")
        faults.retry(jobs, RuntimeError("no"), is_sole=False, has_company=False)
        assert queue.next_again() == jobs[:2]
        queue.take_again()
        assert queue.next_again() == jobs[2:]
        assert failures("raised") == before + 1

    asyncio.run(run())


def test_what_was_never_with_others_fails() -> None:
    async def run() -> None:
        for error, meaning in (
            (RuntimeError("no"), EngineFailedError),
            (OutOfMemoryError("no"), EngineMemoryError),
            (EngineMismatchError("no"), ModelNotReadyError),
        ):
            faults, queue, [job] = made(1)
            faults.retry([job], error, is_sole=True, has_company=False)
            assert type(job.future.result()) is meaning
            assert queue.next_again() == []

    asyncio.run(run())


def test_one_that_is_left_of_several_is_tried_alone() -> None:
    async def run() -> None:
        faults, queue, [job] = made(1)
        faults.retry([job], RuntimeError("no"), is_sole=False, has_company=False)
        assert queue.next_again() == [job]

    asyncio.run(run())


def test_while_memory_is_short_batches_are_halved() -> None:
    async def run() -> None:
        faults, _, jobs = made(4)
        before = failures("out_of_memory")
        faults.retry(jobs, OutOfMemoryError("no"), is_sole=False, has_company=False)
        assert faults.max_samples == 4 * RATE
        for _ in range(RECOVERY_BATCHES):
            faults.recovered()
        assert faults.max_samples == 8 * RATE
        assert failures("out_of_memory") == before + 1

    asyncio.run(run())


def test_a_larger_batch_that_fails_later_does_not_raise_the_limit() -> None:
    async def run() -> None:
        faults, _, jobs = made(8)
        faults.retry(jobs[:2], OutOfMemoryError("no"), is_sole=False, has_company=False)
        faults.retry(jobs, OutOfMemoryError("no"), is_sole=False, has_company=False)
        assert faults.max_samples == 2 * RATE

    asyncio.run(run())


def test_a_clip_whose_neighbours_had_the_memory_is_tried_with_all_of_it() -> None:
    async def run() -> None:
        faults, queue, [job] = made(1)
        faults.retry([job], OutOfMemoryError("no"), is_sole=True, has_company=True)
        assert queue.next_again() == [job]
        assert job.needs_all_memory
        faults.retry([job], OutOfMemoryError("no"), is_sole=True, has_company=False)
        assert isinstance(job.future.result(), EngineMemoryError)

    asyncio.run(run())


def test_single_clips_that_fail_in_a_row_are_suspicious() -> None:
    async def run() -> None:
        faults, _, jobs = made(SUSPICIOUS + 1)
        for job in jobs[1:]:
            assert not faults.is_suspicious
            faults.retry([job], RuntimeError("no"), is_sole=True, has_company=False)
        assert faults.is_suspicious
        faults.recovered()
        assert not faults.is_suspicious

    asyncio.run(run())


def test_where_an_error_came_from_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        faults, _, jobs = made(2)
        faults.retry(jobs, RuntimeError("no"), is_sole=False, has_company=False)
        faults.retry(jobs[:1], RuntimeError("no"), is_sole=True, has_company=False)
        assert [bool(record.exc_info) for record in caplog.records] == [True, False]

    asyncio.run(run())
