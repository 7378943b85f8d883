"""Engines in one form each, as the measurements run them. It imports no torch: what measures memory imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.batch import Clip
from engines.engine import Engine
from engines.errors import EngineError
from engines.forms import Form, every
from engines.manifest import Manifest
from engines.parts import EMBEDDINGS
from engines.runtimes import RuntimeOptions


def opened(forms: Mapping[str, tuple[Path, Form]], threads: int) -> tuple[dict[str, Engine], dict[str, str]]:
    """Return the engines that compute embeddings in each form, by its name, and why others do not."""
    engines: dict[str, Engine] = {}
    problems: dict[str, str] = {}
    for name, (folder, _) in forms.items():
        try:
            engines[name] = in_form(folder, name, threads)
        except EngineError as problem:
            problems[name] = str(problem)
    return engines, problems


def in_form(folder: Path, name: str, threads: int) -> Engine:
    """Return an engine that computes embeddings in the form `name` and no other; EngineError where it does not work."""
    form = next(form for form in every(Manifest.read(folder)) if form.name == name)
    engine = Engine(folder, options=RuntimeOptions("cpu", threads, runtime=form.runtime, precision=form.precision))
    graph = engine.graph_for([EMBEDDINGS])
    if graph.form != name:
        raise EngineError("it has no embeddings")
    engine.load(graph)
    return engine


def embeddings(engine: Engine, clips: Sequence[Clip]) -> list[NDArray[np.float32]]:
    """Return the embeddings [frames, hidden] of each clip."""
    return [row[EMBEDDINGS] for row in engine.run(clips, [EMBEDDINGS])]
