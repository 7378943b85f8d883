import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.scheduling.batches import Batch, Room, form_batch, halves
from server.scheduling.jobs import AnyJob, BatchJob, GenerationJob
from tests.server.scheduling.fakes import RATE, clip, plan


def nobody() -> asyncio.Future[Any]:
    loop = asyncio.new_event_loop()
    loop.close()
    return asyncio.Future(loop=loop)


LAYERS = 12


def jobs_of(seconds: Iterable[float], layers: int = LAYERS) -> list[BatchJob]:
    return [BatchJob(clip(one), nobody(), frozenset({"a"}), layers, LAYERS) for one in seconds]


def room(seconds: float, max_padding: float = 0.2, max_rows: int = 1000, spare_seconds: float = 0.0) -> Room:
    return Room(seconds * RATE, max_padding, lambda samples: max_rows, spare_seconds * RATE * LAYERS)


def lengths_of(batch: Iterable[AnyJob]) -> list[float]:
    return [job.samples / RATE for job in batch]


def test_the_oldest_takes_those_nearest_to_it_in_length() -> None:
    waiting = jobs_of([2.0, 9.0, 2.1, 0.5, 1.9, 2.2])
    assert lengths_of(form_batch(waiting, room(7))) == [2.0, 2.1, 1.9]


def test_a_clip_that_does_not_fit_does_not_keep_out_one_that_does() -> None:
    waiting = jobs_of([2.0, 2.3, 1.6])
    assert lengths_of(form_batch(waiting, room(4))) == [2.0, 1.6]


def test_padding_is_limited() -> None:
    assert lengths_of(form_batch(jobs_of([2.0, 1.0]), room(100))) == [2.0]
    assert lengths_of(form_batch(jobs_of([2.0, 1.3]), room(100))) == [2.0, 1.3]


def test_the_oldest_goes_even_if_it_exceeds_the_budget() -> None:
    assert lengths_of(form_batch(jobs_of([50.0, 1.0]), room(10))) == [50.0]


def test_clips_of_other_layers_share_a_batch_where_that_is_cheaper() -> None:
    waiting = jobs_of([2.0]) + jobs_of([2.0], 6) + jobs_of([2.0])
    assert [job.layers for job in form_batch(waiting, room(10))] == [12, 12]
    # Half of the layers on 2 s cost as much as all of them on 1 s.
    assert [job.layers for job in form_batch(waiting, room(10, spare_seconds=1))] == [12, 6, 12]
    assert [job.layers for job in form_batch(waiting, room(10, spare_seconds=0.9))] == [12, 12]
    # Also where the first is the one that runs more layers than it needs; two of it waste twice as much.
    assert [job.layers for job in form_batch(waiting[1:], room(10, spare_seconds=1))] == [6, 12]
    waiting = jobs_of([2.0, 2.0], 6) + jobs_of([2.0])
    assert [job.layers for job in form_batch(waiting, room(10, spare_seconds=1))] == [6, 6]


@pytest.mark.parametrize("layers", range(1, LAYERS + 1))
def test_clips_of_the_same_layers_always_share_a_batch(layers: int) -> None:
    assert len(form_batch(jobs_of([1.0] * 64, layers), room(100))) == 64


def test_the_rows_of_a_length_are_limited() -> None:
    quadratic = Room(1000 * RATE, 0.2, lambda samples: round(64 / (samples / RATE) ** 2))
    assert len(form_batch(jobs_of([2.0] * 20), quadratic)) == 16
    assert len(form_batch(jobs_of([4.0] * 20), quadratic)) == 4
    assert len(form_batch(jobs_of([20.0] * 20), quadratic)) == 1


@given(st.lists(st.floats(0.1, 20), min_size=1, max_size=60).map(jobs_of), st.floats(1, 100), st.floats(0, 0.9))
def test_every_batch_keeps_the_limits(waiting: list[BatchJob], budget_seconds: float, max_padding: float) -> None:
    batch = form_batch(waiting, room(budget_seconds, max_padding))
    assert batch[0] is waiting[0]
    assert len(set(batch)) == len(batch)
    if len(batch) > 1:
        padded = max(job.samples for job in batch) * len(batch)
        assert padded <= budget_seconds * RATE
        assert 1 - sum(job.samples for job in batch) / padded <= max_padding + 1e-9


def test_texts_of_one_number_of_beams_go_together() -> None:
    jobs = [GenerationJob(clip(1), nobody(), plan(beams)) for beams in (1, 4, 1)]
    waiting: list[AnyJob] = [jobs[0], *jobs_of([1.0]), *jobs[1:]]
    assert form_batch(waiting, room(10)) == [jobs[0], jobs[2]]


def test_halves_are_the_shorter_and_the_longer_clips() -> None:
    shorter, longer = halves(jobs_of([3.0, 1.0, 5.0, 2.0, 4.0]))
    assert (lengths_of(shorter), lengths_of(longer)) == ([1.0, 2.0], [3.0, 4.0, 5.0])


def test_a_batch_in_sum() -> None:
    batch = Batch.of([*jobs_of([1.0, 3.0]), *jobs_of([2.0], 3)])
    assert batch == Batch(3, 3 * RATE, 6 * RATE, 12, 27)
    assert batch.padded == 9 * RATE
