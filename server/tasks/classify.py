"""classify: a clip -> labels with their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Manifest, ProblemType
from server.errors import TaskNotSupportedError
from server.schemas.options import ClassifyOptions, ScoreFunction
from server.windows import Window, average

# As transformers' audio classification pipeline chooses.
DEFAULT_FUNCTION: dict[ProblemType, ScoreFunction] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "none",
}


@dataclass(frozen=True)
class Label:
    """A label and its score."""

    label: str
    score: float


class Classify:
    """The task, for one engine and one set of options."""

    outputs = ("logits",)

    def __init__(self, manifest: Manifest, options: ClassifyOptions) -> None:
        if manifest.classification is None:
            raise TaskNotSupportedError("the model has no labels", "model")
        self._labels = manifest.classification.labels
        self._function = options.function or DEFAULT_FUNCTION[manifest.classification.problem_type]
        self._top_k = options.top_k
        self.windowed = options.windows == "auto"

    def result(self, windows: Sequence[Window]) -> list[Label]:
        """Return the `top_k` labels with the highest scores, best first; of equal ones the lower id first.

        The scores of a clip are those of its windows, averaged.
        """
        values = average([scores(window.row["logits"], self._function) for window in windows], windows)
        best = np.argsort(-values, kind="stable")[: self._top_k]
        return [Label(self._labels[index], float(values[index])) for index in best]


def scores(logits: NDArray[np.float32], function: ScoreFunction) -> NDArray[np.float64]:
    """Apply `function` to `logits` [classes], in float64."""
    wide = logits.astype(np.float64)
    if function == "softmax":
        exponentials = np.exp(wide - wide.max())
        return np.asarray(exponentials / exponentials.sum())
    if function == "sigmoid":
        # exp of what is never positive cannot overflow
        small = np.exp(-np.abs(wide))
        return np.where(wide >= 0, 1 / (1 + small), small / (1 + small))
    return wide
