"""Engines in every form by clip length and batch: `sonant bench latency`.

Every form that this host can run is timed in turn with transformers eager, from waveforms to embeddings in numpy, on
the same threads, and with a large product in its precision, whose rate is the most that it can hope for. Results are
written as they come: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks import console, machine, models, record
from benchmarks.base import Run
from benchmarks.engines import memory, operations, roofline, subjects
from benchmarks.engines.cells import measured
from benchmarks.engines.eager import Eager
from benchmarks.engines.memory import Peaks, Size
from benchmarks.engines.opened import opened
from benchmarks.engines.roofline import Product
from benchmarks.engines.side_by_side import FEWEST, TORCH
from benchmarks.engines.subjects import Subject
from benchmarks.machine import Machine
from benchmarks.records.cells import Cell, FormNote, Roof, SubjectCells
from benchmarks.records.latency import Latency
from engines.engine import Engine
from engines.errors import EngineError
from engines.manifest import BASE, Precision
from engines.parts import EMBEDDINGS
from export.errors import ExportError
from sonant.terminal import steps

MODELS = ("hubert-base", "sew-small", "ast-base")
# Whose rates are told. Processors have none for fp16 to speak of: torch takes seconds for a product.
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
QUICK = {"model": "tiny", "lengths": (0.5, 1.0), "batches": (1, 2), "seconds": 0.0, "rounds": 3, "forms": (BASE,)}
Roofs = Mapping[Precision, tuple[Product, Roof]]
Operations = Mapping[float, Mapping[str, int]]  # by clip length, by kind of node


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 where a model could not be measured."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.quick:
        parser.set_defaults(**QUICK)
        arguments = parser.parse_args(argv)
    result, problems = measure(arguments)
    for problem in problems:
        print(f"benchmark: {problem}", file=sys.stderr)
    if result.subjects:
        console.show(result)
    if result.subjects and arguments.output:
        record.write(result, arguments.output)
        print(f"Wrote {arguments.output}", file=sys.stderr)
    return int(bool(problems))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sonant bench latency",
        description="Engines in every form by clip length and batch, against transformers eager on the same threads.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    several = console.numbers(str)
    parser.add_argument("--model", type=several, default=MODELS, metavar="NAME,NAME", help="true size, random weights")
    parser.add_argument("--checkpoint", help="a checkpoint instead: a folder or a hub id")
    parser.add_argument("--engine", type=Path, help="an engine as it is, next to --checkpoint if that is given")
    parser.add_argument("--forms", type=several, metavar="NAME,NAME", help="RUNTIME/PRECISION (default: all there are)")
    parser.add_argument("--no-transformers", action="store_true", help="time the engines alone")
    parser.add_argument(
        "--lengths", type=console.numbers(float), default=(1.0, 5.0, 10.0, 30.0), help="clips, in seconds, where taken"
    )
    parser.add_argument(
        "--batches", type=console.numbers(console.positive), default=(1, 4, 16), help="clips in a batch"
    )
    parser.add_argument(
        "--batch-seconds", type=float, default=80.0, help="leave out batches with the work of more audio than this"
    )
    parser.add_argument("--threads", type=console.positive, default=1, help="threads of every side")
    parser.add_argument("--seconds", type=float, default=20.0, help="time to spend on each cell, at least")
    parser.add_argument("--rounds", type=console.positive, default=7, help="rounds of each cell, at least")
    parser.add_argument(
        "--limit", type=float, default=240.0, help=f"seconds beyond which a cell has fewer rounds, but {FEWEST}"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the clips and of the bootstrap")
    parser.add_argument("--cache", type=Path, default=models.default_cache(), help="where checkpoints and engines stay")
    parser.add_argument("--output", type=Path, help="write the result, such as benchmarks/results/latency.json")
    parser.add_argument("--anew", action="store_true", help="measure again what --output has")
    parser.add_argument("--quick", action="store_true", help="a tiny model and a few rounds: shows that it runs")
    return parser


def measure(arguments: argparse.Namespace) -> tuple[Latency, list[str]]:
    """Measure every model; return what was found, and what is wrong with those that could not be measured."""
    host = machine.describe()
    torch.set_num_threads(arguments.threads)
    seconds, rounds = (0.0, 1) if arguments.quick else (5.0, 5)
    with steps() as progress:
        progress("Measuring the rate of products")
        roofs = roofline.best(PRECISIONS, arguments.threads, seconds, rounds, host.flags, tiny=arguments.quick)
    result = Latency(run=_run((), arguments, host), roofs=tuple(roof for _, roof in roofs.values()))
    before = {} if arguments.anew else _before(arguments.output)
    problems = []
    for chosen in subjects.chosen(arguments):
        try:
            with steps() as progress:
                subject = subjects.prepare(chosen, arguments, progress)
            earlier = before.get(subject.key)
            keep = partial(_keep, result, arguments, host)
            result = _with(result, _measure(subject, earlier, roofs, arguments, keep), arguments, host)
        except (ExportError, EngineError, ValueError, console.WrongResultError) as problem:
            problems.append(f"{chosen}: {problem}")
        gc.collect()  # one model at a time
    return result, problems


def _before(path: Path | None) -> dict[str, SubjectCells]:
    """Return what an earlier run has measured, by what it holds for."""
    found = record.earlier(path, Latency)
    return {each.key: each for each in found.subjects} if found else {}


def _with(result: Latency, subject: SubjectCells, arguments: argparse.Namespace, host: Machine) -> Latency:
    every = (*result.subjects, subject)
    return result.model_copy(update={"subjects": every, "run": _run(every, arguments, host)})


def _keep(result: Latency, arguments: argparse.Namespace, host: Machine, subject: SubjectCells) -> None:
    if arguments.output:
        record.write(_with(result, subject, arguments, host), arguments.output)


def _run(every: Sequence[SubjectCells], arguments: argparse.Namespace, host: Machine) -> Run:
    names = ", ".join(subject.name for subject in every)
    return console.describe_run(names, sum(subject.parameters for subject in every), arguments, host)


def _measure(
    subject: Subject,
    before: SubjectCells | None,
    roofs: Roofs,
    arguments: argparse.Namespace,
    keep: Callable[[SubjectCells], None],
) -> SubjectCells:
    """Measure the cells that are missing of one model, and have each kept as it comes."""
    usable = {name: each for name, each in subject.made.usable.items() if each[1].precision in roofs}
    engines, broken = opened(usable, arguments.threads)
    broken |= {name: "no rate of products is known" for name in subject.made.usable if name not in usable}
    eager = Eager(subject.checkpoint) if subject.checkpoint and not arguments.no_transformers else None
    counted = _operations(engines[BASE], arguments)
    sizes = sizes_of(arguments, {seconds: sum(kinds.values()) for seconds, kinds in counted.items()})
    products = {precision: product for precision, (product, _) in roofs.items()}
    result = before or SubjectCells(
        name=subject.name,
        parameters=subject.made.manifest.parameters,
        key=subject.key,
        attention=eager.attention if eager else None,
        forms=tuple(_notes(subject, engines, broken)),
    )
    done = {(cell.seconds, cell.batch) for cell in result.cells}
    left = [size for size in sizes if size not in done]
    with_torch = eager is not None and not arguments.quick  # it takes seconds to be imported
    peaks = _peaks(subject, engines, left, with_torch, arguments.threads) if left else {}
    with console.progress_bar(len(left)) as progress:
        for index, (seconds, batch) in enumerate(left):
            doing = console.Doing(progress, f"{subject.name}, {seconds:g} s, batch {batch}", index)
            cell = measured((seconds, batch), engines, eager, products, counted[seconds], arguments, doing)
            cell = _with_memory(cell, peaks)
            result = result.model_copy(update={"cells": (*result.cells, cell), "complete": False})
            keep(result)
    for engine in engines.values():
        engine.close()
    return result.model_copy(update={"complete": True})


def _operations(engine: Engine, arguments: argparse.Namespace) -> Operations:
    """Count the operations of a clip of each length that the engine takes; ValueError where it takes none."""
    shortest, longest = engine.manifest.seconds
    lengths = [seconds for seconds in arguments.lengths if shortest <= seconds <= longest]
    if not lengths:
        raise ValueError(f"nothing to measure: the engine takes {shortest:g} to {longest:g} s")
    output, graph = engine.manifest.output(EMBEDDINGS), engine.graph_for([EMBEDDINGS])
    clips = {seconds: models.clips(1, seconds, engine.manifest.sample_rate, arguments.seed)[0] for seconds in lengths}
    return {seconds: operations.count(engine.folder, graph, output, clip) for seconds, clip in clips.items()}


def sizes_of(arguments: argparse.Namespace, counted: Mapping[float, int]) -> list[Size]:
    """Return (seconds, batch) of each cell; ValueError where there is none.

    The work of a batch is told in seconds of audio in clips of the greatest length, so that where every clip is
    filled up to one length that counts.
    """
    longest = max(counted)
    per_second = counted[longest] / longest
    found = [
        (seconds, batch)
        for batch in arguments.batches
        for seconds, each in counted.items()
        if batch == 1 or batch * each / per_second <= arguments.batch_seconds
    ]
    if not found:
        raise ValueError("nothing to measure: every batch has more audio than --batch-seconds")
    return found


def _notes(subject: Subject, engines: Mapping[str, Engine], broken: Mapping[str, str]) -> list[FormNote]:
    """Say what is known of each form, and why others are not measured."""
    found = []
    for form, engine in engines.items():
        graph = engine.graph_for([EMBEDDINGS])
        found.append(FormNote(form=form, bytes=engine.file_bytes([graph]), one_by_one=graph.max_rows == 1))
    skipped = {form: reason for form, (reason, _) in subject.made.left_out.items()} | dict(broken)
    return [*found, *(FormNote(form=form, reason=reason) for form, reason in skipped.items())]


def _peaks(
    subject: Subject, engines: Mapping[str, Engine], sizes: Sequence[Size], with_torch: bool, threads: int
) -> dict[str, Peaks]:
    """Measure the memory of each side, one after the other."""
    sides = {form: ["engine", str(engine.folder), form] for form, engine in engines.items()}
    if with_torch and subject.checkpoint:
        sides[TORCH] = ["transformers", str(subject.checkpoint.folder)]
    found = {}
    with steps() as progress:
        for name, side in sides.items():
            progress(f"Measuring the memory of {subject.name}, {name}")
            found[name] = memory.peaks(side, sizes, threads)
    return found


def _with_memory(cell: Cell, peaks: Mapping[str, Peaks]) -> Cell:
    """Return `cell` with what was measured of the memory of each side."""
    found = {name: each.get((cell.seconds, cell.batch)) for name, each in peaks.items()}
    forms = {form: each.model_copy(update={"peak_gib": found.get(form)}) for form, each in cell.forms.items()}
    return cell.model_copy(update={"forms": forms, "transformers_peak_gib": found.get(TORCH)})
