"""Closed loop with clips of mixed lengths, against the same engine offline on the same clips."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np

from benchmarks import console
from benchmarks.interleave import interleave, warm_up
from benchmarks.load import drive, subjects
from benchmarks.load.client import Request
from benchmarks.load.drive import Sample
from benchmarks.load.meter import Meter
from benchmarks.load.process import Server
from benchmarks.load.requests import FORMATS, mixed, requests
from benchmarks.load.subjects import Subject
from benchmarks.records.load import Latencies, Load, Throughput, ThroughputCell
from benchmarks.stats import PairedRatio
from engines.batch import Clip
from engines.engine import Engine
from server.schemas.options import EncodeOptions
from server.tasks.encode import Encode

SERVER, ALONE, BATCHED = "server", "alone", "batched"
QUICK = {
    "engines": subjects.QUICK,
    "lengths": (0.2, 0.5),
    "clips": 4,
    "rounds": 2,
    "seconds": 0.0,
    "calibrate_seconds": 0.0,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    subjects.add_options(parser, ("hubert-base", *subjects.DEMO))
    parser.add_argument("--clips", type=console.positive, default=24, help="in a round")
    parser.add_argument("--lengths", type=console.numbers(float), default=(1.0, 20.0), help="shortest and longest clip")
    parser.add_argument("--connections", type=console.positive, default=8, help="that ask one after the other")
    parser.add_argument("--seconds", type=float, default=60.0, help="time to spend on each engine, at least")
    parser.add_argument("--rounds", type=console.positive, default=5, help="of each engine, at least")
    parser.add_argument("--batch-seconds", type=float, default=30.0, help="of a batch offline, padding included")
    parser.add_argument(
        "--calibrate-seconds", type=float, default=30.0, help="to calibrate each engine before it is served; 0: not"
    )
    parser.add_argument("--format", choices=sorted(FORMATS), default="base64", help="of the answers")


def measure(arguments: argparse.Namespace) -> Throughput:
    """Measure every engine; ValueError where a request fails."""
    found, host = subjects.prepare(arguments)
    cells = []
    with console.progress_bar(len(found)) as progress:
        for index, subject in enumerate(found):
            doing = console.Doing(progress, subject.name, index)
            with calibrated(subject, arguments) as settings, subjects.serve([subject], arguments, settings) as server:
                cells.append(_measure(subject, server, arguments, doing))
    return Throughput(
        run=subjects.describe(found, arguments, host),
        connections=arguments.connections,
        lengths=arguments.lengths,
        batch_seconds=arguments.batch_seconds,
        calibrated=arguments.calibrate_seconds > 0,
        answer_format=arguments.format,
        cells=tuple(cells),
    )


@contextmanager
def calibrated(subject: Subject, arguments: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Calibrate the engine as `sonant calibrate` does; yield the settings of a server that finds the result."""
    if not arguments.calibrate_seconds:
        yield {}
        return
    with tempfile.TemporaryDirectory() as cache:
        options = [f"--threads={arguments.threads}", f"--seconds={arguments.calibrate_seconds:g}", f"--cache={cache}"]
        command = [sys.executable, "-m", "sonant.cli", "calibrate", str(subject.folder), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"{subject.name} cannot be calibrated: {done.stderr.strip()}")
        yield {"cache": cache}


def _measure(subject: Subject, server: Server, arguments: argparse.Namespace, doing: console.Doing) -> ThroughputCell:
    rate = subject.manifest.sample_rate
    clips = mixed(subject.manifest, arguments.lengths, arguments.clips, arguments.seed)
    asked = requests(clips, rate, subject.name, answer_format=arguments.format)
    outputs = Encode(subject.manifest, EncodeOptions()).outputs
    engine = subject.engine(arguments.threads)
    loop = ClosedLoop(server, asked, arguments.connections)
    batches = by_length(clips, int(arguments.batch_seconds * rate))
    contestants: dict[str, Callable[[], object]] = {
        SERVER: loop,
        ALONE: partial(offline, engine, [[clip] for clip in clips], outputs),
        BATCHED: partial(offline, engine, batches, outputs),
    }
    warm_up(contestants)
    loop.forget()
    times = interleave(contestants, arguments.seconds, arguments.rounds, doing.tick)
    subjects.check_all_answered(subject.name, loop.samples)
    seconds = sum(map(len, clips)) / rate
    faster = min((ALONE, BATCHED), key=lambda side: float(np.median(times[side])))
    server_rate, alone, batched = (seconds / float(np.median(times[side])) for side in (SERVER, ALONE, BATCHED))
    return ThroughputCell(
        model=subject.name,
        parameters=subject.manifest.parameters,
        clips=len(clips),
        audio_seconds=seconds,
        rounds=times[SERVER].size,
        server=server_rate,
        alone=alone,
        batched=batched,
        ratio=PairedRatio(times[faster], times[SERVER], (arguments.seed, len(clips))).estimate,
        latency=Latencies.of([sample.latency for sample in loop.samples]),
        load=loop.load,
    )


class ClosedLoop:
    """Sends all requests once, each time that it is called, and keeps what came of them."""

    def __init__(self, server: Server, asked: Sequence[Request], connections: int) -> None:
        self._server, self._asked, self._connections = server, asked, connections
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.samples: list[Sample] = []
        self._meter = Meter(self._server.process.pid)

    def __call__(self) -> None:
        """Ask everything once."""
        with self._meter:
            self.samples += drive.run(partial(drive.closed_loop, self._server.port, self._asked, self._connections))

    @property
    def load(self) -> Load:
        """Of the calls so far."""
        return self._meter.load


def by_length(clips: Sequence[Clip], budget: int) -> list[list[Clip]]:
    """Return batches of clips of like lengths; longest x count stays within `budget` samples."""
    batches: list[list[Clip]] = []
    for clip in sorted(clips, key=len):  # so that each is the longest of its batch
        if batches and len(clip) * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(clip)
        else:
            batches.append([clip])
    return batches


def offline(engine: Engine, batches: Sequence[Sequence[Clip]], outputs: Sequence[str]) -> None:
    """Run all batches, one after the other."""
    for batch in batches:
        engine.run(batch, outputs)
