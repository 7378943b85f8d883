"""What is kept of an engine's outputs until they are sent: foreseen from its manifest, before the engine runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engines.manifest import Manifest, Output

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Kept:
    """What is kept of each window: one vector of each output if it is `pooled`, else all of its frames.

    `answer_bytes` is what a value takes in the answer, beside the array that it comes from.
    """

    outputs: Sequence[str]
    pooled: bool = False
    answer_bytes: float = 0.0

    def size(self, manifest: Manifest, samples: int) -> int:
        """Return the bytes for a window of so many `samples`."""
        values = sum(self._values(manifest.output(name), samples) for name in self.outputs)
        return math.ceil(values * (FLOAT32_BYTES + self.answer_bytes))

    def _values(self, output: Output, samples: int) -> int:
        if self.pooled:
            return int(output.shape[-1])
        frames = samples // output.samples_per_frame + 1 if output.samples_per_frame else 1
        return math.prod(frames if isinstance(axis, str) else axis for axis in output.shape[1:])
