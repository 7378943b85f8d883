"""What each precision and runtime gains, and what it costs: `sonant bench precision`.

Every form that the exporter knows of a model is exported; those that this host can run are timed in turn with
transformers (eager, fp32), from waveforms to embeddings, and asked about held-out clips where the model was trained.
Results are written as they come: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks import console, machine, models, record
from benchmarks.engines import all_forms, held_out, side_by_side
from benchmarks.engines.all_forms import PRECISIONS, RUNTIMES, Made, Wanted
from benchmarks.engines.eager import Eager
from benchmarks.engines.opened import opened
from benchmarks.engines.side_by_side import TORCH, Compared
from benchmarks.machine import ROOT
from benchmarks.recipes import RECIPES
from benchmarks.records.precision import AIM_FLAGS, FormCell, FormTime, LengthCell, Precision
from benchmarks.stats import PairedRatio, Timing
from engines.errors import EngineError
from engines.manifest import Graph, Manifest
from export.errors import ExportError
from sonant.evaluation.data import Data, read
from sonant.evaluation.evaluate import evaluate
from sonant.runs.errors import RunError, UsageError
from sonant.terminal import steps

DEMO = tuple(str(folder.relative_to(ROOT)) for folder in sorted((ROOT / "demo" / "checkpoints").iterdir()))
# Of true size; a variant is another model than the one that it would be compared with.
TRUE_SIZES = tuple(name for name, recipe in RECIPES.items() if name != "tiny" and recipe.variant is None)
LENGTHS = (1.0, 5.0, 10.0, 30.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 where a model could not be measured."""
    arguments = _parser().parse_args(argv)
    host = machine.describe()
    lacking = " and ".join(flag for flag in AIM_FLAGS if flag not in host.flags)
    verdict = f"the aims are skipped, without {lacking}" if lacking else "the aims hold"
    print(f"{host.cpu}, {' '.join(host.flags)}: {verdict}", file=sys.stderr)
    torch.set_num_threads(arguments.threads)
    folder = arguments.held_out or held_out.prepare(arguments.cache)
    failed = False
    for subject in arguments.subjects:
        try:
            found = measure(subject, folder, arguments)
        except (ExportError, EngineError, RunError, UsageError, ValueError, console.WrongResultError) as problem:
            print(f"benchmark: {subject}: {problem}", file=sys.stderr)
            failed = True
        else:
            console.show(found)
        gc.collect()  # one model at a time
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sonant bench precision",
        description="Every precision and runtime of each model: size, speed against torch, error, quality.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "subjects",
        nargs="*",
        metavar="MODEL",
        default=(*DEMO, *TRUE_SIZES),
        help=f"a checkpoint's folder, or of true size with random weights: {', '.join(TRUE_SIZES)}",
    )
    parser.add_argument("--precisions", type=console.numbers(str), default=PRECISIONS, help="of the forms")
    parser.add_argument("--runtimes", type=console.numbers(str), default=RUNTIMES, help="of the forms")
    parser.add_argument("--lengths", type=console.numbers(float), default=LENGTHS, help="clips, in seconds")
    parser.add_argument("--threads", type=console.positive, default=1, help="threads of every side")
    parser.add_argument("--seconds", type=float, default=20.0, help="time to spend on each length, at least")
    parser.add_argument("--rounds", type=console.positive, default=5, help="rounds of each length, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the clips and of the bootstrap")
    parser.add_argument("--cache", type=Path, default=models.default_cache(), help="where checkpoints and engines stay")
    parser.add_argument("--held-out", type=Path, help="as demo.held_out writes it (default: in the cache, made first)")
    parser.add_argument("--remove", action="store_true", help="remove the engines of a model when it is done")
    parser.add_argument("--anew", action="store_true", help="measure again what is there")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="for precision-NAME.json")
    return parser


def measure(subject: str, folder: Path | None, arguments: argparse.Namespace) -> Precision:
    """Measure what is missing of `subject`, and write it as it comes; `folder` has held-out clips."""
    wanted_forms = all_forms.possible(arguments.precisions, arguments.runtimes)
    with steps() as progress:
        audio = held_out.calibration(folder, Path(subject).name)
        wanted = all_forms.wish(subject, wanted_forms, audio, arguments.cache, progress)
        path = arguments.results / f"precision-{wanted.name}.json"
        data = held_out.clips(folder, wanted.name)
        key = _key(wanted, arguments, data is not None)
        before = _before(path, key) if not arguments.anew else None
        if before is not None and before.complete:
            return before
        made = all_forms.make(wanted, arguments.cache, progress)
    result = before or _begun(wanted, made, key, arguments)
    keep = partial(record.write, path=path)
    result = _timed(result, wanted, made, arguments, keep)
    result = _asked(result, made, read(data) if data else None, arguments.threads, keep)
    result = result.model_copy(update={"complete": True})
    keep(result)
    if arguments.remove:
        all_forms.remove(wanted, arguments.cache)
    return result


