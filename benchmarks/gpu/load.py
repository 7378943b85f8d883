"""A server on the GPU that is kept busy: what comes through, how large its batches are, what the host costs."""

from __future__ import annotations

import argparse
import time
from functools import partial

from benchmarks import console, machine
from benchmarks.gpu import subjects
from benchmarks.load import counters, drive
from benchmarks.load.client import HOST
from benchmarks.load.process import serving
from benchmarks.load.requests import FORMATS, mixed, requests
from benchmarks.load.subjects import check_all_answered, setting
from benchmarks.recipes import RECIPES
from benchmarks.records.gpu import GpuLoad
from benchmarks.records.load import Latencies
from engines.manifest import Manifest
from sonant.terminal import steps

DRY_RUN = {
    "model": "tiny",
    "precision": "fp32",
    "lengths": (0.4, 1.0),
    "clips": 8,
    "connections": 2,
    "seconds": 0.5,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    parser.add_argument("--model", choices=sorted(RECIPES), default="hubert-large", help="true size, random weights")
    parser.add_argument("--precision", choices=subjects.PRECISIONS, default="fp16", help="of the engine")
    parser.add_argument("--lengths", type=console.numbers(float), default=(1.0, 20.0), help="shortest and longest clip")
    parser.add_argument("--clips", type=console.positive, default=256, help="different ones")
    parser.add_argument("--connections", type=console.positive, default=64, help="that ask one after the other")
    parser.add_argument("--seconds", type=float, default=60.0, help="for so long")
    parser.add_argument("--format", choices=sorted(FORMATS), default="npy", help="of the answers")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], type=setting, metavar="NAME=VALUE", help="of the server"
    )


def measure(arguments: argparse.Namespace) -> GpuLoad:
    """Measure it; ValueError where a request fails."""
    place = subjects.place(arguments)
    about = machine.describe()
    with steps() as progress:
        precisions = tuple(dict.fromkeys(("fp32", arguments.precision)))
        folder = subjects.prepare(arguments.model, precisions, arguments.cache, progress)
        manifest = Manifest.read(folder)
        clips = mixed(manifest, arguments.lengths, arguments.clips, arguments.seed)
        asked = requests(clips, manifest.sample_rate, arguments.model, answer_format=arguments.format)
        own = {"calibrate": "off", "device": "cuda" if place == "cuda" else "cpu", "precision": arguments.precision}
        progress("Starting the server")
        with serving({arguments.model: folder}, arguments.threads, own | dict(arguments.settings)) as server:
            counted = partial(counters.read, server.port, HOST)
            loop = partial(drive.closed_loop, server.port, connections=arguments.connections)
            progress("Warming up")
            drive.run(partial(loop, asked=asked))
            before, usage, begun = drive.run(counted), server.usage, time.perf_counter()
            progress(f"Asking for {arguments.seconds:g} s")
            endless = (request for _ in iter(int, 1) for request in asked)
            samples = drive.run(partial(loop, asked=endless, seconds=arguments.seconds))
            wall = time.perf_counter() - begun
            cores = (server.usage.cpu_seconds - usage.cpu_seconds) / wall
            grown = counters.grown(before, drive.run(counted))
    check_all_answered(arguments.model, samples)
    batches = counters.batching(grown)
    if batches is None:
        raise ValueError("the server has run no batch")
    return GpuLoad(
        run=console.describe_run(arguments.model, manifest.parameters, arguments, about),
        device=subjects.describe(place),
        form=f"onnxruntime/{arguments.precision}",
        connections=arguments.connections,
        lengths=arguments.lengths,
        audio_seconds=grown[counters.AUDIO],
        wall_seconds=wall,
        engine_seconds=grown[counters.BUSY],
        batches=batches.batches,
        clips_per_batch=batches.clips,
        padded_share=batches.padded_share,
        server_cores=cores,
        latency=Latencies.of([sample.latency for sample in samples]),
    )
