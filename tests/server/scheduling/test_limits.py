import pytest

from server.scheduling.limits import Limits


def test_the_audio_that_costs_as_much_as_a_batch_of_its_own() -> None:
    limits = Limits(100, 10, 0.1, 8, fixed_seconds=0.02, seconds_per_second=0.01)
    assert limits.spare_seconds == pytest.approx(2)
    assert Limits(100, 10, 0.1, 8).spare_seconds == 0
