"""What every family is held to: each clip alone equals transformers, each clip in a batch equals the clip alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from engines.batch import Row, run_batch
from engines.engine import Engine
from engines.verify import error
from export.exportable import Exportable, Reference
from export.parity import TOLERANCE, worst_excess

ROUNDINGS = 2.5e-7  # two of fp32 at one, 2**-23 each


class TorchSession:
    """The torch module of an exportable, behind the protocol of a runtime's session."""

    device = "cpu"
    inputs: tuple[str, ...] = ("waveform", "lengths")

    def __init__(self, exportable: Exportable) -> None:
        self._module = exportable.module
        cross = exportable.decoder.generation.cross if exportable.decoder else ()
        self.outputs: tuple[str, ...] = (*(spec.name for spec in exportable.outputs), *exportable.lengths, *cross)

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        with torch.inference_mode():
            arrays = self._module(torch.from_numpy(waveform), torch.from_numpy(lengths))
        named = dict(zip(self.outputs, (array.numpy() for array in arrays), strict=True))
        return {name: named[name] for name in outputs}


def run(exportable: Exportable, clips: Sequence[NDArray[np.float32]]) -> list[Row]:
    """Run the torch module on one batch with NaN in the padding and cut the rows."""
    return run_batch(TorchSession(exportable), clips, exportable.outputs, padding=float("nan"))


def assert_exact(exportable: Exportable, clips: Sequence[NDArray[np.float32]], *, widened: bool = False) -> None:
    """Each clip alone equals transformers, and each clip in the batch equals the clip alone.

    The second within 1e-5 flat. Where `widened`, for models of random shape, two roundings of values of order one pass
    too: the only logit of a regression may cancel to almost zero.
    """
    batch = run(exportable, clips)
    for clip, together in zip(clips, batch, strict=True):
        (alone,) = run(exportable, [clip])
        name, found, bound = worst_excess(alone, exportable.reference, clip)
        assert found <= bound, f"{name}, {len(clip)} samples"
        for name, array in together.items():
            close = error(array, alone[name]) <= TOLERANCE
            if widened and array.shape == alone[name].shape:
                close = close or np.allclose(array, alone[name], rtol=0, atol=ROUNDINGS)
            assert close, f"{name}, {len(clip)} samples, in a batch"


def assert_engine_exact(engine: Engine, reference: Reference, clips: Sequence[NDArray[np.float32]]) -> None:
    """The engine equals transformers on each clip alone, and itself in one padded batch."""
    outputs = [output.name for output in engine.manifest.outputs]
    for clip, together in zip(clips, engine.run(clips, outputs), strict=True):
        (alone,) = engine.run([clip], outputs)
        name, found, bound = worst_excess(alone, reference, clip)
        assert found <= bound, f"{name}, {len(clip)} samples"
        name, found, bound = worst_excess(together, reference, clip, truth=alone)
        assert found <= bound, f"{name}, {len(clip)} samples, in a batch"