def _key(wanted: Wanted, arguments: argparse.Namespace, has_data: bool) -> str:
    """Return what the figures hold for."""
    host = machine.describe()
    lengths = ",".join(f"{length:g}" for length in arguments.lengths)
    return (
        f"{wanted.key[:16]} {host.cpu} {' '.join(host.flags)}; {arguments.threads} threads, seed {arguments.seed}, "
        f"{lengths} s, {'' if has_data else 'no '}held-out clips"
    )


def _before(path: Path, key: str) -> Precision | None:
    """Return what an earlier run has measured of the same."""
    found = record.earlier(path, Precision)
    return found if found and found.key == key else None


def _begun(wanted: Wanted, made: Made, key: str, arguments: argparse.Namespace) -> Precision:
    """Return a record without times."""
    run = console.describe_run(wanted.name, made.manifest.parameters, arguments, machine.describe())
    cells = [_described(name, form.graphs, folder) for name, (folder, form) in made.usable.items()]
    for name, (reason, folder) in {**made.left_out, **all_forms.impossible()}.items():
        graphs = [graph for graph in Manifest.read(folder).graphs if graph.form == name] if folder else []
        cells.append(_described(name, graphs, folder).model_copy(update={"reason": reason}))
    return Precision(run=run, key=key, forms=tuple(cells))


def _described(name: str, graphs: Sequence[Graph], folder: Path | None) -> FormCell:
    if folder is None:
        return FormCell(form=name)
    files = {file for graph in graphs for file in graph.sha256}
    return FormCell(
        form=name,
        bytes=sum((folder / file).stat().st_size for file in files),
        error=max((value for graph in graphs for value in graph.errors.values()), default=None),
        cosine=min((value for graph in graphs for value in graph.cosines.values()), default=None),
    )


def _timed(
    result: Precision, wanted: Wanted, made: Made, arguments: argparse.Namespace, keep: Callable[[Precision], None]
) -> Precision:
    """Time all forms next to torch, length by length."""
    shortest, longest = made.manifest.seconds
    done = {cell.seconds for cell in result.lengths}
    lengths = [length for length in arguments.lengths if shortest <= length <= longest and length not in done]
    if not lengths:
        return result
    engines, problems = opened(made.usable, arguments.threads)
    eager = Eager(wanted.checkpoint)
    cells = [
        cell.model_copy(update={"reason": problems[cell.form]}) if cell.form in problems else cell
        for cell in result.forms
    ]
    result = result.model_copy(update={"attention": eager.attention, "forms": tuple(cells)})
    with console.progress_bar(len(lengths)) as progress:
        for index, seconds in enumerate(lengths):
            doing = console.Doing(progress, f"{wanted.name}, {seconds:g} s", index)
            clips = models.clips(1, seconds, made.manifest.sample_rate, arguments.seed)
            cell = _cell(seconds, side_by_side.compare(clips, engines, eager, arguments, doing), arguments.seed)
            result = result.model_copy(update={"lengths": (*result.lengths, cell)})
            keep(result)
    for engine in engines.values():
        engine.close()
    return result


def _cell(seconds: float, found: Compared, seed: int) -> LengthCell:
    torch_times = found.times[TORCH]
    return LengthCell(
        seconds=seconds,
        rounds=torch_times.size,
        torch=Timing.of(torch_times),
        forms={
            name: FormTime(
                time=Timing.of(found.times[name]),
                ratio=PairedRatio(torch_times, found.times[name], (seed, index)).estimate,
                error=worst,
                cosine=found.cosines[name],
            )
            for index, (name, worst) in enumerate(found.errors.items())
        },
    )


def _asked(
    result: Precision, made: Made, data: Data | None, threads: int, keep: Callable[[Precision], None]
) -> Precision:
    """Ask the forms about the held-out clips."""
    if data is None:
        return result
    flags = {"device": "cpu", "threads": threads, "workers": 1}
    for folder in dict.fromkeys(folder for folder, _ in made.usable.values()):
        names = [name for name, (place, _) in made.usable.items() if place == folder]
        for found in evaluate(folder, data, names, flags):
            cells = [
                cell.model_copy(update={"quality": found.measured}) if cell.form == found.form else cell
                for cell in result.forms
            ]
            result = result.model_copy(update={"forms": tuple(cells)})
            keep(result)
    return result
