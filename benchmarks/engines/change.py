"""What a change to the exporter gains: `sonant bench change BEFORE AFTER --what TEXT`.

The two engines are exports of one checkpoint, before the change and after it, and take turns on the same clips. Their
rows join those that --output has of other changes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks import console, machine, models, record
from benchmarks.base import Run
from benchmarks.engines.opened import embeddings, in_form
from benchmarks.interleave import interleave, warm_up
from benchmarks.machine import ROOT, Machine
from benchmarks.records.change import ChangeCell, Changes
from benchmarks.stats import PairedRatio, Timing
from engines.engine import Engine
from engines.forms import every
from engines.manifest import BASE, Manifest
from engines.verify import error

QUICK = ROOT / "demo" / "engines" / "sew-commands-english"
BEFORE, AFTER = "before", "after"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="sonant bench change",
        description="Two exports of one checkpoint, timed in turn: what a change to the exporter gains.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("before", nargs="?", type=Path, help="the engine as it was")
    parser.add_argument("after", nargs="?", type=Path, help="and as it is")
    parser.add_argument("--what", help="the change, in a few words")
    parser.add_argument("--forms", type=console.numbers(str), default=(BASE,), help="RUNTIME/PRECISION, of both")
    parser.add_argument("--lengths", type=console.numbers(float), default=(1.0, 10.0, 30.0), help="clips, in seconds")
    parser.add_argument("--threads", type=console.positive, default=1, help="of both")
    parser.add_argument("--seconds", type=float, default=20.0, help="to spend on each cell, at least")
    parser.add_argument("--rounds", type=console.positive, default=9, help="of each cell, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the clips and of the bootstrap")
    parser.add_argument("--output", type=Path, help="such as benchmarks/results/changes.json")
    parser.add_argument("--quick", action="store_true", help="a small engine and itself: shows that it runs")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        parser.set_defaults(before=QUICK, after=QUICK, what="none", lengths=(0.5,), seconds=0.0, rounds=3)
        arguments = parser.parse_args(argv)
    if arguments.after is None or not arguments.what:
        parser.error("give BEFORE, AFTER and --what")
    return console.main(measure, arguments)


def measure(arguments: argparse.Namespace) -> Changes:
    """Time both engines; ValueError unless they are of one checkpoint, WrongResultError where they differ."""
    host = machine.describe()
    before, after = (Manifest.read(folder) for folder in (arguments.before, arguments.after))
    if before.checkpoint.sha256 != after.checkpoint.sha256:
        raise ValueError(f"{arguments.before} and {arguments.after} are exports of two checkpoints")
    for name, manifest in ((arguments.before, before), (arguments.after, after)):
        if lacking := set(arguments.forms) - {form.name for form in every(manifest)}:
            raise ValueError(f"{name} has no {min(lacking)}")
    earlier = _earlier(arguments.output, host)  # before anything is measured that could not be added
    model = Path(after.checkpoint.source).name
    run = console.describe_run(model, after.parameters, arguments, host)
    cells = tuple(_cells(arguments, after, run))
    if not cells:
        raise ValueError(f"nothing to measure: {arguments.after} takes {after.seconds[0]:g} to {after.seconds[1]:g} s")
    known = {cell.key for cell in cells}
    return Changes(run=run, cells=(*(cell for cell in earlier if cell.key not in known), *cells))


def _earlier(path: Path | None, host: Machine) -> tuple[ChangeCell, ...]:
    """Return the rows at `path`; ValueError where what stands there is not to be added to, and would be lost."""
    if path is None or not path.exists():
        return ()
    found = record.earlier(path, Changes)
    if found is None or found.run.machine.cpu != host.cpu:
        what = "holds no changes that can be read" if found is None else "was measured on another machine"
        raise ValueError(f"{path} {what}: choose another --output")
    return found.cells


def _cells(arguments: argparse.Namespace, manifest: Manifest, run: Run) -> Iterator[ChangeCell]:
    shortest, longest = manifest.seconds
    lengths = [seconds for seconds in arguments.lengths if shortest <= seconds <= longest]
    with console.progress_bar(len(arguments.forms) * len(lengths)) as bar:
        for index, form in enumerate(arguments.forms):
            engines = {
                BEFORE: in_form(arguments.before, form, arguments.threads),
                AFTER: in_form(arguments.after, form, arguments.threads),
            }
            for place, seconds in enumerate(lengths):
                doing = console.Doing(bar, f"{form}, {seconds:g} s", index * len(lengths) + place)
                yield _cell(arguments, engines, form, seconds, run, doing)


def _cell(
    arguments: argparse.Namespace,
    engines: dict[str, Engine],
    form: str,
    seconds: float,
    run: Run,
    doing: console.Doing,
) -> ChangeCell:
    manifest = engines[AFTER].manifest
    clips = models.clips(1, seconds, manifest.sample_rate, arguments.seed)
    contestants = {name: partial(embeddings, engine, clips) for name, engine in engines.items()}
    found = warm_up(contestants)
    difference = error(found[AFTER][0], found[BEFORE][0])
    if form == BASE:
        console.check(f"the embeddings differ at {seconds:g} s", difference)
    times = interleave(contestants, arguments.seconds, arguments.rounds, doing.tick)
    before, after = times[BEFORE], times[AFTER]
    return ChangeCell(
        what=arguments.what,
        model=run.model,
        form=form,
        seconds=seconds,
        threads=arguments.threads,
        before=Timing.of(before),
        after=Timing.of(after),
        ratio=PairedRatio(before, after, (arguments.seed, round(1000 * seconds))).estimate,
        difference=difference,
        rounds=before.size,
        date=run.date,
        commit=run.commit,
    )
