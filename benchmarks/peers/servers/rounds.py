"""The servers in turn, round after round, and what is kept of it."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Self

import numpy as np

from benchmarks import console, record
from benchmarks.base import Run
from benchmarks.load import lengths
from benchmarks.peers.servers import asking, contestants, process, truth
from benchmarks.peers.servers.asking import Found, Work
from benchmarks.peers.servers.catalogue import CLIPS, NAMES
from benchmarks.peers.servers.contestants import Contestant, Subject
from benchmarks.peers.servers.process import Running, ServerFailedError
from benchmarks.peers.servers.truth import Truths
from benchmarks.records.load import Latencies
from benchmarks.records.peer_servers import PeerServers, Server, Turn
from engines.batch import Clip
from engines.errors import EngineError

CLOSED: Literal["closed"] = "closed"
OPEN: Literal["open"] = "open"
Loop = Literal["closed", "open"]
SECONDS_PER_MINUTE = 60.0


@dataclass(frozen=True)
class Load:
    """Clips of some lengths, and what is to be answered to each."""

    name: str
    clips: Sequence[Clip]
    truths: Truths


class Rounds:
    """The measurement: `contestants` under `loads`."""

    def __init__(
        self,
        contestants: Sequence[Contestant],
        loads: Sequence[Load],
        rate: int,
        result: PeerServers,
        arguments: argparse.Namespace,
    ) -> None:
        self._contestants = {each.server.name: each for each in contestants}
        self._loads, self._rate, self._arguments = loads, rate, arguments
        self.result = result

    @classmethod
    def prepared(cls, subject: Subject, run: Run, arguments: argparse.Namespace, tell: Callable[[str], None]) -> Self:
        """Make clips, truths and servers ready; one that cannot be is left out with its reason."""
        rate = subject.manifest.sample_rate
        loads = []
        for kind in arguments.loads:
            clips = _clips(kind, subject, arguments)
            loads.append(Load(kind.name, clips, truth.of(subject.checkpoint, clips, rate, arguments.cache, tell)))
        ready, servers = [], []
        for name in arguments.peers:
            try:
                one = contestants.prepare(name, subject, arguments, tell)
            except (EngineError, ValueError) as problem:
                servers.append(contestants.left_out(name, str(problem)))
            else:
                ready.append(one)
                servers.append(one.server)
        return cls(ready, loads, rate, _result(subject, run, servers, arguments), arguments)

    def measured(self) -> PeerServers:
        """Ask everyone, round after round, then in the open loop; return the result, which is written as it comes."""
        end = time.monotonic() + SECONDS_PER_MINUTE * self._arguments.minutes
        longest = 0.0
        with console.progress_bar(self._arguments.rounds + bool(self._arguments.seconds)) as show:
            for index in range(self._arguments.rounds):
                started = time.monotonic()
                if index and started + longest > end:
                    break
                self._round(CLOSED, index, partial(_tell, show, f"round {index + 1}", index))
                longest = max(longest, time.monotonic() - started)
            if self._arguments.seconds:
                self._round(OPEN, 0, partial(_tell, show, "open loop", self._arguments.rounds), end)
        return self.result

    def _round(self, loop: Loop, index: int, tell: Callable[[str], None], end: float = math.inf) -> None:
        """Ask each server once; in every other round in the other order, so that a drift spares nobody."""
        names = list(self._contestants)
        for name in reversed(names) if index % 2 else names:
            missing = [load for load in self._loads if index not in self.result.of(name, load.name, loop)]
            if not missing or time.monotonic() > end:
                continue
            tell(name)
            contestant = self._contestants[name]
            try:
                for turn in self._turns(contestant, missing, loop, index):
                    self._keep(turns=(*self.result.turns, turn))
            except (ServerFailedError, ValueError, OSError) as problem:
                del self._contestants[name]
                self._keep(servers=tuple(_because(one, name, str(problem)) for one in self.result.servers))

    def _turns(self, contestant: Contestant, loads: Sequence[Load], loop: Loop, index: int) -> Iterator[Turn]:
        """Start a server and yield what comes of each load."""
        limit = self._arguments.timeout if loop == CLOSED else self._arguments.objective
        adapter = contestant.adapter(limit)
        works = [
            Work(adapter, [adapter.request(clip, self._rate) for clip in load.clips], load.truths) for load in loads
        ]
        shortest = min(works[0].requests, key=lambda request: request.seconds)
        with contestant.start(shortest) as started:
            process.ask(started.port, works[0].requests[0], self._arguments.timeout)  # a first run plans
            for load, work in zip(loads, works, strict=True):
                found = self._asked(started, load, work, loop, limit)
                yield _turn(contestant.server.name, load.name, loop, index, started, found, limit)

    def _asked(self, started: Running, load: Load, work: Work, loop: Loop, limit: float) -> Found:
        if loop == CLOSED:
            return asking.closed(started, work, self._arguments.clients, limit)
        asked = [one.name for one in self.result.servers if self.result.goodput(one.name, load.name)]
        if not asked:
            raise ServerFailedError("nobody has answered in the closed loop: there is nothing to take a share of")
        goodput = self.result.goodput(CLIPS if CLIPS in asked else asked[0], load.name)
        mean = sum(map(len, load.clips)) / len(load.clips) / self._rate
        rate = self._arguments.share * goodput / mean
        return asking.open_(started, work, rate, self._arguments.seconds, limit, self._arguments.seed)

    def _keep(self, **changes: object) -> None:
        self.result = self.result.model_copy(update=changes)
        if self._arguments.output:
            record.write(self.result, self._arguments.output)


def _tell(show: Callable[[str, float], None], what: str, done: int, name: str) -> None:
    show(f"{what}: {name}", done)


def _clips(kind: lengths.Distribution, subject: Subject, arguments: argparse.Namespace) -> list[Clip]:
    """Return clips that the model takes: those that are longer than that are cut."""
    manifest = subject.manifest
    shortest, longest = manifest.seconds
    clips = lengths.clips(kind, arguments.clips, manifest.sample_rate, "noise", arguments.seed, shortest)
    return [clip[: int(longest * manifest.sample_rate)] for clip in clips]


def _result(subject: Subject, run: Run, servers: Sequence[Server], arguments: argparse.Namespace) -> PeerServers:
    """Return what an earlier run has measured of the same, with the servers of this one; else nothing but these."""
    loads = {kind.name: kind.about for kind in arguments.loads}
    settings = [
        *(arguments.clients, arguments.clips, arguments.objective, arguments.max_error, arguments.share),
        *(arguments.threads, arguments.seed, arguments.seconds, loads),
    ]
    engine = [graph.sha256 for graph in subject.manifest.graphs]
    made_of = [subject.checkpoint.sha256, engine, run.machine.cpu, run.machine.flags, run.versions, settings]
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    before = None if arguments.anew else _before(arguments.output, key)
    if before is not None:
        known = {one.name: one for one in (*before.servers, *servers)}
        return before.model_copy(update={"servers": tuple(known[name] for name in NAMES if name in known)})
    return PeerServers(
        run=run,
        key=key,
        clients=arguments.clients,
        clips=arguments.clips,
        objective=arguments.objective,
        max_error=arguments.max_error,
        share=arguments.share,
        loads=loads,
        servers=tuple(servers),
    )


def _before(path: Path | None, key: str) -> PeerServers | None:
    found = record.earlier(path, PeerServers)
    return found if found and found.key == key else None


def _because(server: Server, name: str, reason: str) -> Server:
    return server.model_copy(update={"reason": reason}) if server.name == name else server


def _turn(name: str, load: str, loop: Loop, index: int, started: Running, found: Found, limit: float) -> Turn:
    good = [sample for sample in found.samples if sample.good]
    in_time = [sample for sample in good if sample.latency <= limit]
    statuses, counts = np.unique([sample.status for sample in found.samples], return_counts=True)
    return Turn(
        server=name,
        load=load,
        loop=loop,
        round=index,
        ready_seconds=started.ready_seconds,
        seconds=found.seconds,
        offered=sum(sample.audio_seconds for sample in found.samples) / found.seconds,
        goodput=sum(sample.audio_seconds for sample in in_time) / found.seconds,
        within=len(in_time) / len(found.samples) if found.samples else 0.0,
        requests=len(found.samples),
        statuses=dict(zip(statuses.tolist(), counts.tolist(), strict=True)),
        wrong=sum(sample.status == process.OK and not sample.good for sample in found.samples),
        latency=Latencies.of([sample.latency for sample in good]),
        cores=found.spent.load,
        padded_share=found.padded_share,
        errors=(float(np.median(found.errors or [np.nan])), max(found.errors, default=float("nan"))),
        cosine=min(found.cosines, default=float("nan")),
    )
