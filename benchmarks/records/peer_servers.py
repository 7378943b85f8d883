"""What `sonant bench peers servers` writes: servers of the same work, in turns, with the error of what they answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from benchmarks.base import Model, Run, Table
from benchmarks.charts.chart import Bar, Bars, file_name
from benchmarks.findings import Finding, Promise
from benchmarks.records.load import Latencies, Load
from benchmarks.stats import Estimate, PairedRatio
from engines.verify import POLICY

# What is promised of the goodput in the closed loop, as Sonant's over another's: over the best of those that pad, over
# the same engine clip by clip, and over everyone as their documentation sets them up where Sonant may use the precision
# that the operator allows. And of Sonant's answers in fp32, against transformers on each clip alone.
PADDING_RATIO, CLIPS_RATIO, DOCUMENTED_RATIO = 1.3, 0.98, 2.0
EXACT_ERROR = POLICY["fp32"]
OK = 200

Role = Literal["sonant", "clips", "peer", "padding"]


class Server(Model):
    """One of them."""

    name: str
    about: str
    role: Role  # clips: our engine without our server; padding: a peer that makes batches
    reduced: bool  # it may use a lower precision
    computes: str = ""  # in what
    versions: dict[str, str] = Field(default_factory=dict)
    reason: str = ""  # why it was not asked, or not to the end


class Turn(Model):
    """One server, asked once in one way."""

    server: str
    load: str
    loop: Literal["closed", "open"]
    round: int
    ready_seconds: float  # from its start to its first answer
    seconds: float
    offered: float  # seconds of audio for each second
    goodput: float  # the same, of good answers; in the open loop of those within the objective
    within: float  # share of the requests that had one of these
    requests: int
    statuses: dict[int, int]  # 0: the connection broke, -1: no answer in time
    wrong: int  # with status 200 and no vector of that size
    latency: Latencies  # of good answers
    cores: Load
    padded_share: float | None  # of what was computed; None where the server does not say
    errors: tuple[float, float]  # the median and the largest, against transformers on the clip alone
    cosine: float  # the least

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return self.requests - self.statuses.get(OK, 0) + self.wrong


class PeerServers(Model):
    """Servers next to each other."""

    benchmark: Literal["peer-servers"] = "peer-servers"
    run: Run
    key: str  # what the figures hold for: a run of another does not go on with them
    clients: int
    clips: int
    objective: float  # seconds in which an answer is of use, in the open loop
    max_error: float  # that Sonant's reduced precision may have
    share: float  # of the goodput clip by clip, that is offered in the open loop
    loads: dict[str, str]  # name: what it is
    servers: tuple[Server, ...] = ()
    turns: tuple[Turn, ...] = ()

    @property
    def title(self) -> str:
        """A heading."""
        return f"Servers of {self.run.model}, {self.run.threads} thread{'s' * (self.run.threads > 1)} each"

    def of(self, server: str, load: str, loop: str = "closed") -> dict[int, Turn]:
        """Return the turns of a server by their round."""
        mine = (turn for turn in self.turns if (turn.server, turn.load, turn.loop) == (server, load, loop))
        return {turn.round: turn for turn in mine}

    def goodput(self, server: str, load: str) -> float:
        """Return the median over the rounds; 0 where there was none."""
        return float(np.median([turn.goodput for turn in self.of(server, load).values()] or [0.0]))

    def ratio(self, one: str, other: str, load: str) -> Estimate | None:
        """Return the goodput of one over that of another, round by round; None where that is nothing."""
        a, b = self.of(one, load), self.of(other, load)
        rounds = [each for each in a if each in b and b[each].goodput > 0]
        if not rounds:
            return None
        ours, theirs = (np.array([turns[each].goodput for each in rounds]) for turns in (a, b))
        return PairedRatio(ours, theirs, (self.run.seed, len(rounds))).estimate

    def named(self, *roles: Role, reduced: bool | None = None) -> list[Server]:
        """Return the servers of some roles."""
        return [one for one in self.servers if one.role in roles and reduced in (None, one.reduced)]

    @property
    def table(self) -> Table:
        """A row for each server under each load."""
        ours = self.named("sonant")
        header = ["load", "server", "computes", "rounds", "goodput s/s", *(f"{one.name} / it" for one in ours)]
        header += [
            "p50 s",
            "p99",
            "failed",
            "error",
            "median",
            "padded %",
            "cores",
            "generator",
            "open: within %",
            "p99 s",
        ]
        rows = [self._row(load, one, ours) for load in self.loads for one in self.servers if self.of(one.name, load)]
        return header, rows

    def _row(self, load: str, server: Server, ours: list[Server]) -> list[str]:
        turns = list(self.of(server.name, load).values())
        opened = list(self.of(server.name, load, "open").values())
        shares = [turn.padded_share for turn in turns if turn.padded_share is not None]
        return [
            *(load, server.name, server.computes, str(len(turns)), f"{self.goodput(server.name, load):.2f}"),
            *(_estimate(self.ratio(one.name, server.name, load)) if one != server else "" for one in ours),
            *(f"{_median(turn.latency.p50_ms for turn in turns) / 1e3:.1f}",),
            *(f"{_median(turn.latency.p99_ms for turn in turns) / 1e3:.1f}",),
            f"{sum(turn.failed for turn in turns)} of {sum(turn.requests for turn in turns)}",
            f"{max(turn.errors[1] for turn in turns):.1e}",
            f"{_median(turn.errors[0] for turn in turns):.1e}",
            f"{100 * _median(shares):.0f}" if shares else "",
            f"{_median(turn.cores.server_cores for turn in turns):.2f}",
            f"{_median(turn.cores.generator_cores for turn in turns):.2f}",
            f"{100 * _median(turn.within for turn in opened):.0f}" if opened else "",
            f"{_median(turn.latency.p99_ms for turn in opened) / 1e3:.1f}" if opened else "",
        ]

    @property
    def summary(self) -> str:
        """The figures that count."""
        left_out = [f"{one.name}: {one.reason}" for one in self.servers if one.reason]
        verdicts = [
            f"{promise.what}: {promise.found} (promised: {promise.promised}; {'kept' if promise.kept else 'MISSED'})"
            for promise in self.promises
        ]
        return " ".join(
            [
                f"Each server gets {self.clips} WAV files in a round, from {self.clients} clients that wait for their "
                f"answers, and answers the mean of the embeddings; {self._loads()}. They are started, asked and "
                "stopped in turn. Goodput is the audio of good answers, in seconds for each second; ratios are medians "
                "of those of one round, with 95 % intervals. The error is the largest of any answer, and beside it "
                "their median, against transformers on the clip alone, unpadded. Padded is the share of what was "
                f"computed. In the open loop requests come at random times, {self.share:g} of the audio that the exact "
                f"engine bears clip by clip, and want their answers within {self.objective:g} s.",
                *(f"{one.name}: {one.about}." for one in self.servers),
                *[f"Not asked, or not to the end: {'; '.join(left_out)}."] * bool(left_out),
                *[f"Promises. {'; '.join(verdicts)}."] * bool(verdicts),
            ]
        )

    def _loads(self) -> str:
        return "; ".join(f"{name}: {about}" for name, about in self.loads.items())

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What is promised of the server, as far as it was measured."""
        return tuple(promise for load in self.loads for promise in self._promises(load))

    def _promises(self, load: str) -> Iterator[Promise]:
        where = f"{self.run.model}, {load}"
        if best := self.best_padding(load):
            for one in self.named("sonant", reduced=False):
                yield from self._over(one, [best], load, PADDING_RATIO, f"{where}: goodput over the best that pads")
        for one in self.named("sonant"):
            alone = self.named("clips", reduced=one.reduced)
            what = f"{where}: goodput of {one.name} over its engine clip by clip"
            yield from self._over(one, alone, load, CLIPS_RATIO, what)
        for one in self.named("sonant", reduced=True):
            what = f"{where}: goodput of {one.name} over every peer"
            yield from self._over(one, self.named("peer", "padding"), load, DOCUMENTED_RATIO, what)
        for one in self.named("sonant", reduced=False):
            if turns := self.of(one.name, load).values():
                worst = max(turn.errors[1] for turn in turns)
                what = f"{where}: error of {one.name}"
                yield Promise(what, f"at most {EXACT_ERROR:g}", f"{worst:.1e}", worst <= EXACT_ERROR)

    def _over(self, one: Server, others: list[Server], load: str, least: float, what: str) -> Iterator[Promise]:
        """Promise that the ratio over each of the others is at least so much: the smallest says whether it is."""
        found = [(ratio, other) for other in others if (ratio := self.ratio(one.name, other.name, load)) is not None]
        if found:
            ratio, other = min(found, key=lambda pair: pair[0].value)
            worst = max(turn.errors[1] for turn in self.of(other.name, load).values())
            text = f"{_estimate(ratio)}, {other.name}, whose error is {worst:.1e}"
            yield Promise(what, f"at least {least:g}", text, ratio.value >= least)

    def best_padding(self, load: str) -> Server | None:
        """Return the peer with the largest goodput of those that make batches."""
        asked = [one for one in self.named("padding") if self.of(one.name, load)]
        return max(asked, key=lambda one: self.goodput(one.name, load), default=None)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The best peer of all next to Sonant, and what its answers are worth."""
        found = []
        for load in self.loads:
            peers = [one for one in self.named("peer", "padding") if self.goodput(one.name, load)]
            for one in self.named("sonant"):
                best = max(peers, key=lambda peer: self.goodput(peer.name, load), default=None)
                if best and (ratio := self.ratio(one.name, best.name, load)):
                    text = (
                        f"{self.run.model}, {load}: {one.name} serves {_estimate(ratio)} x the best peer, {best.name}."
                    )
                    found.append(Finding("gain" if ratio.low > 1 else "loss", text))
        return tuple(found)

    @property
    def charts(self) -> tuple[Bars, ...]:
        """Goodput and error under each load."""
        return tuple(chart for load in self.loads for chart in self._charts(load))

    def _charts(self, load: str) -> Iterator[Bars]:
        asked = [one for one in self.servers if self.of(one.name, load)]
        if not asked:
            return
        goodputs = [(one.name, [turn.goodput for turn in self.of(one.name, load).values()]) for one in asked]
        name = ("peer servers", self.run.model, load)
        yield Bars(
            name=file_name(*name),
            title=f"Goodput of servers of {self.run.model}: {load}",
            alt=f"Seconds of audio that each server answers in a second: {load}. Bars end at the median of the rounds.",
            x_label="seconds of audio per second",
            rows=tuple(Bar(one, float(np.median(values)), min(values), max(values)) for one, values in goodputs),
        )
        yield Bars(
            name=file_name(*name, "error"),
            title=f"Largest error of an answer: {load}",
            alt=f"How far the worst answer of each server is from that of transformers, under the load {load}.",
            x_label="error, of the largest value",
            rows=tuple(
                Bar(one.name, max(turn.errors[1] for turn in self.of(one.name, load).values())) for one in asked
            ),
        )


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def _estimate(ratio: Estimate | None) -> str:
    return "" if ratio is None else f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
