import pytest

from server.scheduling.jobs import BatchJob, GenerationJob
from server.scheduling.throughput import Throughput
from tests.server.scheduling.fakes import RATE, clip, plan
from tests.server.scheduling.test_batches import nobody


def run(seconds: float, needed: int = 1, there: int = 1) -> BatchJob:
    return BatchJob(clip(seconds), nobody(), frozenset({"a"}), needed, there)


def test_nothing_is_known_at_first() -> None:
    assert Throughput(1).seconds([run(100)]) == 0


def test_what_is_known_beforehand_counts_until_it_is_measured() -> None:
    throughput = Throughput(1, seconds_per_sample=0.5 / RATE)
    assert throughput.seconds([run(10)]) == pytest.approx(5)
    throughput.measure("run", 10 * RATE, 10)
    assert throughput.seconds([run(10)]) == pytest.approx(10, rel=0.01)


def test_workers_share_the_work() -> None:
    throughput = Throughput(2)
    throughput.measure("run", RATE, 1)
    assert throughput.seconds([run(4), run(2)]) == pytest.approx(3)
    assert throughput.alone([run(4), run(2)]) == pytest.approx(6)


def test_fast_batches_do_not_hide_slow_ones() -> None:
    throughput = Throughput(1)
    throughput.measure("run", RATE, 10)
    throughput.measure("run", RATE, 0.001)
    assert throughput.seconds([run(1)]) > 4


def test_few_layers_are_less_work() -> None:
    throughput = Throughput(1)
    throughput.measure("run", run(8, 3, 12).work, 1)
    assert throughput.seconds([run(2)]) == pytest.approx(1)


def test_texts_take_their_own_time() -> None:
    throughput = Throughput(1)
    throughput.measure("run", RATE, 1)
    text = GenerationJob(clip(2), nobody(), plan())
    assert throughput.seconds([text]) == 0
    throughput.measure("write", RATE, 5)
    assert throughput.seconds([text, run(1)]) == pytest.approx(11)


def test_what_is_measured_later_replaces_what_was_known() -> None:
    throughput = Throughput(1, seconds_per_sample=0.5 / RATE)
    throughput.know(0.0)
    assert throughput.seconds([run(10)]) == pytest.approx(5)
    throughput.know(0.25 / RATE)
    assert throughput.seconds([run(10)]) == pytest.approx(2.5)
