"""Every form that there is of a checkpoint, exported once and kept: what `precision` and `latency` measure."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks import machine, models, recipes
from benchmarks.exports import true_size
from engines import forms
from engines.forms import Form
from engines.manifest import BASE, MANIFEST_NAME, Manifest
from engines.runtimes import RuntimeOptions
from export import checkpoint as checkpoints
from export import precision as writers
from export.checkpoint import Checkpoint

PROBE = "probe.safetensors"  # beside a checkpoint: a classifier of its embeddings
PRECISIONS, RUNTIMES = ("fp32", "fp16", "bf16", "int8"), ("onnxruntime", "openvino")  # on a processor
SAID = "sonant: "  # begins what the command says of a failure that it knows


@dataclass(frozen=True)
class Wanted:
    """A checkpoint, and the forms to make of it; `calibrate` is a folder of audio."""

    name: str
    checkpoint: Checkpoint
    variant: str | None
    forms: tuple[str, ...]  # beside the exact one
    calibrate: Path | None

    @property
    def key(self) -> str:
        """What the engines follow from, as a hash."""
        made_of = {
            "exporter": models.sources(),
            "versions": machine.versions(),
            "checkpoint": self.checkpoint.sha256,
            "forms": self.forms,
            "calibrate": self.calibrate is not None,
        }
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Made:
    """The engines: which folder has which form, those that this host can run, and why the others are not there."""

    manifest: Manifest  # of the exact one
    usable: dict[str, tuple[Path, Form]]
    left_out: dict[str, tuple[str, Path | None]]  # a reason; the folder where there are graphs of it


def wish(
    subject: str, wanted: Sequence[str], calibrate: Path | None, cache: Path, progress: Callable[[str], None]
) -> Wanted:
    """Return what is to be made of `subject`, a checkpoint or the name of a recipe. Raises ExportError."""
    variant = None
    if subject in recipes.RECIPES:
        variant = recipes.RECIPES[subject].variant
        subject = str(recipes.make(subject, cache / "checkpoints", progress))
    found = checkpoints.resolve(subject)
    return Wanted(found.name, found, variant, tuple(wanted), calibrate)


def possible(precisions: Sequence[str], runtimes: Sequence[str]) -> list[str]:
    """Return the forms that the exporter knows and can write, beside the exact one, which is always made."""
    wanted = [key for key in writers.WRITERS if key[0] in runtimes and key[1] in precisions]
    return [f"{runtime}/{precision}" for runtime, precision in wanted if runtime not in impossible()]


def impossible() -> dict[str, tuple[str, Path | None]]:
    """Return the runtimes that no graph is exported for here, and why."""
    found: dict[str, tuple[str, Path | None]] = {}
    if find_spec("openvino") is None:
        found["openvino"] = ("it is not installed", None)
    found["tensorrt"] = ("its plans are built on the GPU host that runs them, by `sonant build`", None)
    return found


def make(wanted: Wanted, cache: Path, progress: Callable[[str], None]) -> Made:
    """Export all forms into one engine, or where one of them fails each on its own; what is in `cache` is used again.

    Raises ValueError where not even the exact form can be exported.
    """
    folder = cache / "forms" / f"{wanted.name}-{wanted.key[:12]}"
    if _export(wanted, wanted.forms, folder / "all", progress) is None:
        return _open(dict.fromkeys((BASE, *wanted.forms), folder / "all"), {})
    problem = _export(wanted, (), folder / "fp32", progress)
    if problem:
        raise ValueError(problem)
    folders, problems = {BASE: folder / "fp32"}, {}
    for form in wanted.forms:
        alone = folder / form.replace("/", "-")
        problem = _export(wanted, (form,), alone, progress)
        if problem:
            problems[form] = problem
        else:
            folders[form] = alone
    return _open(folders, problems)


def of_engine(folder: Path) -> Made:
    """Return the forms of the engine in `folder`, whatever made it. Raises EngineError."""
    return _open({form.name: folder for form in forms.every(Manifest.read(folder))}, {})


def remove(wanted: Wanted, cache: Path) -> None:
    """Remove what `make` has left."""
    shutil.rmtree(cache / "forms" / f"{wanted.name}-{wanted.key[:12]}", ignore_errors=True)


def _export(wanted: Wanted, chosen: Sequence[str], folder: Path, progress: Callable[[str], None]) -> str | None:
    """Export the forms `chosen` and the exact one into `folder`, unless that was done; return why that is refused.

    Raises ValueError where the export fails otherwise, such as for want of memory.
    """
    problem = folder.with_name(f"{folder.name}.problem")
    if problem.is_file():
        return problem.read_text(encoding="utf-8")
    if (folder / MANIFEST_NAME).is_file():  # written last
        return None
    progress(f"Exporting {wanted.name}: {', '.join((BASE, *chosen))}")
    pairs = [form.split("/") for form in chosen or (BASE,)]  # the exact one is always written
    runtimes, precisions = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    probe = wanted.checkpoint.folder / PROBE
    options = {
        "--precision": ",".join(precisions),
        "--runtimes": ",".join(runtimes),
        "--calibrate": wanted.calibrate,
        "--variant": wanted.variant,
        "--head": probe if probe.is_file() else None,
    }
    given = [part for name, value in options.items() if value for part in (name, str(value))]
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:  # in a process of its own, whose memory is free afterwards
        true_size.sonant(["export", str(wanted.checkpoint.folder), "--output", str(folder), *given])
    except ValueError as error:
        said = str(error).strip().splitlines()[-1]
        if not said.startswith(SAID):
            raise
        problem.write_text(said.removeprefix(SAID), encoding="utf-8")  # it would be the same the next time
        return said.removeprefix(SAID)
    return None


def _open(folders: dict[str, Path], problems: dict[str, str]) -> Made:
    usable: dict[str, tuple[Path, Form]] = {}
    left_out: dict[str, tuple[str, Path | None]] = {form: (reason, None) for form, reason in problems.items()}
    for name, folder in folders.items():
        found = forms.find(Manifest.read(folder), RuntimeOptions("cpu", max_error=float("inf")))
        form = found.find(name)
        if form is not None:
            usable[name] = (folder, form)
        left_out |= {each.name: (each.reason, folder) for each in found.refused if each.name == name}
    return Made(Manifest.read(folders[BASE]), usable, left_out)
