"""Engines: in which form each would run here, in which others it could, and why not in the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from engines import forms, runtimes
from engines.errors import EngineError
from engines.manifest import Manifest
from engines.repository import find_engines
from engines.runtimes import RuntimeOptions
from sonant.doctor import gpu, providers
from sonant.doctor.configuration import load, options
from sonant.doctor.finding import Finding, absent, ok, problem, warning
from sonant.doctor.packages import IMPORT_SECONDS
from sonant.doctor.request import Job, Request

# Of one form: gigabytes of weights are read from a disk, hashed and loaded, and the golden clips run on a host that is
# busy with something else.
VERIFY_SECONDS = 600.0


def jobs(request: Request) -> Iterator[Job]:
    """Yield the checks: of each engine that is named, or that the server would have; with --verify of each form too."""
    named = [(folder.resolve().name, folder) for folder in request.engines]
    folders = named or list(_served(request.settings).items())
    if not folders:
        yield Job("engines")
    for name, folder in folders:
        arguments = {"name": name, "folder": str(folder), "given": dict(request.settings)}
        yield Job(name, arguments, IMPORT_SECONDS)
        for form in _forms(folder) if request.verify else ():
            yield Job(f"{name} as {form}", arguments | {"form": form}, VERIFY_SECONDS)


def check(
    name: str = "", folder: str = "", given: Mapping[str, str] | None = None, form: str | None = None
) -> Iterator[Finding]:
    """Look at the engine in `folder`, or replay its golden clips in `form`, as a server with `given` settings would."""
    if not folder:
        yield absent(
            "engines", "there are none", "name folders of engines, or with --models the folder that holds them"
        )
        return
    try:
        manifest, wanted = Manifest.read(Path(folder)), options(given or {}, name)
        yield _replayed(name, Path(folder), form, wanted) if form else _described(name, manifest, wanted)
    except EngineError as error:
        where = name if form is None else f"{name} as {form}"
        yield problem(where, str(error), "export or copy the engine again, or take its folder away")


def _served(settings: Mapping[str, str]) -> dict[str, Path]:
    """Return the engines that the server would have, by name; what keeps it from that is said of the server."""
    try:
        return find_engines(load(settings).models)
    except (EngineError, ImportError, ValueError, OSError):
        return {}


def _forms(folder: Path) -> list[str]:
    """Return the names of the forms of an engine; none where it cannot be read, which another check says."""
    try:
        return list(dict.fromkeys(graph.form for graph in Manifest.read(folder).graphs))
    except EngineError:
        return []


def _described(name: str, manifest: Manifest, wanted: RuntimeOptions) -> Finding:
    """Say in which form the engine runs, and what speaks against each of the others. Raises EngineError."""
    chosen = forms.find(manifest, wanted)
    runtime = runtimes.find(chosen.usable[0].runtime)
    runtime.describe(wanted.device, wanted.device_id)  # which is installed, or this raises
    possible = forms.find(manifest, replace(wanted, runtime="auto", precision="auto", max_error=math.inf))
    unwanted = {refused.name: refused.reason for refused in chosen.refused}
    parts = [f"runs as {chosen.usable[0].name}"]
    parts += [f"or as {form.name}" for form in chosen.usable[1:]]
    parts += [f"could as {form.name}, but {reason}" for form in possible.usable if (reason := unwanted.get(form.name))]
    parts += [f"not as {refused.name}: {refused.reason}" for refused in possible.refused]
    found = "\n".join(parts)
    if gpu.nodes() and any(refused.name.startswith("tensorrt/") for refused in possible.refused):
        return warning(name, found, "`sonant build` it on this host, with what it needs installed (sonant[tensorrt])")
    return ok(name, found)


def _replayed(name: str, folder: Path, form: str, wanted: RuntimeOptions) -> Finding:
    """Check the hashes of a form and replay the golden clips. Raises EngineError."""
    manifest, where = Manifest.read(folder), f"{name} as {form}"
    possible = forms.find(manifest, replace(wanted, runtime="auto", precision="auto", max_error=math.inf))
    found = possible.find(form)
    if found is None:
        return absent(where, next(refused.reason for refused in possible.refused if refused.name == form))
    asked = replace(wanted, runtime=found.runtime, precision=found.precision, max_error=math.inf)
    return providers.run(where, folder, asked)
