"""Our engines and those that users would pick instead, from waveforms to embeddings, in processes of their own.

Every peer has its own environment and is set up as its documentation advises; all have the same threads. Those of one
precision, transformers, and the fastest peer in fp32 are timed in turn, on single clips and on clips of mixed lengths,
while all others stand still. Results are written as they come: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import console, machine, models, record
from benchmarks.base import Run
from benchmarks.machine import ROOT, Machine
from benchmarks.peers import race
from benchmarks.peers.field import MIXED, Field, begun, cases, gather
from benchmarks.peers.process import Process
from benchmarks.peers.race import Case, Pace, Side
from benchmarks.peers.roster import PEERS, Entrant
from benchmarks.records.peers import PADDED, PRECISIONS, TRUTH, Group, ModelPeers, PeerEngines, Precision
from engines.errors import EngineError
from engines.manifest import BASE
from export.errors import ExportError
from sonant.terminal import steps

MODELS = ("hubert-base", "sew-small", "ast-base")
DEMO = "sew-commands-english"  # an engine that is there: nothing is exported first
QUICK = {
    "models": (DEMO,),
    "engine": ROOT / "demo" / "engines" / DEMO,
    "checkpoint": str(ROOT / "demo" / "checkpoints" / DEMO),
    "peers": (TRUTH,),
    "lengths": ("0.5", MIXED),
    "batch": 2,
    "forms": (BASE,),
    "threads": 1,
    "seconds": 0.0,
    "rounds": 2,
    "output": None,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    several = console.numbers(str)
    parser.add_argument("--models", type=several, default=MODELS, metavar="NAME,NAME", help="true size, random weights")
    parser.add_argument(
        "--peers", type=_peers, default=tuple(PEERS), metavar="NAME,NAME", help=f"of: {', '.join(PEERS)}"
    )
    parser.add_argument("--forms", type=several, metavar="NAME,NAME", help="our RUNTIME/PRECISION (default: all)")
    parser.add_argument(
        "--lengths",
        type=several,
        default=("1", "5", "10", "30", MIXED),
        help=f"clips, in seconds, where the model takes them; {MIXED}: several as long as utterances are",
    )
    parser.add_argument("--batch", type=console.positive, default=8, help=f"clips of {MIXED}")
    parser.add_argument(
        "--threads",
        type=console.positive,
        default=machine.describe().usable_cores,
        help="threads of every side (default: all cores)",
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="time to spend on each cell, at least")
    parser.add_argument("--rounds", type=console.positive, default=5, help="rounds of each cell, at least")
    parser.add_argument(
        "--limit", type=float, default=120.0, help=f"seconds beyond which a cell has fewer rounds, but {race.FEWEST}"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the clips and of the bootstrap")
    parser.add_argument("--cache", type=Path, default=models.default_cache(), help="where all that is made stays")
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "benchmarks" / "results" / "peers-engines.json",
        help="write the result as JSON, as it comes",
    )
    parser.add_argument("--anew", action="store_true", help="measure again what --output has")
    # What `benchmarks.engines.subjects` can do beside.
    parser.set_defaults(engine=None, checkpoint=None, no_transformers=False)


def _peers(text: str) -> tuple[str, ...]:
    """Parse names of peers; transformers, which has the truth, is always among them."""
    names = dict.fromkeys((TRUTH, *text.split(",")))
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"there is no peer called {name}: it can be {', '.join(PEERS)}")
    return tuple(names)


def measure(arguments: argparse.Namespace) -> PeerEngines:
    """Measure every model; ValueError, when the others are measured and shown, names those that could not be."""
    host = machine.describe()
    result = PeerEngines(run=_run((), arguments, host))
    before = {} if arguments.anew else _before(arguments.output)
    problems = []
    for index, model in enumerate(arguments.models):
        # What is known of those whose turn is still to come stays in the file.
        later = [each for each in before.values() if each.model in arguments.models[index + 1 :]]

        def keep(found: ModelPeers, result: PeerEngines = result, later: Sequence[ModelPeers] = later) -> None:
            if arguments.output is not None:
                record.write(_with(result, (found, *later), arguments), arguments.output)

        try:
            with steps() as progress:
                field = gather(model, arguments, progress)
            found = _measure(field, before.get(field.key) or begun(field), arguments, keep)
            result = _with(result, (found,), arguments)
        except (ExportError, EngineError, ValueError, console.WrongResultError) as problem:
            problems.append(f"{model}: {problem}")
        gc.collect()  # one model at a time
    if problems:
        if result.models:
            console.show(result)
        raise ValueError("; ".join(problems))
    return result.model_copy(update={"complete": True})


def _before(path: Path | None) -> dict[str, ModelPeers]:
    """Return what an earlier run has measured, by what it holds for."""
    found = record.earlier(path, PeerEngines)
    return {each.key: each for each in found.models} if found else {}


def _run(every: Sequence[ModelPeers], arguments: argparse.Namespace, host: Machine) -> Run:
    names = ", ".join(each.model for each in every)
    return console.describe_run(names, sum(each.parameters for each in every), arguments, host)


def _with(result: PeerEngines, found: Sequence[ModelPeers], arguments: argparse.Namespace) -> PeerEngines:
    every = (*result.models, *found)
    return result.model_copy(update={"models": every, "run": _run(every, arguments, result.run.machine)})


def _measure(
    field: Field, found: ModelPeers, arguments: argparse.Namespace, keep: Callable[[ModelPeers], None]
) -> ModelPeers:
    """Measure what is missing of a model, precision by precision, and have it kept as it comes."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = cases(arguments, field.subject.made.manifest, Path(folder))
        for precision in PRECISIONS:
            done = {group.clips for group in found.groups if group.precision == precision}
            left = [case for case in wanted if case.label not in done]
            best = {group.clips: group.reference for group in found.groups if group.precision == "fp32"}
            for group, problems in _groups(field, precision, left, best, arguments, Path(folder)):
                contestants = (
                    one.model_copy(update={"reason": problems.get(one.name, one.reason)}) for one in found.contestants
                )
                groups = (*found.groups, group)
                found = found.model_copy(update={"groups": groups, "contestants": tuple(contestants)})
                keep(found)
    return found


