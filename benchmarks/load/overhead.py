"""One clip at a time: what the client waits for beyond the engine."""

from __future__ import annotations

import argparse
import itertools
from functools import partial

import numpy as np

from benchmarks import console, models
from benchmarks.load import drive, subjects
from benchmarks.load.drive import Sample
from benchmarks.load.requests import FORMATS, requests
from benchmarks.records.load import Latencies, Overhead, OverheadCell

WARM_UP = 3  # requests that are not counted: a first run plans and allocates
QUICK = {"engines": subjects.QUICK, "length": 0.5, "requests": 3}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    subjects.add_options(parser, ("hubert-base", *subjects.DEMO))
    parser.add_argument("--length", type=float, default=3.0, help="of the clip, in seconds")
    parser.add_argument("--requests", type=console.positive, default=40, help="of each engine in each format")


def measure(arguments: argparse.Namespace) -> Overhead:
    """Ask every engine in every format; ValueError where a request fails."""
    found, host = subjects.prepare(arguments)
    cells = []
    with console.progress_bar(len(found)) as progress:
        for index, subject in enumerate(found):
            console.Doing(progress, subject.name, index)
            rate = subject.manifest.sample_rate
            clip = models.clips(1, arguments.length, rate, arguments.seed)
            with subjects.serve([subject], arguments) as server:
                for answer_format in FORMATS:
                    [request] = requests(clip, rate, subject.name, answer_format=answer_format)
                    asked = itertools.repeat(request, WARM_UP + arguments.requests)
                    samples = drive.run(partial(drive.closed_loop, server.port, asked, connections=1))
                    subjects.check_all_answered(f"{subject.name}, {answer_format}", samples)
                    cells.append(_cell(subject.name, answer_format, samples[WARM_UP:]))
    return Overhead(run=subjects.describe(found, arguments, host), seconds=arguments.length, cells=tuple(cells))


def _cell(model: str, answer_format: str, samples: list[Sample]) -> OverheadCell:
    latency = np.array([sample.latency for sample in samples])
    inference, decoding = (np.array([sample.timings[stage] for sample in samples]) for stage in ("inference", "decode"))
    added = latency - inference
    return OverheadCell(
        model=model,
        answer_format=answer_format,
        requests=len(samples),
        latency=Latencies.of(latency),
        inference=Latencies.of(inference),
        decoding=Latencies.of(decoding),
        added=Latencies.of(added),
        serving=Latencies.of(added - decoding),
    )
