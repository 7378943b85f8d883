"""How long a server takes until it answers, and what memory it has when it is idle: `sonant bench startup`.

Each start is a process of its own; the sides take turns, so that a machine that drifts slows all of them alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median

import httpx

from benchmarks import console, models
from benchmarks.load import subjects
from benchmarks.load.client import HOST
from benchmarks.load.process import usage
from benchmarks.load.requests import wav
from benchmarks.load.subjects import Subject
from benchmarks.machine import ROOT
from benchmarks.records.startup import DEMO, Start, StartCell, Startup
from benchmarks.resident import Resident
from benchmarks.startup import imports
from benchmarks.startup.launch import Launch, launched

ALL = "demo"  # stands for all of its engines, in one server
MIB = 2**20
TIMEOUT_SECONDS = 120.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="sonant bench startup",
        description="From the start of the process until it answers, and its memory when it is idle.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    subjects.add_options(parser, (ALL, "hubert-base"))
    parser.add_argument("--rounds", type=console.positive, default=7, help="starts of each server")
    parser.add_argument("--length", type=float, default=1.0, help="of the clip that is sent, in seconds")
    parser.add_argument("--quick", action="store_true", help="a small engine and one start: shows that it runs")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        parser.set_defaults(rounds=1, engines=subjects.DEMO[:1])
        arguments = parser.parse_args(argv)
    return console.main(measure, arguments)


def measure(arguments: argparse.Namespace) -> Startup:
    """Start each server again and again; ValueError where one does not become ready or does not answer."""
    groups = {DEMO if name == ALL else Path(name).name: demo() if name == ALL else [name] for name in arguments.engines}
    every = argparse.Namespace(**vars(arguments) | {"engines": [name for names in groups.values() for name in names]})
    found, host = subjects.prepare(every)
    following = iter(found)
    servers = {what: [next(following) for _ in names] for what, names in groups.items()}
    starts: dict[str, list[Start]] = {what: [] for what in servers}
    accounts = []
    with console.progress_bar(arguments.rounds * len(servers)) as progress:
        for index in range(arguments.rounds):
            for place, (what, engines) in enumerate(servers.items()):
                progress(f"{what}: start {index + 1}", index * len(servers) + place)
                starts[what].append(start(engines, arguments))
            accounts.append(account(next(iter(servers.values())), arguments))
    return Startup(
        run=subjects.describe(found, arguments, host),
        seconds=arguments.length,
        cells=tuple(
            StartCell(
                what=what,
                engines=tuple(engine.name for engine in engines),
                weights_mib=sum(map(weights, engines)) / MIB,
                starts=tuple(starts[what]),
            )
            for what, engines in servers.items()
        ),
        import_what=next(iter(servers)),
        imports=middle(accounts),
    )


def start(engines: Sequence[Subject], arguments: argparse.Namespace) -> Start:
    """Start a server and ask it twice."""
    with launch(engines, arguments) as server:
        listening, ready = server.listening(), server.ready()
        spent, idle = usage(server.process.pid).cpu_seconds, Resident.of(server.process.pid)
        first, following = (ask(server, engines[0], arguments) for _ in range(2))
        asked = Resident.of(server.process.pid)
    return Start(
        listening_seconds=listening,
        ready_seconds=ready,
        cpu_seconds=spent,
        first_seconds=first,
        next_seconds=following,
        anonymous_mib=idle.anonymous,
        file_mib=idle.file_backed,
        asked_mib=asked.all,
        peak_mib=asked.peak,
    )


def account(engines: Sequence[Subject], arguments: argparse.Namespace) -> dict[str, float]:
    """Start a server that accounts for its imports, which makes it slower; return milliseconds by package."""
    with launch(engines, arguments, imports.ACCOUNT) as server:
        server.ready()
        return imports.by_package(server.log)


def middle(accounts: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each package, the slowest first."""
    packages = {package for account in accounts for package in account}
    found = {package: median(account.get(package, 0.0) for account in accounts) for package in packages}
    return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))


def launch(
    engines: Sequence[Subject], arguments: argparse.Namespace, environment: Mapping[str, str] | None = None
) -> AbstractContextManager[Launch]:
    """Start a server with the settings that were asked for."""
    # What is measured in the background would be taken for what the start needs.
    settings = {"calibrate": "off"} | dict(arguments.settings)
    return launched({engine.name: engine.folder for engine in engines}, arguments.threads, settings, environment)


def ask(server: Launch, engine: Subject, arguments: argparse.Namespace) -> float:
    """Have one clip encoded; return the seconds until the answer is there, ValueError where it is none."""
    rate = engine.manifest.sample_rate
    body = wav(models.clips(1, arguments.length, rate, arguments.seed)[0], rate)
    options = {"model": engine.name, "pooling": "mean"}
    url, headers = f"http://{HOST}:{server.port}/v1/encode", {"Content-Type": "audio/wav"}
    with httpx.Client(timeout=TIMEOUT_SECONDS) as client:
        begin = time.perf_counter()
        answer = client.post(url, params=options, content=body, headers=headers)
        seconds = time.perf_counter() - begin
    if answer.status_code != httpx.codes.OK:
        raise ValueError(f"{engine.name}: {answer.status_code} {answer.text[:300]}")
    return seconds


def demo() -> list[str]:
    """Return the demo's engines."""
    return sorted(str(path) for path in (ROOT / "demo" / "engines").iterdir())


def weights(engine: Subject) -> int:
    """Return the bytes of the weights that its exact graphs share."""
    graphs = [graph for graph in engine.manifest.graphs if graph.precision == "fp32"]
    files = {name for graph in graphs for name in graph.sha256 if name != graph.file}
    return sum((engine.folder / name).stat().st_size for name in files)
