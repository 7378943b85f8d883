import asyncio

from prometheus_client import REGISTRY

from engines.errors import EngineMismatchError, OutOfMemoryError
from server.errors import EngineFailedError, EngineMemoryError, ModelNotReadyError
from server.scheduling.faults import RECOVERY_BATCHES, Faults
from server.scheduling.jobs import BatchJob
from server.scheduling.queue import Queue, Throughput
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
        faults.retry(jobs, RuntimeError("no"), is_sole=False)
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
            faults.retry([job], error, is_sole=True)
            assert type(job.future.result()) is meaning
            assert queue.next_again() == []

    asyncio.run(run())


def test_one_that_is_left_of_several_is_tried_alone() -> None:
    async def run() -> None:
        faults, queue, [job] = made(1)
        faults.retry([job], RuntimeError("no"), is_sole=False)
        assert queue.next_again() == [job]

    asyncio.run(run())


def test_while_memory_is_short_batches_are_halved() -> None:
    async def run() -> None:
        faults, queue, jobs = made(4)
        before = failures("out_of_memory")
        faults.retry(jobs, OutOfMemoryError("no"), is_sole=False)
        assert faults.max_samples == 4 * RATE
        assert queue.samples == 8 * RATE
        for _ in range(RECOVERY_BATCHES):
            faults.recovered()
        assert faults.max_samples == 8 * RATE
        assert failures("out_of_memory") == before + 1

    asyncio.run(run())