def _groups(
    field: Field,
    precision: Precision,
    left: Sequence[Case],
    best: Mapping[str, str],
    arguments: argparse.Namespace,
    folder: Path,
) -> Iterator[tuple[Group, dict[str, str]]]:
    """Yield what comes of each case, and which contestants could not be loaded; `best` are the fastest fp32 peers."""
    own = [one for one in field.entrants if one.precision == precision and one.name not in field.left_out]
    if not left or not own:
        return
    known = {} if precision == "fp32" else best
    names = [TRUTH, *(name.removesuffix(PADDED) for name in known.values())]
    entrants = list({one.name: one for one in (*(PEERS[name] for name in names), *own)}.values())
    pace = Pace(arguments.seconds, arguments.rounds, arguments.limit, arguments.seed)
    with ExitStack() as stack:
        with steps() as progress:
            start = partial(field.start, threads=arguments.threads)
            processes, problems = race.load(entrants, start, stack, progress)
        if TRUTH in problems:
            raise ValueError(f"{TRUTH}: {problems[TRUTH]}")
        with console.progress_bar(len(left)) as bar:
            for index, case in enumerate(left):
                doing = console.Doing(bar, f"{field.subject.name}, {precision}, {case.label}", index)
                sides = list(_sides(case, processes, own, known.get(case.label)))
                yield race.measure(case, precision, sides, known.get(case.label), pace, folder, doing.tick), problems


def _sides(
    case: Case, processes: Mapping[str, Process], own: Sequence[Entrant], reference: str | None
) -> Iterator[Side]:
    """Yield who runs a case: transformers first, the best fp32 peer where that is known, and those of the precision."""
    several = len(case.clips) > 1
    for name, process in processes.items():
        entrant = PEERS.get(name) or next(one for one in own if one.name == name)
        if name in (TRUTH, reference) or entrant in own:
            yield Side(entrant, process, padded=False)
        padded = name + PADDED
        if several and ((entrant.padded and entrant in own) or padded == reference):
            yield Side(entrant, process, padded=True)
