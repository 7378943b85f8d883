"""What the closed and the open loop ask: engines that are served here, or a server that runs somewhere."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import console, machine
from benchmarks.base import Run
from benchmarks.load import adapters, lengths, subjects
from benchmarks.load.client import Request
from benchmarks.load.measure import OBJECTIVE_SECONDS, RULE, Target
from benchmarks.load.stability import Rule
from benchmarks.load.subjects import Subject

ENGINES = subjects.DEMO[:1]
CLIPS = 64  # different ones, that are sent again and again
HTTP_PORT = 80
# Of the server of a quick run, and of its clips.
QUICK = {
    "engines": subjects.QUICK,
    "lengths": lengths.uniform(0.2, 0.5),
    "clips": 6,
    "window": 0.3,
    "requests": 4,
    "windows": 3,
    "timeout": 20.0,
}


@dataclass(frozen=True)
class Place:
    """Something that can be asked: its name, what it takes, and how to reach it."""

    name: str
    parameters: int
    sample_rate: int
    shortest: float  # clip, in seconds
    serve: Callable[[], AbstractContextManager[Target]]

    def requests(self, target: Target, arguments: argparse.Namespace) -> Sequence[Request]:
        """Return what it is asked again and again."""
        kind, count, content = arguments.lengths, arguments.clips, arguments.content
        clips = lengths.clips(kind, count, self.sample_rate, content, arguments.seed, self.shortest)
        return [target.adapter.request(clip, self.sample_rate) for clip in clips]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of both loops."""
    subjects.add_options(parser, ENGINES)
    parser.add_argument("--url", help="of a server that runs, such as http://127.0.0.1:8000, instead of engines")
    parser.add_argument("--adapter", choices=sorted(adapters.ADAPTERS), default="sonant", help="how it is asked")
    own = "; ".join(f"{name}: {', '.join(f.name for f in fields(kind))}" for name, kind in adapters.ADAPTERS.items())
    parser.add_argument(
        "--option",
        dest="options",
        action="append",
        default=[],
        type=subjects.setting,
        metavar="NAME=VALUE",
        help=f"of the adapter, such as task=transcribe. {own}",
    )
    parser.add_argument("--name", help="of what runs at --url, for the tables (default: that of the adapter)")
    parser.add_argument(
        "--pid", dest="pids", action="append", default=[], type=console.positive, help="of what runs at --url, if here"
    )
    parser.add_argument("--sample-rate", type=console.positive, default=16_000, help="that is sent to --url")
    named = "; ".join(f"{name} ({one.about})" for name, one in lengths.DISTRIBUTIONS.items()).replace("%", "%%")
    parser.add_argument(
        "--lengths",
        type=lengths.parse,
        default=lengths.DISTRIBUTIONS["speech"],
        metavar="NAME|A,B",
        help=f"of the clips: {named}; or all between A and B seconds alike",
    )
    parser.add_argument("--content", choices=lengths.CONTENT, default="noise", help="of the clips")
    parser.add_argument("--clips", type=console.positive, default=CLIPS, help="different ones")
    parser.add_argument(
        "--objective", type=float, default=OBJECTIVE_SECONDS, help="seconds in which a result is of use"
    )
    parser.add_argument("--window", type=float, default=RULE.window, help="seconds, at least")
    parser.add_argument("--requests", type=console.positive, default=RULE.requests, help="of a window, at least")
    parser.add_argument("--windows", type=console.positive, default=RULE.windows, help="until it is not stable")
    parser.add_argument("--within", type=float, default=RULE.within, help="share by which stable windows may differ")
    parser.add_argument("--timeout", type=float, default=RULE.timeout, help="seconds until a request is given up")


def rule(arguments: argparse.Namespace) -> Rule:
    """Return when a measurement ends; ValueError where it could not."""
    return Rule(
        window=arguments.window,
        requests=arguments.requests,
        windows=arguments.windows,
        within=arguments.within,
        timeout=arguments.timeout,
    )


def prepare(arguments: argparse.Namespace) -> tuple[list[Place], Run]:
    """Return what is asked, and describe the run; ValueError for options that make no sense."""
    if not arguments.url:
        if arguments.name or arguments.pids:
            raise ValueError("--name and --pid are of a server that runs: they need --url")
        found, host = subjects.prepare(arguments)
        return [_served(subject, arguments) for subject in found], subjects.describe(found, arguments, host)
    if tuple(arguments.engines) not in (ENGINES, subjects.QUICK) or arguments.settings:
        raise ValueError("engines and --set are of a server that is started here: not with --url")
    place = _running(arguments)
    return [place], console.describe_run(place.name, 0, arguments, machine.describe())


def about(arguments: argparse.Namespace) -> str:
    """Say what is asked, for people."""
    server = "A server that ran already" if arguments.url else "`sonant serve`"
    return f"{server}, asked as {arguments.adapter}"


def _served(subject: Subject, arguments: argparse.Namespace) -> Place:
    options = dict(arguments.options)
    if "model" in {field.name for field in fields(adapters.ADAPTERS[arguments.adapter])}:
        options = {"model": subject.name} | options
    adapter = adapters.make(arguments.adapter, options)

    @contextmanager
    def serve() -> Iterator[Target]:
        with subjects.serve([subject], arguments) as server:
            yield Target(adapter, server.port, pids=(server.process.pid,))

    manifest = subject.manifest
    return Place(subject.name, manifest.parameters, manifest.sample_rate, manifest.seconds[0], serve)


def _running(arguments: argparse.Namespace) -> Place:
    url = urlsplit(arguments.url)
    if url.scheme != "http" or not url.hostname or url.path.strip("/") or url.query:
        raise ValueError(f"--url {arguments.url}: it is not of the form http://host:port")
    missing = [pid for pid in arguments.pids if not Path(f"/proc/{pid}").exists()]
    if missing:
        raise ValueError(f"--pid {missing[0]}: there is no such process here")
    adapter = adapters.make(arguments.adapter, dict(arguments.options))
    target = Target(adapter, url.port or HTTP_PORT, url.hostname, tuple(arguments.pids))
    name = arguments.name or arguments.adapter
    return Place(name, 0, arguments.sample_rate, 0.0, lambda: nullcontext(target))
