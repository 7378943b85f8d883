"""The servers, made ready: environments, engines in the forms that are served, the export of the ONNX peer."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import models, recipes
from benchmarks.engines import all_forms, held_out
from benchmarks.exports import true_size
from benchmarks.load.adapters.base import Adapter
from benchmarks.load.adapters.sonant import Sonant
from benchmarks.load.client import Request
from benchmarks.load.process import serving
from benchmarks.peers import environments
from benchmarks.peers.environments import Environment
from benchmarks.peers.servers import process
from benchmarks.peers.servers.asking import Padded
from benchmarks.peers.servers.catalogue import ONNX, OURS, PEERS, REDUCED, RUNTIMES, Peer
from benchmarks.peers.servers.process import Running
from benchmarks.records.peer_servers import Server
from engines.engine import Engine
from engines.manifest import BASE, Manifest
from engines.runtimes import EXACT, RuntimeOptions
from export import checkpoint as checkpoints
from export.checkpoint import Checkpoint
from server.calibration.cache import Cache, key_of

WORKERS = 1  # batches at a time: each side has so many threads and no more
CALIBRATED_SECONDS = 60.0
OPTIMUM = "optimum"  # the environment with the exporter
EXPORTED_WITHIN_SECONDS = 900.0
FEATURES = "feature-extraction"


@dataclass(frozen=True)
class Contestant:
    """A server that can be started: `start` takes what is asked first."""

    server: Server
    adapter: Callable[[float], Adapter]  # takes the seconds in which an answer is wanted
    start: Callable[[Request], AbstractContextManager[Running]]


@dataclass(frozen=True)
class Subject:
    """What is served: a checkpoint, and our engine of it."""

    checkpoint: Checkpoint
    folder: Path  # of the engine
    manifest: Manifest


def subject(arguments: argparse.Namespace, progress: Callable[[str], None]) -> Subject:
    """Return the checkpoint with an engine of every form that a server may choose; of a quick run, of the exact one.

    Raises ExportError or EngineError, and ValueError where --engine is of another checkpoint.
    """
    if arguments.quick:
        found = models.prepare(arguments.model, arguments.checkpoint, (), arguments.cache, progress)
        return Subject(found.checkpoint, found.folder, found.manifest)
    name = arguments.checkpoint or arguments.model
    if arguments.engine:
        folder = arguments.checkpoint or recipes.make(arguments.model, arguments.cache / "checkpoints", progress)
        checkpoint, manifest = checkpoints.resolve(str(folder)), Manifest.read(arguments.engine)
        if manifest.checkpoint.sha256 != checkpoint.sha256:
            raise ValueError(f"{arguments.engine} is an engine of another checkpoint than {name}")
        return Subject(checkpoint, arguments.engine, manifest)
    audio = held_out.calibration(held_out.prepare(arguments.cache), Path(name).name)
    wished = all_forms.possible(all_forms.PRECISIONS, all_forms.RUNTIMES)
    wanted = all_forms.wish(name, wished, audio, arguments.cache, progress)
    made = all_forms.make(wanted, arguments.cache, progress)
    folders = {folder for folder, _ in made.usable.values()}
    if len(folders) > 1:  # one of the forms was refused: the others in one engine, as an operator would have them
        wanted = all_forms.wish(name, [form for form in made.usable if form != BASE], audio, arguments.cache, progress)
        made = all_forms.make(wanted, arguments.cache, progress)
    return Subject(wanted.checkpoint, made.usable[BASE][0], made.manifest)


def prepare(name: str, subject: Subject, arguments: argparse.Namespace, progress: Callable[[str], None]) -> Contestant:
    """Make one of the servers ready; EnvironmentFailedError, EngineError or ValueError where that is not possible."""
    if name in OURS:
        return _ours(name, subject, arguments, progress)
    peer = PEERS[name]
    where = environments.own() if arguments.quick else _environment(peer, arguments.cache, progress)
    options = _options(name, subject, arguments, progress)
    computes = dict(zip(options[::2], options[1::2], strict=True)).get("--form", peer.computes)
    about = Server(
        name=name,
        about=peer.about,
        role=peer.role,
        reduced=name == OURS[REDUCED],
        computes=computes,
        versions=where.versions(*peer.packages),
    )

    def start(first: Request) -> AbstractContextManager[Running]:
        seconds = arguments.start_seconds
        return process.running(where, peer.script, options, arguments.threads, peer.settings, first, seconds)

    return Contestant(about, lambda _: Padded(), start)


def left_out(name: str, reason: str) -> Server:
    """Return a server that could not be made ready."""
    if name in OURS:
        return Server(name=name, about="sonant serve", role="sonant", reduced=name == REDUCED, reason=reason)
    peer = PEERS[name]
    return Server(name=name, about=peer.about, role=peer.role, reduced=name == OURS[REDUCED], reason=reason)


def _ours(name: str, subject: Subject, arguments: argparse.Namespace, progress: Callable[[str], None]) -> Contestant:
    max_error = _max_error(name, arguments)
    if not arguments.quick:
        _calibrate(name, subject, arguments, progress)
    settings = {
        "calibrate": "off",  # it was, and what is measured in the background would share the machine
        "cache": str(arguments.cache),
        "workers": str(WORKERS),
        "max_error": str(max_error),
    }
    about = Server(
        name=name,
        about=f"sonant serve, calibrated, --max-error {max_error:g}",
        role="sonant",
        reduced=name == REDUCED,
        computes=_form(name, subject, arguments),
        versions=environments.own().versions(*RUNTIMES),
    )

    @contextmanager
    def start(first: Request) -> Iterator[Running]:
        begin = time.monotonic()
        with serving({name: subject.folder}, arguments.threads, settings) as server:
            answer = process.ask(server.port, first, arguments.start_seconds)
            if answer.status != process.OK:
                raise process.ServerFailedError(f"the first answer was {answer.status}: {answer.body[:200]!r}")
            yield Running(server.port, server.process.pid, time.monotonic() - begin)

    return Contestant(about, lambda seconds: Sonant(model=name, timeout=f"{seconds:g}"), start)


def _options(
    name: str, subject: Subject, arguments: argparse.Namespace, progress: Callable[[str], None]
) -> Sequence[str]:
    """Return what the script of a peer is told of the model: pairs of a flag and its value."""
    for ours, clips in OURS.items():
        if name == clips:
            return ("--engine", str(subject.folder), "--form", _form(ours, subject, arguments))
    if name == ONNX:
        return ("--export", str(_exported(subject, arguments.cache, progress)))
    return ("--checkpoint", str(subject.checkpoint.folder))


def _environment(peer: Peer, cache: Path, progress: Callable[[str], None]) -> Environment:
    if peer.environment is None:
        return environments.own()
    return environments.make(peer.environment, cache, progress)


def _exported(subject: Subject, cache: Path, progress: Callable[[str], None]) -> Path:
    """Return the folder with the graph that optimum makes of the checkpoint, which is kept below `cache`."""
    exporter = environments.make(OPTIMUM, cache, progress)
    versions = exporter.versions("optimum", "optimum-onnx", "transformers", "torch")
    made_of = f"{subject.checkpoint.sha256} {versions}"
    folder = cache / "peers" / "exports" / hashlib.sha256(made_of.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    progress(f"Exporting {subject.checkpoint.name} with optimum")
    partial = folder.with_name(f"{folder.name}.partial")
    export = ["export", "onnx", "--task", FEATURES, "--model", str(subject.checkpoint.folder), str(partial)]
    try:
        subprocess.run(
            [str(exporter.python.with_name("optimum-cli")), *export],
            check=True,
            capture_output=True,
            text=True,
            env=environments.environment(),
            timeout=EXPORTED_WITHIN_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as problem:
        said = str(getattr(problem, "stderr", None) or problem).strip().splitlines()
        raise ValueError(f"optimum could not export it: {said[-1]}") from None
    partial.rename(folder)
    return folder


def _calibrate(name: str, subject: Subject, arguments: argparse.Namespace, progress: Callable[[str], None]) -> None:
    """Measure how the engine runs best here, as the server would when it has nothing to do; unless that was done."""
    options = _runtime_options(name, arguments)
    if Cache(arguments.cache).read(key_of(Engine(subject.folder, options=options), options, WORKERS)) is None:
        progress(f"Calibrating {name}")
        told = {
            "--max-error": options.max_error,
            "--threads": options.threads,
            "--workers": WORKERS,
            "--seconds": CALIBRATED_SECONDS,
            "--cache": arguments.cache,
        }
        true_size.sonant(["calibrate", str(subject.folder), *(f"{flag}={value}" for flag, value in told.items())])


def _form(name: str, subject: Subject, arguments: argparse.Namespace) -> str:
    """Return the form of the engine that a server of ours will use."""
    options = _runtime_options(name, arguments)
    engine = Engine(subject.folder, options=options)
    found = Cache(arguments.cache).read(key_of(engine, options, WORKERS))
    if found is not None and found.form is not None:
        engine.use(found.form)
    return engine.form.name


def _runtime_options(name: str, arguments: argparse.Namespace) -> RuntimeOptions:
    return RuntimeOptions(threads=arguments.threads, max_error=_max_error(name, arguments))


def _max_error(name: str, arguments: argparse.Namespace) -> float:
    return float(arguments.max_error) if name == REDUCED else EXACT
