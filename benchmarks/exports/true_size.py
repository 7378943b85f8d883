"""What it takes to export and to serve each true-size configuration: `sonant bench export`.

Export, verification and server are processes of their own, whose peak memory the system counts.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import soundfile

from benchmarks import console, machine, models, recipes
from benchmarks.load.client import HOST
from benchmarks.records.exports import Exported, Exports
from benchmarks.resident import Resident
from benchmarks.startup.launch import launched
from engines.manifest import Manifest
from sonant.terminal import steps

KIB_PER_GIB = 2**20
CHOICES = tuple(name for name in recipes.RECIPES if name != "tiny")
REQUEST_SECONDS = 300.0
MIB_PER_GIB = 1024.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="sonant bench export", description="Export, verify and serve each true-size configuration once."
    )
    parser.add_argument("--models", type=console.numbers(str), default=CHOICES, metavar="NAME,NAME", help="which")
    parser.add_argument("--length", type=float, default=10.0, help="of the clip that is served, in seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the clip")
    parser.add_argument("--cache", type=Path, default=models.default_cache(), help="where checkpoints stay")
    parser.add_argument("--output", type=Path, help="write the result as JSON, such as benchmarks/results/exports.json")
    parser.set_defaults(threads=1)
    arguments = parser.parse_args(argv)
    if unknown := sorted(set(arguments.models) - set(recipes.RECIPES)):
        parser.error(f"--models {unknown[0]}: it can be of {', '.join(recipes.RECIPES)}")
    return console.main(measure, arguments)


def measure(arguments: argparse.Namespace) -> Exports:
    """Export, verify and serve each model; ValueError where one of them fails."""
    host = machine.describe()
    with steps() as progress:
        cells = []
        for name in arguments.models:
            checkpoint = recipes.make(name, arguments.cache / "checkpoints", progress)
            with tempfile.TemporaryDirectory(dir=arguments.cache) as folder:
                progress(f"Exporting {name}")
                cells.append(_measure(name, checkpoint, Path(folder), arguments))
    return Exports(
        run=console.describe_run("true sizes", sum(cell.parameters for cell in cells), arguments, host),
        seconds=arguments.length,
        cells=tuple(cells),
    )


def _measure(name: str, checkpoint: Path, folder: Path, arguments: argparse.Namespace) -> Exported:
    engine = folder / name
    chosen = recipes.RECIPES[name].variant
    variant = ["--variant", chosen] if chosen else []
    exported = sonant(["export", str(checkpoint), "--output", str(engine), *variant])
    verified = sonant(["verify", str(engine), "--threads", str(arguments.threads)])
    manifest = Manifest.read(engine)
    first, second, peak = serve(engine, manifest, arguments)
    size = sum(path.stat().st_size for path in engine.iterdir())
    shutil.rmtree(engine)
    return Exported(
        model=name,
        like=recipes.RECIPES[name].like,
        architecture=manifest.checkpoint.architecture,
        parameters=manifest.parameters,
        export_seconds=exported.seconds,
        export_peak_gib=exported.peak_gib,
        verify_seconds=verified.seconds,
        engine_bytes=size,
        error=max(error for graph in manifest.graphs for error in graph.errors.values()),
        ready_seconds=first,
        request_seconds=second,
        serve_peak_gib=peak,
        differences=manifest.variant_difference,
    )


@dataclass(frozen=True)
class Usage:
    """What a process took."""

    seconds: float
    peak_gib: float


# Runs a command and says how much memory it had at most. The system counts what a process had before it became the
# command too, so that one of our size must not start it.
LAUNCHER = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
"""


def sonant(arguments: Sequence[str]) -> Usage:
    """Run `sonant` with `arguments`; ValueError with what it said where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        peak = Path(folder) / "peak"
        launch = [sys.executable, "-S", "-c", LAUNCHER, str(peak)]
        started = time.perf_counter()
        done = subprocess.run(
            [*launch, sys.executable, "-m", "sonant.cli", *arguments], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise ValueError(f"sonant {' '.join(arguments)} failed: {(done.stdout + done.stderr)[-500:]}")
        return Usage(seconds, int(peak.read_text()) / KIB_PER_GIB)


def serve(engine: Path, manifest: Manifest, arguments: argparse.Namespace) -> tuple[float, float, float]:
    """Serve `engine` and encode one clip; return seconds until ready, of the request, and peak GiB."""
    with launched({engine.name: engine}, arguments.threads, {}) as server:
        ready = server.ready()
        clip = models.clips(1, arguments.length, manifest.sample_rate, arguments.seed)[0]
        body = _flac(clip, manifest.sample_rate)
        url, headers = f"http://{HOST}:{server.port}/v1/encode", {"Content-Type": "audio/flac"}
        with httpx.Client(timeout=REQUEST_SECONDS, params={"pooling": "mean"}) as client:
            started = time.perf_counter()
            answer = client.post(url, content=body, headers=headers)
            request = time.perf_counter() - started
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"{engine.name}: /v1/encode answered {answer.status_code}: {answer.text[:300]}")
        return ready, request, Resident.of(server.process.pid).peak / MIB_PER_GIB


def _flac(clip: np.ndarray, sample_rate: int) -> bytes:
    with tempfile.SpooledTemporaryFile() as file:
        soundfile.write(file, clip, sample_rate, format="FLAC")
        file.seek(0)
        return file.read()
