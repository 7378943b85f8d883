import asyncio
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.errors import EngineFailedError
from server.scheduling.jobs import AnyJob, BatchJob, GenerationJob, form_batch
from tests.server.scheduling.fakes import RATE, clip, plan


def nobody() -> asyncio.Future[Any]:
    loop = asyncio.new_event_loop()
    loop.close()
    return asyncio.Future(loop=loop)


def jobs_of(seconds: Iterable[float], graph: str = "main") -> list[BatchJob]:
    return [BatchJob(clip(one), nobody(), frozenset({"a"}), graph) for one in seconds]


def lengths_of(batch: Iterable[AnyJob]) -> list[float]:
    return [job.samples / RATE for job in batch]


def test_the_oldest_takes_those_nearest_to_it_in_length() -> None:
    waiting = jobs_of([2.0, 9.0, 2.1, 0.5, 1.9, 2.2])
    assert lengths_of(form_batch(waiting, 7 * RATE, 0.2)) == [2.0, 2.1, 1.9]


def test_a_clip_that_does_not_fit_does_not_keep_out_one_that_does() -> None:
    waiting = jobs_of([2.0, 2.3, 1.6])
    assert lengths_of(form_batch(waiting, 4 * RATE, 0.2)) == [2.0, 1.6]


def test_padding_is_limited() -> None:
    assert lengths_of(form_batch(jobs_of([2.0, 1.0]), 100 * RATE, 0.2)) == [2.0]
    assert lengths_of(form_batch(jobs_of([2.0, 1.3]), 100 * RATE, 0.2)) == [2.0, 1.3]


def test_the_oldest_goes_even_if_it_exceeds_the_budget() -> None:
    assert lengths_of(form_batch(jobs_of([50.0, 1.0]), 10 * RATE, 0.2)) == [50.0]


def test_a_batch_has_one_graph() -> None:
    waiting = jobs_of([1.0]) + jobs_of([1.0], "other") + jobs_of([1.0])
    assert [job.graph for job in form_batch(waiting, 10 * RATE, 0.2)] == ["main", "main"]


@given(st.lists(st.floats(0.1, 20), min_size=1, max_size=60).map(jobs_of), st.floats(1, 100), st.floats(0, 0.9))
def test_every_batch_keeps_the_limits(waiting: list[BatchJob], budget_seconds: float, max_padding: float) -> None:
    batch = form_batch(waiting, budget_seconds * RATE, max_padding)
    assert batch[0] is waiting[0]
    assert len(set(batch)) == len(batch)
    if len(batch) > 1:
        padded = max(job.samples for job in batch) * len(batch)
        assert padded <= budget_seconds * RATE
        assert 1 - sum(job.samples for job in batch) / padded <= max_padding + 1e-9


def test_texts_of_one_number_of_beams_go_together() -> None:
    jobs = [GenerationJob(clip(1), nobody(), plan(beams)) for beams in (1, 4, 1)]
    waiting: list[AnyJob] = [jobs[0], *jobs_of([1.0], "main"), *jobs[1:]]
    assert form_batch(waiting, 10 * RATE, 0.2) == [jobs[0], jobs[2]]


def test_a_job_that_must_be_alone_is() -> None:
    waiting = jobs_of([1.0, 1.0, 1.0])
    waiting[1].alone = True
    assert form_batch(waiting, 10 * RATE, 0.2) == [waiting[0], waiting[2]]
    assert form_batch(waiting[1:], 10 * RATE, 0.2) == [waiting[1]]


def test_an_outcome_that_nobody_waits_for() -> None:
    async def run() -> None:
        left, stays = (BatchJob(clip(1), asyncio.Future(), frozenset({"a"}), "main") for _ in range(2))
        left.future.cancel()
        for job in (left, stays):
            job.settle(EngineFailedError("it failed"))
        assert left.future.cancelled()
        assert isinstance(stays.future.result(), EngineFailedError)

    asyncio.run(run())
