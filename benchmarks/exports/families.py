"""What is exported, verified and served of each family: `sonant bench families`.

Small checkpoints with random weights, from those that the tests draw theirs from: each is exported, verified, served
and asked over HTTP, and every answer is compared with what transformers computes for the clip alone.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers.utils import logging

from benchmarks import console, machine
from benchmarks.records.exports import Families, FamilyCell
from engines.engine import Engine
from export.exporter import export
from export.outputs import DEFAULT_OUTPUTS
from sonant.terminal import steps
from tests.server.agreement import errors
from tests.server.process import noise, serving
from tests.zoo import Kind, Specimen, kinds

SECONDS = (0.31, 0.9, 0.62)  # of the clips, all in one request


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="sonant bench families", description="Export, verify and serve small checkpoints of every class."
    )
    parser.add_argument("--families", type=console.numbers(str), metavar="NAME,NAME", help="which (default: all)")
    parser.add_argument("--output", type=Path, help="write the result, such as benchmarks/results/families.json")
    parser.set_defaults(threads=1, seed=0)
    arguments = parser.parse_args(argv)
    if unknown := sorted(set(arguments.families or ()) - set(kinds())):
        parser.error(f"--families {unknown[0]}: it can be of {', '.join(kinds())}")
    return console.main(measure, arguments)


def measure(arguments: argparse.Namespace) -> Families:
    """Take every class through; ExportError, EngineError or WrongResultError where one fails."""
    host = machine.describe()
    logging.disable_progress_bar()  # of transformers, as it writes checkpoints: it would break into ours
    chosen = [(kind, *each) for kind in kinds().values() for each in specimens(kind)]
    if arguments.families:
        chosen = [each for each in chosen if each[0].name in arguments.families]
    with tempfile.TemporaryDirectory() as folder, steps() as progress:
        cells = _cells(Path(folder), chosen, progress)
    run = console.describe_run("every family", sum(cell.parameters for cell in cells), arguments, host)
    return Families(run=run, cells=tuple(cells))


def specimens(kind: Kind) -> list[tuple[str, Specimen]]:
    """Return what is exported of a family: each class as it is, and each named configuration."""
    return [*(("", Specimen(architecture)) for architecture in kind.architectures), *kind.exports.items()]


def _cells(
    folder: Path, chosen: Sequence[tuple[Kind, str, Specimen]], progress: Callable[[str], None]
) -> list[FamilyCell]:
    cells = []
    for index, (kind, name, specimen) in enumerate(chosen):
        progress(f"{specimen.architecture} {name}".strip())
        checkpoint = kind.write(folder / "checkpoints" / str(index), specimen.architecture, **specimen.config)
        models = folder / "models" / str(index)
        outputs = (*DEFAULT_OUTPUTS, *["attentions"] * specimen.options.attentions)
        variant = specimen.options.variant
        engine = export(str(checkpoint), models / "model", outputs=outputs, variant=variant, max_seconds=20)
        manifest = Engine(models / "model").manifest
        with serving(models) as server:  # ready: every graph has reproduced its golden clips
            clips = [noise(seconds, seed=place) for place, seconds in enumerate(SECONDS)]
            found = errors(server.client, "model", manifest, checkpoint, specimen.options, clips)
        cells.append(
            FamilyCell(
                family=kind.name,
                architecture=specimen.architecture,
                configuration=name,
                parameters=manifest.parameters,
                outputs=tuple(dict.fromkeys(output.name.partition(".")[0] for output in manifest.outputs)),
                alone=max(check.alone for checks in engine.checks.values() for check in checks),
                batch=max(check.batch for checks in engine.checks.values() for check in checks),
                differences=manifest.variant_difference,
                answers={
                    task: console.check(f"{specimen.architecture} over HTTP", worst) for task, worst in found.items()
                },
            )
        )
    return cells
