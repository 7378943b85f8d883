"""Many requests of all kinds: what the process has must not grow with them."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks import console
from benchmarks.base import Run
from benchmarks.load import drive, subjects
from benchmarks.load.client import HOST, Request
from benchmarks.load.drive import Sample
from benchmarks.load.meter import Meter
from benchmarks.load.process import Server
from benchmarks.load.requests import FORMATS, mixed, requests
from benchmarks.load.subjects import Subject
from benchmarks.records.endurance import Soak, SoakMark
from benchmarks.records.load import Latencies

CLIPS = 16  # different ones of each engine
MARKS = 20  # at which the process is looked at
SETTLED = 0.1  # share of the requests after which memory must not grow: until then, arenas and caches fill
LEAVING = 0.02  # share of clients that leave before their answer
LONGEST_SECONDS = 2.0  # of a clip: there are to be many requests, not much audio
MIB = 2**20
QUICK = {"engines": subjects.QUICK, "requests": 60, "connections": 2}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    subjects.add_options(parser, (*subjects.DEMO, "demo/engines/hubert-intent-english"))
    parser.add_argument("--requests", type=console.positive, default=20_000, help="all together")
    parser.add_argument("--connections", type=console.positive, default=8, help="that ask one after the other")


def measure(arguments: argparse.Namespace) -> Soak:
    """Serve all engines at once and ask them everything; ValueError where the server ends."""
    found, host = subjects.prepare(arguments)
    asked = [request for subject in found for request in _kinds(subject, arguments.seed)]
    random.Random(arguments.seed).shuffle(asked)
    with subjects.serve(found, arguments) as server, console.progress_bar(MARKS) as progress:
        run = subjects.describe(found, arguments, host)
        return drive.run(lambda: _soak(server, asked, arguments, run, progress))


async def _soak(
    server: Server,
    asked: Sequence[Request],
    arguments: argparse.Namespace,
    run: Run,
    progress: Callable[[str, float], None],
) -> Soak:
    endless = itertools.cycle(asked)
    part = max(1, arguments.requests // MARKS)
    samples: list[Sample] = []
    marks = [_mark(server, 0)]
    meter, begin = Meter(server.process.pid), time.perf_counter()
    with meter:
        for index in range(MARKS):
            leaving = asyncio.create_task(_leave(server.port, endless, round(LEAVING * part)))
            samples += await drive.closed_loop(server.port, itertools.islice(endless, part), arguments.connections)
            await leaving
            marks.append(_mark(server, len(samples)))
            progress(f"{len(samples)} of {arguments.requests} requests", index + 1)
    return Soak(
        run=run,
        connections=arguments.connections,
        settled=round(SETTLED * part * MARKS),
        seconds=time.perf_counter() - begin,
        statuses=subjects.statuses(samples),
        latency=Latencies.of([sample.latency for sample in samples]),
        marks=tuple(marks),
        load=meter.load,
    )


def _kinds(subject: Subject, seed: int) -> Iterator[Request]:
    """Yield requests for all tasks and formats of an engine, and some that it must refuse."""
    manifest = subject.manifest
    clips = mixed(manifest, (0.0, LONGEST_SECONDS), CLIPS, seed)
    for task in manifest.tasks:
        for answer_format in FORMATS if task == "encode" else ("json",):
            yield from requests(clips, manifest.sample_rate, subject.name, task, answer_format)
    good = requests(clips[:1], manifest.sample_rate, subject.name)[0]
    headers = {"Content-Type": "audio/wav"}
    for path, body in (
        (f"/v1/encode?model={subject.name}", good.body[:40]),  # no audio is left
        (f"/v1/encode?model={subject.name}", b"not audio"),
        (f"/v1/encode?model={subject.name}&color=red", good.body),
        ("/v1/encode?model=nobody", good.body),
    ):
        yield Request.post(path, body, 0.0, headers)


async def _leave(port: int, asked: Iterator[Request], count: int) -> None:
    """Send requests and leave: with half of the body, or all of it and no patience."""
    for index in range(count):
        request = next(asked)
        _, writer = await asyncio.open_connection(HOST, port)
        sent = request.head + request.body
        writer.write(sent if index % 2 else sent[: len(sent) // 2])
        await asyncio.sleep(0.01)  # some of them have reached the engine by then
        writer.close()


def _mark(server: Server, count: int) -> SoakMark:
    usage = server.usage
    return SoakMark(
        requests=count,
        resident_mib=usage.resident_bytes / MIB,
        descriptors=usage.descriptors,
        threads=usage.threads,
    )
