"""The labels of a classifier, from config.json."""

from __future__ import annotations

from typing import Any, get_args

from engines.manifest import Classification, ProblemType
from export.errors import CheckpointError


def classification_of(config: Any) -> Classification:
    """Return the labels and the problem type, inferred as transformers does where the configuration is silent."""
    ids = sorted(config.id2label)
    if not ids or ids != list(range(len(ids))):
        raise CheckpointError(f"config.json: the ids of id2label must be 0, 1, 2 and so on, not {ids[:9]}")
    inferred: ProblemType = "regression" if len(ids) == 1 else "single_label_classification"
    problem = config.problem_type or inferred
    if problem not in get_args(ProblemType):
        raise CheckpointError(f"config.json: problem_type {problem!r} is none of {', '.join(get_args(ProblemType))}")
    return Classification(labels=tuple(str(config.id2label[index]) for index in ids), problem_type=problem)
