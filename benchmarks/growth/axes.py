"""What grows: the length of a clip, the batch, the models that are loaded, the clients."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from statistics import median

import numpy as np

from benchmarks import console, models
from benchmarks.growth import direct, served
from benchmarks.growth.fit import fitted
from benchmarks.load import subjects
from benchmarks.load.subjects import Subject
from benchmarks.records.growth import Axis, GrowthLine, GrowthPoint
from benchmarks.resident import Resident
from benchmarks.startup.launch import launched
from engines.batch import Clip

MOST = 100_000  # requests: more than any machine answers meanwhile
MOST_LONG = 20  # of one client who asks for the same clip again
DIFFERENT = 16  # clips that clients send
PATIENCE_SECONDS = 0.8 * served.TIMEOUT_SECONDS  # a request that will take longer is not sent


def lengths(subject: Subject, arguments: argparse.Namespace, doing: console.Doing) -> list[GrowthLine]:
    """Measure one clip: alone in the engine as far as it takes it, and over HTTP."""
    shortest, longest = subject.manifest.seconds
    taken = [seconds for seconds in arguments.lengths if seconds >= shortest]
    sizes = {seconds: (seconds, 1) for seconds in taken if seconds <= longest}
    alone = direct.line(subject, f"{subject.name}, engine alone", sizes, arguments, doing)
    points: list[GrowthPoint] = []
    with subjects.serve([subject], arguments) as server:
        served.check(server, subject, long_clip(subject, taken[0], arguments), arguments.threads)
        idle = Resident.of(server.process.pid).all
        for seconds in taken:
            doing.tick(0, 0.5)
            if points and seconds / points[-1].audio_per_second > PATIENCE_SECONDS:
                break  # the server would give it up
            [request] = served.asked(subject, [long_clip(subject, seconds, arguments)])
            limit = arguments.seconds
            points.append(served.ask(server, seconds, [request], 1, least=1, most=MOST_LONG, seconds=limit))
    return [alone, fitted(f"{subject.name}, over HTTP", idle, points)]


def batches(subject: Subject, arguments: argparse.Namespace, doing: console.Doing) -> list[GrowthLine]:
    """Measure clips of one length, in one call."""
    sizes = {float(count): (arguments.length, count) for count in arguments.batches}
    return [direct.line(subject, subject.name, sizes, arguments, doing)]


def loaded(subject: Subject, arguments: argparse.Namespace, doing: console.Doing) -> list[GrowthLine]:
    """Measure servers with copies of the engine."""
    settings = {"calibrate": "off"} | dict(arguments.settings)
    points: list[GrowthPoint] = []
    for count in arguments.models:
        names = {f"{subject.name}-{index}": subject.folder for index in range(count)}
        ready, resident = [], []
        for index in range(arguments.rounds):
            doing.tick(index, 0.5)
            with launched(names, arguments.threads, settings) as server:
                ready.append(1e3 * server.ready())
                resident.append(Resident.of(server.process.pid).all)
        points.append(
            GrowthPoint(
                x=count,
                rounds=len(ready),
                median_ms=median(ready),
                p95_ms=float(np.percentile(ready, 95)),
                audio_per_second=math.nan,
                memory_mib=median(resident),
            )
        )
    return [fitted(subject.name, points[0].memory_mib, points)]


def clients(subject: Subject, arguments: argparse.Namespace, doing: console.Doing) -> list[GrowthLine]:
    """Measure clients who wait for their answers."""
    rate = subject.manifest.sample_rate
    clips = models.clips(DIFFERENT, arguments.length, rate, arguments.seed)
    asked = served.asked(subject, clips)
    points = []
    with subjects.serve([subject], arguments) as server:
        served.check(server, subject, clips[0], arguments.threads)
        idle = Resident.of(server.process.pid).all
        for index, count in enumerate(arguments.clients):
            doing.tick(0, index / len(arguments.clients))
            least, seconds = 2 * count, arguments.seconds
            points.append(served.ask(server, count, asked, count, least=least, most=MOST, seconds=seconds))
    return [fitted(subject.name, idle, points)]


AXES: dict[Axis, Callable[[Subject, argparse.Namespace, console.Doing], list[GrowthLine]]] = {
    "lengths": lengths,
    "batches": batches,
    "models": loaded,
    "clients": clients,
}


def long_clip(subject: Subject, seconds: float, arguments: argparse.Namespace) -> Clip:
    """Return a clip: a minute of noise again and again, as an hour of it would take a gigabyte to make."""
    rate = subject.manifest.sample_rate
    [minute] = models.clips(1, min(seconds, 60.0), rate, arguments.seed)
    return np.resize(minute, round(seconds * rate))
