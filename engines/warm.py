"""First runs on a GPU, so that no request pays for them.

The golden clips, which are short, have started CUDA and its libraries by then. Left are the kernels that larger
products take, each of which the driver loads when it is first used, and the memory that larger batches take. What
convolutions cost at each change of shape cannot be paid beforehand: ONNX Runtime keeps the last shape only.
"""

from __future__ import annotations

import logging

import numpy as np

from engines.batch import Clip
from engines.engine import Engine
from engines.errors import OutOfMemoryError
from engines.replicas import ReplicatedEngine

logger = logging.getLogger(__name__)

# Seconds of the clips, and of all clips of a batch: with so much a GPU has most of what it can gain.
LENGTHS, BATCH_SECONDS = (1.0, 5.0, 15.0, 30.0), 30.0


def warm_up(engine: Engine) -> None:
    """Run batches of silence on every GPU that `engine` is loaded on; nothing where it runs on a CPU."""
    if engine.device != "cuda":
        return
    for each in [gpu.engine for gpu in engine.gpus] if isinstance(engine, ReplicatedEngine) else [engine]:
        for rows, samples in _shapes(each):
            try:
                _run(each, [np.zeros(samples, np.float32)] * rows)
            except OutOfMemoryError as error:  # the scheduler finds out what fits
                logger.warning("%s: %d clips of %d samples were not warmed up: %s", engine.name, rows, samples, error)
                break


def _shapes(engine: Engine) -> list[tuple[int, int]]:
    """Return rows and samples of the batches, the longest clips last."""
    rate, shortest, longest = engine.manifest.sample_rate, engine.manifest.min_samples, engine.manifest.max_samples
    lengths = dict.fromkeys(min(max(round(each * rate), shortest), longest) for each in LENGTHS)
    fit = {samples: min(int(BATCH_SECONDS * rate / samples), engine.max_rows(samples)) for samples in lengths}
    return [(max(1, rows), samples) for samples, rows in fit.items()]


def _run(engine: Engine, clips: list[Clip]) -> None:
    """Run what a request runs, on the GPU of `engine` and no other."""
    if engine.manifest.generation is not None:
        Engine.start(engine, clips)
    else:
        Engine.run(engine, clips, engine.full_graph.outputs[:1])
