import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from server.scheduling.admission import SHARE, Admission
from server.scheduling.jobs import BatchJob
from tests.server.scheduling.fakes import Clock


def submit(admission: Admission, seconds: float) -> BatchJob:
    job = BatchJob(np.zeros(1, np.float32), asyncio.get_running_loop().create_future(), frozenset())
    admission.submit(job, seconds)
    return job


def looped(test: Callable[[], None]) -> None:
    async def run() -> None:
        test()

    asyncio.run(run())


def test_each_job_is_due_when_those_before_it_would_be_done(clock: Clock) -> None:
    def test() -> None:
        admission = Admission(1000.0)
        first, *others = [submit(admission, 200.0).due for _ in range(3)]
        assert [due - first for due in others] == pytest.approx([200, 400])
        assert admission.seconds == 400
        assert admission.ahead(admission.due + 3) == pytest.approx(3)
        assert admission.ahead(admission.due + 3000) == 400
        assert admission.ahead(first) == 0

    looped(test)


def test_one_that_is_late_has_its_share(clock: Clock) -> None:
    def test() -> None:
        now = clock()
        admission = Admission(1000.0, now - 100)
        assert submit(admission, 2.0).due >= now  # nothing of it was held up
        admission.due_at, admission._latest = now - 100, now - 90  # the engine is late, since the job still waits
        assert admission.ahead(now + 3) == pytest.approx(3 + 90 * SHARE)
        assert [submit(admission, 2.0).due - now for _ in range(3)] == pytest.approx([-90, -82, -74])

    looped(test)


def test_who_holds_back_his_jobs_saves_up_no_time(clock: Clock) -> None:
    def test() -> None:
        now = clock()
        admission = Admission(1000.0)
        waits = submit(admission, 2.0)
        admission.due_at, admission._latest = now - 100, now - 90
        waits.future.cancel()
        assert admission.due >= now
        assert admission.ahead(now + 3) <= 3

    looped(test)


def test_a_prediction_that_was_too_low_leaves_nothing_negative() -> None:
    def test() -> None:
        admission = Admission(1.0)
        submit(admission, 2.0)
        assert admission.seconds == 0
        assert admission.ahead(admission.due + 1) == 0

    looped(test)
