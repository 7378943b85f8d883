import asyncio

from server.errors import EngineFailedError
from server.scheduling.jobs import BatchJob
from tests.server.scheduling.fakes import clip


def test_an_outcome_that_nobody_waits_for() -> None:
    async def run() -> None:
        left, stays = (BatchJob(clip(1), asyncio.Future(), frozenset({"a"})) for _ in range(2))
        left.future.cancel()
        for job in (left, stays):
            job.settle(EngineFailedError("it failed"))
        assert left.future.cancelled()
        assert isinstance(stays.future.result(), EngineFailedError)

    asyncio.run(run())
