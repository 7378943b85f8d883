"""Windows and loops on a made-up server, in time that passes only where something waits for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from benchmarks.load.adapters.raw import Raw
from benchmarks.load.client import TIMED_OUT, Answer, Request
from benchmarks.load.drive import Sample
from benchmarks.load.meter import Spent
from benchmarks.load.session import Look, Measured, Session
from benchmarks.load.stability import LAST, Rule, Window
from benchmarks.policy import virtual

RULE = Rule(window=10.0, requests=1, windows=6, timeout=30.0, checked=4)
ANSWER = Answer(200, {}, json.dumps({"embedding": [1.0, -2.0]}).encode())
BUSY = Answer(429, {}, b"")


@dataclass
class Server:
    """Takes `seconds` for a request, `workers` at a time; more than `queue` are refused. `answer` says what comes."""

    seconds: Callable[[int], float]  # of the number of the request
    workers: int = 1
    queue: int = 1_000_000
    answer: Callable[[int], Answer] = lambda number: ANSWER
    timeout: float = RULE.timeout
    times: list[float] = field(default_factory=list)  # at which it was asked
    waiting: int = 0

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.workers)

    async def ask(self, request: Request) -> Answer:
        number = len(self.times)
        self.times.append(asyncio.get_running_loop().time())
        if self.waiting >= self.queue:
            return BUSY
        self.waiting += 1
        try:
            async with asyncio.timeout(self.timeout), self._free:
                await asyncio.sleep(self.seconds(number))
        except TimeoutError:
            return TIMED_OUT
        finally:
            self.waiting -= 1
        return self.answer(number)


def measure(server: Server, loop: Callable[[Session], Awaitable[Measured]], rule: Rule = RULE) -> Measured:
    """Ask for clips of 1 s, with an objective of 2 s."""

    async def look() -> Look:
        now = asyncio.get_running_loop().time()
        return Look(
            Spent(now, 0.5 * now, 0.1 * now),
            {
                "sonant_batch_clips_count": now,
                "sonant_batch_clips_sum": now,
                "sonant_batch_padding_ratio_sum": 0.25 * now,
            },
        )

    async def session() -> Measured:
        asked = [Request.post("/", b"", 1.0, {}) for _ in range(6)]
        now = asyncio.get_running_loop().time
        one = Session(Raw(), asked, server.ask, look, rule, 2.0, now=now)
        await one.begin({index: np.array([1.0, -2.0], np.float32) for index in range(4)})
        return await loop(one)

    return virtual.run(virtual.Loop(), session())


def test_a_closed_loop_is_as_fast_as_the_server() -> None:
    figures = measure(Server(lambda number: 0.5), lambda session: session.closed(3)).figures
    assert figures.stable
    assert figures.windows == LAST
    assert figures.seconds == pytest.approx(30)
    assert figures.requests == pytest.approx(60, abs=1)
    assert figures.goodput == figures.throughput == pytest.approx(2, rel=0.02)  # clips of 1 s
    assert figures.latency.p50_ms == pytest.approx(1500)
    assert figures.within == 1
    assert (figures.load.server_cores, figures.load.generator_cores) == pytest.approx((0.5, 0.1))
    assert figures.batching is not None
    assert figures.batching.padded_share == pytest.approx(0.25)
    assert figures.error == 0
    assert figures.checked > 40


def test_what_comes_too_late_is_no_goodput() -> None:
    figures = measure(Server(lambda number: 0.5), lambda session: session.closed(5)).figures
    assert figures.latency.p50_ms == pytest.approx(2500)
    assert (figures.goodput, figures.within) == (0, 0)
    assert figures.throughput == pytest.approx(2, rel=0.02)
    assert not figures.meets


def test_a_server_that_slows_down_is_not_stable() -> None:
    figures = measure(Server(lambda number: 0.1 * 1.01**number), lambda session: session.closed(1)).figures
    assert not figures.stable
    assert figures.windows == RULE.windows


def test_warming_up_does_not_count() -> None:
    figures = measure(Server(lambda number: 4.0 if number == 0 else 0.1), lambda session: session.closed(1)).figures
    assert figures.stable
    assert figures.latency.p99_ms == pytest.approx(100)


def test_a_window_waits_for_its_requests_but_not_forever() -> None:
    rule = Rule(window=10.0, requests=8, longest=3.0, windows=3)
    assert measure(Server(lambda number: 2.0), lambda one: one.closed(1), rule).figures.seconds == pytest.approx(48)
    assert measure(Server(lambda number: 9.0), lambda one: one.closed(1), rule).figures.seconds == pytest.approx(90)


def test_the_open_loop_offers_what_was_asked_for() -> None:
    server = Server(lambda number: 0.1, workers=1000)
    figures = measure(server, lambda session: session.open_(20.0, seed=3)).figures
    assert figures.stable
    assert figures.requests == 3 * 200
    assert figures.offered == figures.offered_audio == pytest.approx(20)
    assert figures.goodput == pytest.approx(figures.offered_audio)
    assert figures.latency.p50_ms == figures.latency.p99_ms == pytest.approx(100)
    assert figures.meets
    windows = np.array(server.times[:800]).reshape(4, 200)
    assert np.allclose(np.diff(windows, axis=0), 10)  # each has the same arrivals,
    gaps = np.diff(windows[0])
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.2)  # which are those of a Poisson process


def test_an_overloaded_server_that_refuses_keeps_its_goodput() -> None:
    server = Server(lambda number: 0.1, queue=5)
    figures = measure(server, lambda session: session.open_(30.0, seed=0)).figures
    assert figures.stable
    assert figures.offered_audio == pytest.approx(30)
    assert figures.goodput == pytest.approx(10, rel=0.05)
    assert figures.refused == figures.statuses[429] == figures.requests - figures.statuses[200]
    assert figures.latency.p99_ms < 501
    assert not figures.meets


def test_an_overloaded_server_that_queues_is_not_stable_and_nothing_is_left_out() -> None:
    figures = measure(Server(lambda number: 0.1), lambda session: session.open_(15.0, seed=0)).figures
    assert not figures.stable
    assert figures.requests == 3 * 150  # also those that were never answered
    assert figures.goodput == 0
    assert sum(figures.statuses.values()) == figures.requests


def test_latency_counts_from_when_a_request_was_to_be_sent() -> None:
    """One stall of 4 s in each window of 10 s, in which 40 % of the requests come: a waiting client would see one."""
    stalls = Server(lambda number: 4.0 if number % 100 == 50 else 0.0)
    figures = measure(stalls, lambda session: session.open_(10.0, seed=1)).figures
    assert 0.7 < figures.within < 0.85  # half of those that come in it wait for more than 2 s
    assert figures.latency.p95_ms > 3000
    assert figures.latency.p50_ms == pytest.approx(0, abs=1)


@pytest.mark.parametrize("loop", ["closed", "open"])
def test_a_request_without_an_answer_fails_and_nothing_hangs(loop: str) -> None:
    never = Server(lambda number: 1e9 if number % 10 == 0 else 0.1, workers=1000)
    run: Callable[[Session], Awaitable[Measured]] = (
        (lambda session: session.closed(4)) if loop == "closed" else lambda session: session.open_(2.0, seed=0)
    )
    figures = measure(never, run).figures
    assert figures.statuses[-1] == figures.failed > 0
    assert figures.within < 0.95


def test_who_still_waits_at_the_end_is_not_left_out() -> None:
    """Nobody is told no in the windows, but everybody who was there when they ended."""
    rule = Rule(window=2.0, requests=1, windows=3, timeout=30.0)
    figures = measure(
        Server(lambda number: 1e9 if number > 50 else 0.1), lambda session: session.closed(2), rule
    ).figures
    assert figures.statuses[-1] == 2
    assert figures.failed == 2


def test_an_answer_that_is_none_is_wrong() -> None:
    bad = Server(
        lambda number: 0.5, answer=lambda number: ANSWER if number % 2 else Answer(200, {}, b'{"embedding": []}')
    )
    figures = measure(bad, lambda session: session.closed(1)).figures
    assert figures.statuses == {200: figures.requests}
    assert figures.wrong == figures.failed == pytest.approx(figures.requests / 2, abs=1)
    assert figures.goodput == pytest.approx(1, rel=0.1)


def test_the_error_is_that_of_a_result_against_the_one_alone() -> None:
    other = Answer(200, {}, json.dumps({"embedding": [1.0, -2.5]}).encode())
    server = Server(lambda number: 0.5, answer=lambda number: other if number == 19 else ANSWER)  # the second of six
    measured = measure(server, lambda session: session.closed(1))
    assert measured.figures.error == pytest.approx(0.25)
    assert sorted(measured.results) == [0, 1, 2, 3]


def test_a_client_that_is_refused_does_not_ask_all_the_time() -> None:
    server = Server(lambda number: 0.1, queue=0)
    figures = measure(server, lambda session: session.closed(1)).figures
    assert len(server.times) < 10 * 70 + 10
    assert figures.refused == figures.requests > 0
    assert np.isnan(figures.latency.p50_ms)


def test_a_request_that_is_alone_must_have_a_result() -> None:
    async def none() -> Look:
        raise NotImplementedError

    for answer, words in ((BUSY, "the status 429"), (Answer(200, {}, b"{}"), "not as expected")):
        server = Server(lambda number: 0.0, answer=lambda number, answer=answer: answer)  # type: ignore[misc]
        session = Session(Raw(), [Request.post("/", b"", 1.0, {})], server.ask, none, RULE, 1.0)
        with pytest.raises(ValueError, match=words):
            virtual.run(virtual.Loop(), session.begin())


@pytest.mark.parametrize(
    ("throughputs", "latencies", "expected"),
    [
        ([1.0, 1.0], [1.0, 1.0], False),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], True),
        ([9.0, 1.0, 1.05, 0.95], [9.0, 1.0, 1.05, 0.95], True),
        ([1.0, 1.0, 1.3], [1.0, 1.0, 1.0], False),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.3], False),
        ([0.0, 0.0, 0.0], [float("nan")] * 3, False),
    ],
)
def test_three_windows_must_agree(throughputs: list[float], latencies: list[float], *, expected: bool) -> None:
    assert Rule(within=0.1).is_met([Window(*both) for both in zip(throughputs, latencies, strict=True)]) is expected


def test_a_window_has_what_ended_in_it_well() -> None:
    samples = [
        Sample(0.0, 4.0, 200, 3.0, {}, good=True),  # before it
        Sample(0.0, 5.0, 200, 2.0, {}, good=True),
        Sample(5.0, 8.0, 200, 4.0, {}, good=True),
        Sample(5.0, 8.0, 200, 4.0, {}, good=False),
        Sample(5.0, 9.0, 200, 9.0, {}, good=True),  # after it
    ]
    assert Window.of(samples, 5.0, 9.0) == Window(throughput=1.5, latency=4.0)
    assert np.isnan(Window.of(samples, 20.0, 21.0).latency)


def test_a_rule_must_end() -> None:
    with pytest.raises(ValueError, match="at least 3 windows"):
        Rule(windows=2)
    with pytest.raises(ValueError, match="longer than 0"):
        Rule(window=0.0)
    assert Rule(window=10.0, requests=30).seconds(rate=100.0) == 10
    assert Rule(window=10.0, requests=30).seconds(rate=1.0) == 30
    assert Rule(window=10.0, requests=30, longest=5.0).seconds(rate=0.1) == 50
