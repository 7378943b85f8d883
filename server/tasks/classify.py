"""classify: a clip -> labels with their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Manifest, ProblemType
from server.errors import TaskNotSupportedError
from server.kept import Kept
from server.schemas.options import ClassifyOptions, ScoreFunction
from server.windows import Geometry, Window, average

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


@dataclass(frozen=True)
class LabelsInTime:
    """The labels of a part of a clip, which begins and ends so many seconds from its beginning."""

    start: float
    end: float
    labels: list[Label]


class Classify:
    """The task, for one engine and one set of options."""

    outputs = ("logits",)
    reduce = None

    def __init__(self, manifest: Manifest, options: ClassifyOptions, answer_bytes: float = 0.0) -> None:
        """Raise TaskNotSupportedError, or OptionError; a label of a window takes `answer_bytes` in the answer."""
        if manifest.classification is None:
            raise TaskNotSupportedError("the model has no labels", "model")
        self._labels = manifest.classification.labels
        self._function = options.function or DEFAULT_FUNCTION[manifest.classification.problem_type]
        self._top_k = options.top_k
        self._rate = manifest.sample_rate
        self.timeline_wanted = options.timeline
        self.geometry = Geometry.of(manifest, (), options)
        self.windowed = options.windows == "auto"
        self.kept = Kept(self.outputs, answer_bytes=answer_bytes if options.timeline else 0.0)

    def result(self, windows: Sequence[Window]) -> list[Label]:
        """Return the `top_k` labels with the highest scores, best first; of equal ones the lower id first.

        The scores of a clip are those of its windows, averaged.
        """
        return self._best(average(list(self._scores(windows)), windows))

    def timeline(self, windows: Sequence[Window]) -> list[LabelsInTime]:
        """Return the labels of each window, as of a clip, with what it contributes to the clip's."""
        return [
            LabelsInTime(window.span.keep_start / self._rate, window.span.keep_end / self._rate, self._best(values))
            for window, values in zip(windows, self._scores(windows), strict=True)
        ]

    def _scores(self, windows: Sequence[Window]) -> NDArray[np.float64]:
        return scores(np.stack([window.row["logits"] for window in windows]), self._function)

    def _best(self, values: NDArray[np.float64]) -> list[Label]:
        best = np.argsort(-values, kind="stable")[: self._top_k]
        return [Label(self._labels[index], float(values[index])) for index in best]


def describe(task: Classify, windows: Sequence[Window], duration: float) -> dict[str, Any]:
    """Return what JSON says of a clip of so many seconds."""
    return {
        "labels": task.result(windows),
        **({"timeline": task.timeline(windows)} if task.timeline_wanted else {}),
        "duration": duration,
        "windows": len(windows),
    }


def scores(logits: NDArray[np.float32], function: ScoreFunction) -> NDArray[np.float64]:
    """Apply `function` to `logits` [..., classes], in float64."""
    wide = logits.astype(np.float64)
    if function == "softmax":
        exponentials = np.exp(wide - wide.max(axis=-1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))
    if function == "sigmoid":
        # exp of what is never positive cannot overflow
        small = np.exp(-np.abs(wide))
        return np.where(wide >= 0, 1 / (1 + small), small / (1 + small))
    return wide
