"""The forms of an engine next to torch, on clips of one length."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import console, models
from benchmarks.engines.eager import Eager
from benchmarks.engines.latency import embeddings
from benchmarks.interleave import interleave, warm_up
from benchmarks.records.precision import FormTime, LengthCell
from benchmarks.stats import PairedRatio, Timing
from engines.engine import Engine
from engines.errors import EngineError
from engines.forms import Form
from engines.parts import EMBEDDINGS
from engines.runtimes import RuntimeOptions
from engines.verify import error
from export.parity import cosine

TORCH = "torch"


def opened(forms: Mapping[str, tuple[Path, Form]], threads: int) -> tuple[dict[str, Engine], dict[str, str]]:
    """Return the engines that compute embeddings in each form, by its name, and why others do not."""
    engines: dict[str, Engine] = {}
    problems: dict[str, str] = {}
    for name, (folder, form) in forms.items():
        try:
            engines[name] = _in_form(folder, form, threads)
        except EngineError as problem:
            problems[name] = str(problem)
    return engines, problems


def _in_form(folder: Path, form: Form, threads: int) -> Engine:
    """Return an engine that computes embeddings in `form` and no other; EngineError where it does not work."""
    engine = Engine(folder, options=RuntimeOptions("cpu", threads, runtime=form.runtime, precision=form.precision))
    graph = engine.graph_for([EMBEDDINGS])
    if graph.form != form.name:
        raise EngineError("it has no embeddings")
    engine.load(graph)
    return engine


def compare(
    seconds: float, engines: Mapping[str, Engine], eager: Eager, arguments: argparse.Namespace, doing: console.Doing
) -> LengthCell:
    """Time the embeddings of one clip; WrongResultError where those of an exact form differ from those of torch."""
    rate = next(iter(engines.values())).manifest.sample_rate
    clips = models.clips(1, seconds, rate, arguments.seed)
    contestants: dict[str, Callable[[], Sequence[NDArray[np.float32]]]] = {TORCH: partial(eager, clips)}
    contestants |= {name: partial(embeddings, engine, clips) for name, engine in engines.items()}
    [truth], *others = warm_up(contestants).values()
    rows = {name: row for name, [row] in zip(engines, others, strict=True)}
    for name, row in rows.items():
        if name.endswith("/fp32"):
            console.check(f"{name} differs from transformers at {doing.label}", error(row, truth))
    times = interleave(contestants, arguments.seconds, arguments.rounds, doing.tick)
    return LengthCell(
        seconds=seconds,
        rounds=times[TORCH].size,
        torch=Timing.of(times[TORCH]),
        forms={
            name: FormTime(
                time=Timing.of(times[name]),
                ratio=PairedRatio(times[TORCH], times[name], (arguments.seed, index)).estimate,
                error=error(row, truth),
                cosine=cosine(row, truth),
            )
            for index, (name, row) in enumerate(rows.items())
        },
    )
