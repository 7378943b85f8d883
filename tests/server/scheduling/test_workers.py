import asyncio
import threading
import time

import pytest

from server.scheduling.workers import PATIENCE, Workers


def test_as_many_calls_at_a_time_as_there_are_threads() -> None:
    async def run() -> None:
        workers = Workers("counted", 1)
        together = threading.Barrier(3)
        workers.resize(3)
        waits = [workers.call(lambda: together.wait(20)) for _ in range(3)]
        assert sorted(await asyncio.gather(*waits)) == [0, 1, 2]
        workers.close()

    asyncio.run(run())


def test_a_call_that_runs_goes_on_while_the_number_changes() -> None:
    async def run() -> None:
        workers = Workers("counted", 1)
        gate = threading.Event()
        call = asyncio.create_task(workers.call(lambda: gate.wait(20)))
        await asyncio.sleep(0)
        workers.resize(2)
        assert await workers.call(lambda: "new") == "new"
        gate.set()
        assert await call
        workers.close()

    asyncio.run(run())


def test_the_watchdog_is_told_once_of_a_call_that_does_not_come_back() -> None:
    async def run() -> None:
        workers, told = Workers("watched", 1), list[float]()
        result, seconds = await workers.watched(lambda: "quick", 0.2, 0, told.append)
        assert result == "quick"
        assert 0 <= seconds < 0.2
        await asyncio.sleep(0.3)
        assert told == []
        gate = threading.Event()
        call = asyncio.create_task(workers.watched(lambda: gate.wait(20), 0.05, 0, told.append))
        while not told:  # noqa: ASYNC110  # it comes from a timer
            await asyncio.sleep(0.01)
        gate.set()
        await call
        assert told == [0.05]
        workers.close()

    asyncio.run(run())


def test_a_pause_of_the_process_is_not_a_call_that_hangs() -> None:
    async def run() -> None:
        workers, told = Workers("paused", 1), list[float]()
        gate = threading.Event()
        call = asyncio.create_task(workers.watched(lambda: gate.wait(60), 0.6, 0, told.append))
        await asyncio.sleep(0.01)
        time.sleep(0.7)  # noqa: ASYNC251  # as if the process had been stopped
        await asyncio.sleep(0.1)
        assert told == []
        gate.set()
        await call
        workers.close()

    asyncio.run(run())


def test_it_is_patient_with_what_is_expected_to_take_long() -> None:
    async def run() -> None:
        workers, told = Workers("watched", 1), list[float]()
        await workers.watched(lambda: time.sleep(0.1), 0.01, 10 / PATIENCE, told.append)
        assert told == []
        with pytest.raises(ZeroDivisionError):
            await workers.watched(lambda: 1 // 0, 0.01, 0, told.append)
        workers.close()

    asyncio.run(run())
