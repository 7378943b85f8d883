"""What `sonant bench latency` measures: recipes, a checkpoint, or an engine as it is."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import machine, models
from benchmarks.engines import all_forms, held_out
from benchmarks.engines.all_forms import PRECISIONS, RUNTIMES, Made
from benchmarks.recipes import RECIPES
from engines.manifest import BASE, MANIFEST_NAME
from export import checkpoint as checkpoints
from export.checkpoint import Checkpoint

INT8 = "/int8"  # how the names of forms end that are calibrated


@dataclass(frozen=True)
class Subject:
    """Engines of one model, and the checkpoint that they are compared with, if there is one."""

    name: str
    checkpoint: Checkpoint | None
    made: Made
    key: str  # what figures of it hold for


def chosen(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return what is to be measured, in words for `prepare`."""
    if arguments.engine:
        return (str(arguments.engine),)
    return (arguments.checkpoint,) if arguments.checkpoint else arguments.model


def prepare(subject: str, arguments: argparse.Namespace, progress: Callable[[str], None]) -> Subject:
    """Return a recipe, a checkpoint or an engine, with what is missing made.

    Raises ExportError, EngineError, or ValueError where there is no such recipe, no such form, or no way to make them.
    """
    if arguments.engine:
        checkpoint = checkpoints.resolve(arguments.checkpoint) if arguments.checkpoint else None
        manifest = (arguments.engine / MANIFEST_NAME).read_bytes() if arguments.engine.is_dir() else b""
        made = _only(all_forms.of_engine(arguments.engine), arguments.forms)
        return Subject(arguments.engine.name, checkpoint, made, _key(arguments, manifest.decode(), subject))
    if not arguments.checkpoint and subject not in RECIPES:
        raise ValueError(f"there is no such model: it can be {', '.join(RECIPES)}")
    if arguments.forms == (BASE,):  # the engine that the other benchmarks measure
        found = models.prepare(subject, arguments.checkpoint, (), arguments.cache, progress)
        made = all_forms.of_engine(found.folder)
        return Subject(found.name, found.checkpoint, made, _key(arguments, models.sources(), found.checkpoint.sha256))
    forms = arguments.forms or all_forms.possible(PRECISIONS, RUNTIMES)
    forms = [form for form in forms if form != BASE]  # which is always made
    clips = held_out.prepare(arguments.cache) if any(form.endswith(INT8) for form in forms) else None
    wanted = all_forms.wish(subject, forms, held_out.calibration(clips, Path(subject).name), arguments.cache, progress)
    made = all_forms.make(wanted, arguments.cache, progress)
    made = replace(made, left_out={**made.left_out, **all_forms.impossible()})
    return Subject(wanted.name, wanted.checkpoint, made, _key(arguments, wanted.key))


def _only(made: Made, forms: Sequence[str] | None) -> Made:
    """Return `made` with nothing but `forms` and the exact one; ValueError names one that cannot be run."""
    if forms is None:
        return made
    if missing := [form for form in forms if form not in made.usable]:
        reason = made.left_out.get(missing[0], ("the engine does not have it", None))[0]
        raise ValueError(f"{missing[0]}: {reason}")
    usable = {name: each for name, each in made.usable.items() if name in {BASE, *forms}}
    return replace(made, usable=usable, left_out={})


def _key(arguments: argparse.Namespace, *made_of: str) -> str:
    """Return what the figures hold for."""
    host = machine.describe()
    described = {
        "subject": made_of,
        "host": [host.cpu, *host.flags],
        "versions": machine.versions(),
        "settings": [arguments.threads, arguments.seed, arguments.no_transformers, arguments.seconds, arguments.rounds],
        "forms": arguments.forms,
    }
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
