"""`sonant transcribe` over many files, against the same engine on the same clips: `sonant bench offline`."""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from benchmarks import console
from benchmarks.interleave import interleave, warm_up
from benchmarks.load import subjects
from benchmarks.load.requests import mixed
from benchmarks.load.subjects import Subject
from benchmarks.load.throughput import ALONE, BATCHED, by_length, offline
from benchmarks.records.offline import Offline, OfflineCell
from benchmarks.stats import PairedRatio
from engines.batch import Clip
from engines.engine import Engine
from engines.manifest import Manifest, Task

COMMAND = "command"
# How the command ends: what it says of the run.
ENDED = re.compile(r"(\d+) of (\d+) files done.* in (\S+) s: \S+ s/s; started in (\S+) s")
# What each command asks of an engine, and with which options.
ASKED: dict[Task, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "transcribe": (("logits",), ()),
    "classify": (("logits",), ()),
    "encode": (("embeddings",), ("--pooling=mean",)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="sonant bench offline", description=__doc__, allow_abbrev=False)
    subjects.add_options(parser, subjects.DEMO[:1])
    parser.add_argument("--workers", type=console.positive, default=1, help="batches at a time, of both sides")
    parser.add_argument("--files", type=console.positive, default=500)
    parser.add_argument("--lengths", type=console.numbers(float), default=(1.0, 20.0), help="shortest and longest clip")
    parser.add_argument("--format", choices=("flac", "wav", "ogg"), default="flac", help="of the files")
    parser.add_argument("--seconds", type=float, default=60.0, help="time to spend on each engine, at least")
    parser.add_argument("--rounds", type=console.positive, default=5, help="of each engine, at least")
    parser.add_argument(
        "--batch-seconds", type=float, default=30.0, help="of a batch of the engine alone, with padding"
    )
    return console.main(measure, parser.parse_args(argv))


def measure(arguments: argparse.Namespace) -> Offline:
    """Measure every engine; ValueError where a file fails."""
    found, host = subjects.prepare(arguments)
    cells = []
    with console.progress_bar(len(found)) as progress:
        for index, subject in enumerate(found):
            cells.append(_measure(subject, arguments, console.Doing(progress, subject.name, index)))
    return Offline(
        run=subjects.describe(found, arguments, host),
        lengths=arguments.lengths,
        file_format=arguments.format,
        batch_seconds=arguments.batch_seconds,
        workers=arguments.workers,
        cells=tuple(cells),
    )


def _measure(subject: Subject, arguments: argparse.Namespace, doing: console.Doing) -> OfflineCell:
    rate, task = subject.manifest.sample_rate, task_of(subject.manifest)
    outputs, options = ASKED[task]
    with tempfile.TemporaryDirectory() as folder:
        clips = write(
            mixed(subject.manifest, arguments.lengths, arguments.files, arguments.seed),
            Path(folder),
            rate,
            arguments.format,
        )
        engine = subject.engine(arguments.threads)
        options = (f"--threads={arguments.threads}", f"--workers={arguments.workers}", *options)
        command = Command(task, Path(folder), [f"--model={subject.folder}", *options])
        batches = by_length(clips, int(arguments.batch_seconds * rate))
        alone = Processor(partial(parallel, arguments.workers, engine, [[clip] for clip in clips], outputs))
        batched = Processor(partial(parallel, arguments.workers, engine, batches, outputs))
        contestants: dict[str, Callable[[], object]] = {COMMAND: command, ALONE: alone, BATCHED: batched}
        warm_up(contestants)
        for each in (command, alone, batched):
            each.forget()
        times = interleave(contestants, arguments.seconds, arguments.rounds, doing.tick)
    seconds, runs = sum(map(len, clips)) / rate, np.array(command.runs)
    faster, processor = min(((ALONE, alone), (BATCHED, batched)), key=lambda side: float(np.median(times[side[0]])))
    return OfflineCell(
        model=subject.name,
        task=task,
        parameters=subject.manifest.parameters,
        files=len(clips),
        audio_seconds=seconds,
        rounds=runs.size,
        command=seconds / float(np.median(runs)),
        alone=seconds / float(np.median(times[ALONE])),
        batched=seconds / float(np.median(times[BATCHED])),
        ratio=PairedRatio(times[faster], runs, (arguments.seed, len(clips))).estimate,
        start_seconds=float(np.median(times[COMMAND] - runs)),
        command_cpu_seconds=float(np.median(command.processor)),
        engine_cpu_seconds=float(np.median(processor.processor)),
    )


def task_of(manifest: Manifest) -> Task:
    """Return what is asked of an engine: to transcribe if it can, else to classify, else to encode."""
    # A model that writes is as slow as its texts are long, which those about noise are by chance.
    if manifest.ctc is not None:
        return "transcribe"
    return "classify" if "classify" in manifest.tasks else "encode"


def parallel(workers: int, engine: Engine, batches: Sequence[Sequence[Clip]], outputs: Sequence[str]) -> None:
    """Run all batches, so many at a time, the longest first."""
    with ThreadPoolExecutor(workers) as threads:
        ordered = sorted(batches, key=lambda batch: -len(batch[0]) * len(batch))
        list(threads.map(lambda batch: offline(engine, [batch], outputs), ordered))


def write(clips: Sequence[Clip], folder: Path, rate: int, file_format: str) -> list[Clip]:
    """Write `clips` into `folder`; return what stands in the files."""
    found = []
    for index, clip in enumerate(clips):
        path = folder / f"{index:05}.{file_format}"
        soundfile.write(path, clip, rate)
        found.append(soundfile.read(path, dtype="float32")[0])
    return found


class Command:
    """`sonant` over the files of a folder, as a process."""

    def __init__(self, task: Task, folder: Path, options: Sequence[str]) -> None:
        self._files = len(list(folder.iterdir()))
        output = f"--output={folder / 'results.jsonl'}"
        self._command = [
            sys.executable,
            "-m",
            "sonant.cli",
            task,
            str(folder),
            output,
            "--overwrite",
            "--quiet",
            *options,
        ]
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.runs: list[float] = []  # seconds without the start, as it says itself
        self.processor: list[float] = []  # seconds of processor time

    def __call__(self) -> None:
        """Run it once. Raises ValueError where a file fails."""
        before = _children()
        done = subprocess.run(self._command, capture_output=True, text=True, check=False)
        self.processor.append(_children() - before)
        ended = ENDED.search(done.stderr)
        if ended is None or int(ended[1]) != self._files:
            raise ValueError(f"the command failed with status {done.returncode}: {done.stderr[-1000:]}")
        self.runs.append(float(ended[3]))


class Processor:
    """Something in this process, with the processor time that it takes."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.processor: list[float] = []

    def __call__(self) -> None:
        """Run it once."""
        before = time.process_time()
        self._run()
        self.processor.append(time.process_time() - before)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
