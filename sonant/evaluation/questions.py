"""What is asked about clips with known answers, and how right the answers are."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from engines.manifest import Manifest, Role, Task
from engines.parts import Measure
from sonant.evaluation.data import Entry
from sonant.runs.errors import UsageError
from sonant.runs.outcomes import Outcome

About = Literal["text", "label", "group"]


@dataclass(frozen=True)
class Question:
    """What is asked about clips whose lines have the field `about`.

    `read` takes what one clip is answered from the outcome of `task`, `conclude` the answers that two forms agree or
    disagree in from those of all clips.
    """

    about: About
    task: Task
    read: Callable[[Outcome], Any]
    measures: Mapping[Measure, Callable[[Sequence[Entry], Sequence[Any]], float]]
    options: Mapping[str, Any] = field(default_factory=dict)
    conclude: Callable[[Sequence[Entry], Sequence[Any]], Sequence[Hashable]] = lambda entries, answers: answers

    def roles(self, manifest: Manifest) -> set[Role]:
        """Return the roles of the graphs that answer it."""
        written = self.task == "transcribe" and manifest.generation is not None
        return {"start", "step"} if written else {"encode"}


def normalised(text: str) -> str:
    """Return `text` as it is compared: without case, punctuation and symbols, but for apostrophes; NFKC."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    kept = (letter if letter == "'" or unicodedata.category(letter)[0] not in "PSZC" else " " for letter in plain)
    return " ".join("".join(kept).split())


def error_rate(entries: Sequence[Entry], texts: Sequence[str], *, characters: bool = False) -> float:
    """Return the insertions, deletions and substitutions by the words (or characters) that were said."""
    edits = total = 0
    for entry, text in zip(entries, texts, strict=True):
        said, heard = normalised(entry.text or ""), normalised(text)
        pieces = (said, heard) if characters else (said.split(), heard.split())
        edits += Levenshtein.distance(*pieces)
        total += len(pieces[0])
    if not total:
        raise UsageError("text: nothing is said in any of the clips")
    return edits / total


def accuracy(entries: Sequence[Entry], labels: Sequence[str]) -> float:
    """Return how often the best label is the right one."""
    return sum(entry.label == label for entry, label in zip(entries, labels, strict=True)) / len(entries)


def nearest(entries: Sequence[Entry], vectors: Sequence[NDArray[np.floating[Any]]]) -> list[int]:
    """Return for each clip which other one, by no speaker of its own, has the embedding of the largest cosine."""
    wide = np.stack(vectors).astype(np.float64)
    unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    speakers = np.array([entry.speaker or f"\0{index}" for index, entry in enumerate(entries)])  # unknown: another
    alike[speakers[:, None] == speakers[None]] = -np.inf
    if not np.isfinite(alike.max(axis=1)).all():
        raise UsageError("speaker: a clip has no neighbour by another speaker")
    return [int(index) for index in alike.argmax(axis=1)]


def precision_at_1(entries: Sequence[Entry], neighbours: Sequence[int]) -> float:
    """Return how often the nearest clip is of the same group."""
    pairs = zip(entries, neighbours, strict=True)
    return sum(entry.group == entries[neighbour].group for entry, neighbour in pairs) / len(entries)


def _label(outcome: Outcome) -> str:
    return str(outcome.item["labels"][0].label)


QUESTIONS = (
    Question(
        "text",
        "transcribe",
        lambda outcome: outcome.item["text"],
        {"word_error_rate": error_rate, "character_error_rate": partial(error_rate, characters=True)},
    ),
    Question("label", "classify", _label, {"top_1": accuracy}, {"top_k": 1}),
    Question(
        "group",
        "encode",
        lambda outcome: outcome.arrays[0].values,
        {"retrieval": precision_at_1},
        {"pooling": "mean"},
        nearest,
    ),
)


def asked(entries: Sequence[Entry], manifest: Manifest) -> list[Question]:
    """Return what the lines ask. Raises UsageError where only some ask it, or where the engine cannot answer."""
    found = []
    for question in QUESTIONS:
        having = sum(getattr(entry, question.about) is not None for entry in entries)
        if having not in {0, len(entries)}:
            raise UsageError(f"{question.about}: {having} of {len(entries)} clips have it; it is all or none")
        if having:
            found.append(question)
            if question.task not in manifest.tasks:
                raise UsageError(f"{question.about}: the engine does not {question.task}")
    if not found:
        raise UsageError("the clips have neither text, label nor group: there is nothing to compare with")
    labels = manifest.classification.labels if manifest.classification else ()
    unknown = {entry.label for entry in entries if entry.label is not None} - set(labels)
    if unknown:
        raise UsageError(f"label: the engine has no label {min(unknown)!r}")
    return found
