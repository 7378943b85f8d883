"""One question, asked about every clip in one form of an engine, by the parts of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from engines.engine import Engine
from engines.forms import Form
from sonant.evaluation.questions import Question
from sonant.runs.errors import FileError, RunError
from sonant.runs.inputs import Input
from sonant.runs.local import loaded
from sonant.runs.order import by_length
from sonant.runs.outcomes import Outcome
from sonant.runs.progress import Display, Totals
from sonant.runs.run import run


class NotOfTheFormError(Exception):
    """The form has no part in the answers."""


def ask(
    folder: Path, form: Form, question: Question, clips: Collection[Input], flags: Mapping[str, Any], shown: Display
) -> tuple[dict[Input, Outcome], list[str]]:
    """Return what comes of each clip, and the names of the graphs of `form` that it comes from.

    Raises NotOfTheFormError where it comes from another form; RunError, or UsageError, where it cannot be had.
    """
    options = {"model": str(folder.absolute()), **question.options}
    settings = {**flags, "runtime": form.runtime, "precision": form.precision}
    outcomes, engine = asyncio.run(_ask(question, clips, options, settings, shown))
    if engine.fallbacks:
        raise NotOfTheFormError("it does not work here; the log says why")
    roles = question.roles(engine.manifest)
    graphs = [graph.name for graph in form.graphs if graph.name in engine.checks and graph.role in roles]
    if not graphs:
        raise NotOfTheFormError(f"it has no graph to {question.task} with")
    return outcomes, graphs


async def _ask(
    question: Question,
    clips: Collection[Input],
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    shown: Display,
) -> tuple[dict[Input, Outcome], Engine]:
    collected = _Collected()
    ordered = asyncio.create_task(asyncio.to_thread(by_length, clips))
    async with loaded(question.task, options, settings) as (local, room):
        with shown:
            await run(ordered, local, room, collected, shown, Totals(len(clips)))
        return collected.outcomes, local.engine


class _Collected:
    """An output of a run that keeps what comes of each clip, in memory."""

    def __init__(self) -> None:
        self.outcomes: dict[Input, Outcome] = {}

    def is_done(self, each: Input) -> bool:
        """See Output."""
        return each in self.outcomes

    def write(self, each: Input, outcome: Outcome) -> None:
        """See Output."""
        self.outcomes[each] = outcome

    def fail(self, each: Input, error: FileError) -> None:
        """See Output; all forms are judged by the same clips."""
        raise RunError(f"{each.path}: {error.message}")

    def finish(self) -> None:
        """See Output."""
