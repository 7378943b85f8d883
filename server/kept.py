"""What is kept of an engine's outputs until they are sent: foreseen from its manifest, before the engine runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engines.manifest import Manifest, Output
from server.windows import Span

FLOAT32_BYTES, FLOAT64_BYTES = 4, 8
# An answer of more values is made and sent piece by piece: of 1 MiB as float32, and 3 MiB in JSON.
WHOLE_ANSWER_VALUES = 2**18


@dataclass(frozen=True)
class Kept:
    """What is kept of each window: one vector of each output if it is `pooled`, in float64, else its frames.

    `frame_bytes` is what is kept of a frame, if it is not all of its values. `answer_bytes` is what a value takes in
    the answer, beside the array that it comes from; of a large answer, which is made piece by piece, not all counts.
    """

    outputs: Sequence[str]
    pooled: bool = False
    frame_bytes: int | None = None
    answer_bytes: float = 0.0

    def size(self, manifest: Manifest, spans: Iterable[Span]) -> int:
        """Return the bytes for windows of so many samples as `spans` see, and for their answer."""
        values = size = 0
        for samples, count in Counter(span.end - span.start for span in spans).items():
            for output in map(manifest.output, self.outputs):
                values += count * self._values(output, samples)
                size += count * self._bytes(output, samples)
        return size + math.ceil(min(values, WHOLE_ANSWER_VALUES) * self.answer_bytes)

    def _bytes(self, output: Output, samples: int) -> int:
        if self.frame_bytes is not None:
            return _frames(output, samples) * self.frame_bytes
        return self._values(output, samples) * (FLOAT64_BYTES if self.pooled else FLOAT32_BYTES)

    def _values(self, output: Output, samples: int) -> int:
        if self.pooled:
            return int(output.shape[-1])
        return math.prod(_frames(output, samples) if isinstance(axis, str) else axis for axis in output.shape[1:])


def _frames(output: Output, samples: int) -> int:
    return samples // output.samples_per_frame + 1 if output.samples_per_frame else 1
