"""Open loop at a multiple of the capacity: what is answered, what is refused, and what remains afterwards."""

from __future__ import annotations

import argparse
import itertools
import time

from benchmarks import console
from benchmarks.base import Run
from benchmarks.load import drive, subjects
from benchmarks.load.client import Request
from benchmarks.load.drive import Sample
from benchmarks.load.meter import Meter
from benchmarks.load.process import Server
from benchmarks.load.requests import FORMATS, mixed, requests
from benchmarks.records.endurance import Overload
from benchmarks.records.load import Latencies

CLIPS = 64  # different ones, that are sent again and again
IDLE_REQUESTS = 20  # of which the median is taken
QUICK = {"engines": subjects.QUICK, "lengths": (0.2, 0.5), "seconds": 2.0, "capacity_seconds": 1.0, "deadline": 1.0}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    subjects.add_options(parser, subjects.DEMO[:1])
    parser.add_argument("--lengths", type=console.numbers(float), default=(1.0, 20.0), help="shortest and longest clip")
    parser.add_argument("--factor", type=float, default=3.0, help="of the capacity")
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--capacity-seconds", type=float, default=20.0, help="for which the capacity is measured")
    parser.add_argument("--connections", type=console.positive, default=16, help="that the capacity is measured with")
    parser.add_argument("--deadline", type=float, default=10.0, help="of each request, in seconds")
    parser.add_argument("--format", choices=sorted(FORMATS), default="base64", help="of the answers")


def measure(arguments: argparse.Namespace) -> Overload:
    """Measure the first engine that is named; ValueError where a request fails that has the server for itself."""
    [subject, *_], host = subjects.prepare(arguments)
    rate = subject.manifest.sample_rate
    clips = mixed(subject.manifest, arguments.lengths, CLIPS, arguments.seed)
    asked = requests(clips, rate, subject.name, answer_format=arguments.format)
    urgent = requests(clips, rate, subject.name, answer_format=arguments.format, timeout=arguments.deadline)
    run = subjects.describe([subject], arguments, host)
    with subjects.serve([subject], arguments) as server:
        return drive.run(lambda: _overload(server, asked, urgent, arguments, run))


async def _overload(
    server: Server, asked: list[Request], urgent: list[Request], arguments: argparse.Namespace, run: Run
) -> Overload:
    before = await _idle(server, asked)
    endless = itertools.cycle(asked)
    closed = await drive.closed_loop(server.port, endless, arguments.connections, arguments.capacity_seconds)
    subjects.check_all_answered("capacity", closed)
    span = max(sample.end for sample in closed) - closed[0].start
    audio = sum(sample.audio_seconds for sample in closed)
    mean = sum(request.seconds for request in asked) / len(asked)
    offered = arguments.factor * audio / span
    meter = Meter(server.process.pid)
    with meter:
        begin = time.perf_counter()
        samples = await drive.open_loop(server.port, urgent, offered / mean, arguments.seconds, arguments.seed)
    answered = [sample for sample in samples if sample.status == 200]
    # What was admitted is answered for some time after the last was sent: that belongs to the span.
    span_of_load = max(arguments.seconds, max((sample.end for sample in answered), default=begin) - begin)
    in_time = sum(sample.audio_seconds for sample in answered if sample.latency <= arguments.deadline)
    return Overload(
        run=run,
        lengths=arguments.lengths,
        factor=arguments.factor,
        seconds=arguments.seconds,
        deadline=arguments.deadline,
        capacity=audio / span,
        offered=sum(sample.audio_seconds for sample in samples) / arguments.seconds,
        goodput=in_time / span_of_load,
        requests=len(samples),
        statuses=subjects.statuses(samples),
        admitted=Latencies.of([sample.latency for sample in answered]),
        refused=Latencies.of([sample.latency for sample in samples if sample.status == 429]),
        idle_before=before,
        idle_after=await _idle(server, asked),
        load=meter.load,
    )


async def _idle(server: Server, asked: list[Request]) -> Latencies:
    """Return the latency of single requests, one after the other: the same clip each time."""
    samples: list[Sample] = await drive.closed_loop(server.port, itertools.repeat(asked[0], IDLE_REQUESTS), 1)
    subjects.check_all_answered("an idle server", samples)
    return Latencies.of([sample.latency for sample in samples])
