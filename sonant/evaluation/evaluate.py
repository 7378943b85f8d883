"""Each form of an engine, asked about the same clips, and compared with the exact one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines import forms
from engines.forms import Form, Forms
from engines.manifest import BASE, MANIFEST_NAME, Manifest, Quality
from engines.runtimes import Device, RuntimeOptions
from sonant.evaluation.asking import NotOfTheFormError, ask
from sonant.evaluation.data import Data
from sonant.evaluation.questions import About, Question, asked
from sonant.runs.errors import UsageError
from sonant.runs.progress import Display, display

Answers = dict[About, Sequence[Hashable]]  # one for each clip
Show = Callable[[str, int], Display]  # makes what shows how far something has come, of so many clips


@dataclass(frozen=True)
class Evaluated:
    """What was measured of a form, and of which of its graphs that tells; or why nothing was measured."""

    form: str
    measured: tuple[Quality, ...] = ()
    quality: Mapping[str, tuple[Quality, ...]] = field(default_factory=dict)
    reason: str = ""


def evaluate(
    folder: Path,
    data: Data,
    wanted: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    show: Show = lambda doing, clips: display(clips, quiet=True),
) -> Iterator[Evaluated]:
    """Yield what comes of each form of the engine in `folder`: of the exact one, then of those `wanted`, or of all.

    `flags` are settings of the server. Raises UsageError where the clips do not fit the engine, RunError where one of
    them cannot be used, EngineError.
    """
    manifest, given = Manifest.read(folder), dict(flags or {})
    questions = asked(data.entries, manifest)
    device: Device = given.get("device", "auto")
    found = forms.find(manifest, RuntimeOptions(device, max_error=float("inf")))
    names = _named(manifest, wanted)
    exact: Answers = {}
    for form in _exact_first(found, names):
        try:
            answers, graphs = _answers(folder, data, questions, form, given, show)
        except NotOfTheFormError as error:
            yield Evaluated(form.name, reason=str(error))
            continue
        exact = exact or answers
        quality = {each.about: tuple(_compared(each, data, answers, exact)) for each in questions}
        by_graph = {name: tuple(one for about in part for one in quality[about]) for name, part in graphs.items()}
        yield Evaluated(form.name, tuple(one for each in quality.values() for one in each), by_graph)
    yield from (Evaluated(each.name, reason=each.reason) for each in found.refused if each.name in names)


def keep(folder: Path, evaluated: Sequence[Evaluated]) -> None:
    """Write what was measured into engine.json, in place of what it says of the same measures on the same clips."""
    new = {name: quality for each in evaluated for name, quality in each.quality.items()}
    manifest = Manifest.read(folder)  # again: it may have been written to meanwhile
    graphs = []
    for graph in manifest.graphs:
        measured = new.get(graph.name, ())
        stale = {(one.measure, one.data) for one in measured}
        kept = [one for one in graph.quality if (one.measure, one.data) not in stale]
        graphs.append(graph.model_copy(update={"quality": (*kept, *measured)}))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:  # a reader never finds half of it
        manifest.model_copy(update={"graphs": tuple(graphs)}).write(Path(scratch))
        (Path(scratch) / MANIFEST_NAME).replace(folder / MANIFEST_NAME)


def _named(manifest: Manifest, wanted: Sequence[str]) -> set[str]:
    """Return the forms that are `wanted`, or all. Raises UsageError for one that the engine has not."""
    names = {graph.form for graph in manifest.graphs}
    if unknown := sorted(set(wanted) - names):
        raise UsageError(f"--forms {unknown[0]}: the engine has {', '.join(sorted(names))}")
    return set(wanted) or names


def _exact_first(found: Forms, names: set[str]) -> list[Form]:
    return [found.base, *(form for form in found.usable if form.name in names and form.name != BASE)]


def _answers(
    folder: Path, data: Data, questions: Sequence[Question], form: Form, flags: Mapping[str, Any], show: Show
) -> tuple[Answers, dict[str, list[About]]]:
    """Return the answers of `form`, and to which of them each of its graphs has contributed."""
    answers: Answers = {}
    graphs: dict[str, list[About]] = {}
    for question in questions:
        shown = show(f"{form.name}: {question.task}", len(data.clips))
        outcomes, names = ask(folder, form, question, data.clips, flags, shown)
        for name in names:
            graphs.setdefault(name, []).append(question.about)
        read = [question.read(outcomes[clip]) for clip in data.clips]
        answers[question.about] = question.conclude(data.entries, read)
    return answers, graphs


def _compared(question: Question, data: Data, answers: Answers, exact: Answers) -> Iterator[Quality]:
    here, truth = answers[question.about], exact[question.about]
    for measure, compute in question.measures.items():
        yield Quality(
            measure=measure,
            value=compute(data.entries, here),
            fp32=compute(data.entries, truth),
            agreement=sum(one == other for one, other in zip(here, truth, strict=True)) / len(here),
            clips=len(here),
            data=data.name,
        )
