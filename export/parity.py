"""The truth: transformers on one unpadded clip; and the golden clips that carry it to the host that serves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from engines.batch import Row
from engines.verify import error
from export.errors import ParityError
from export.exportable import Exportable, Reference

# The largest error of an fp32 output: this, or this many times what separates the reference in fp32 from itself in
# fp64, where an input (DC with faint noise, say) leaves the reference fewer digits than that.
TOLERANCE = 1e-5
GAP_FACTOR = 3.0
# The golden clips: their lengths as shares of the longest; its seconds, fewer for an encoder of many parameters, so
# that their replay stays within a second on one core; and the bytes that they may fill with what was computed for them.
SHARES = (1.0, 0.57, 0.21)
SHORTEST_SECONDS, LONGEST_SECONDS = 0.3, 3.0
SECONDS_TIMES_PARAMETERS = 1e8
GOLDEN_BYTES = 4.5e6


def worst_excess(
    result: Row, reference: Reference, clip: NDArray[np.float32], truth: Row | None = None
) -> tuple[str, float, float]:
    """Return (output, error, bound) of the output of `result` that is farthest beyond its bound.

    `truth` is what `reference` computes for `clip` unless something else is given. The reference is computed in fp64
    only where an error is above `TOLERANCE`. Raises ParityError where the reference itself is not finite.
    """
    truth = truth or _finite(reference, clip)
    errors = {name: error(array, truth[name]) for name, array in result.items()}
    bounds = dict.fromkeys(errors, TOLERANCE)
    if max(errors.values()) > TOLERANCE:
        single, double = _finite(reference, clip), _finite(reference, clip, torch.float64)
        bounds = {name: max(TOLERANCE, GAP_FACTOR * error(single[name], double[name])) for name in errors}
    name = max(errors, key=lambda name: errors[name] / bounds[name])
    return name, errors[name], bounds[name]


def _finite(
    reference: Reference, clip: NDArray[np.float32], dtype: torch.dtype = torch.float32
) -> dict[str, NDArray[np.floating]]:
    """Return what `reference` computes; ParityError where that is no number."""
    truth = reference(clip, dtype)
    bad = [name for name, array in truth.items() if not np.isfinite(array).all()]
    if bad:
        raise ParityError(
            f"the checkpoint itself gives NaN or infinity: {', '.join(bad[:5])} of transformers on a clip of "
            f"{len(clip)} samples; its weights are broken, no engine can be made of it"
        )
    return truth


def check(rows: Sequence[Row], reference: Reference, clips: Sequence[NDArray[np.float32]]) -> None:
    """Raise ParityError where a row differs from the reference on its clip by more than its bound."""
    for row, clip in zip(rows, clips, strict=True):
        name, found, bound = worst_excess(row, reference, clip)
        if found > bound:
            raise ParityError(
                f"{name} differs from transformers by {found:.1e} (bound {bound:.1e}) on a clip of {len(clip)} samples"
            )


def golden_clips(exportable: Exportable, outputs: Sequence[str]) -> list[NDArray[np.float32]]:
    """Return speech-like clips for which `outputs` are kept: a gliding voice with syllables and breath; seeded."""
    sample_rate = exportable.sample_rate
    parameters = sum(parameter.numel() for parameter in exportable.module.parameters())
    longest = min(max(SECONDS_TIMES_PARAMETERS / parameters, SHORTEST_SECONDS), LONGEST_SECONDS)
    longest = min(longest, GOLDEN_BYTES / sum(SHARES) / _bytes_per_second(exportable, outputs))
    generator = np.random.default_rng(20)
    clips = []
    for share in SHARES:
        time = np.arange(max(int(share * longest * sample_rate), exportable.min_samples)) / sample_rate
        pitch = 120.0 * 2.0 ** (0.5 * np.sin(2 * np.pi * 0.7 * time + generator.uniform(0, 6)))
        phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
        voice = sum(np.sin(k * phase + generator.uniform(0, 6)) / k for k in range(1, 24))
        syllables = np.clip(np.sin(2 * np.pi * 3.3 * time + generator.uniform(0, 6)) + 0.4, 0, None)
        clip = 0.1 * voice * syllables + 0.01 * generator.standard_normal(time.size)
        clips.append(clip.astype(np.float32))
    return clips


def _bytes_per_second(exportable: Exportable, outputs: Sequence[str]) -> float:
    """Return what a second of a golden clip takes up, its waveform included."""
    values = exportable.sample_rate * 1.0
    for output in exportable.outputs:
        if output.name in outputs and output.samples_per_frame is not None:
            sizes = [size for size in output.shape if isinstance(size, int)]
            values += exportable.sample_rate / output.samples_per_frame * math.prod(sizes)
    return 4 * values


def golden_outputs(exportable: Exportable, layers: Iterable[int]) -> tuple[str, ...]:
    """Return what the golden clips keep: the last layer, the logits, and a hidden state for each truncated graph.

    Without truncated graphs, a middle and the first hidden state.
    """
    names = [output.name for output in exportable.outputs]
    chosen = sorted(set(layers)) or [0, exportable.num_layers // 2]
    states = [f"hidden_states.{layer}" for layer in chosen]
    return tuple(name for name in names if name in {"embeddings", "pooled", "logits", *states})


def write_golden(
    path: Path, clips: Sequence[NDArray[np.float32]], reference: Reference, outputs: Sequence[str]
) -> None:
    """Write the clips and what the reference computes for each."""
    tensors: dict[str, NDArray[np.floating]] = {}
    for index, clip in enumerate(clips):
        truth = _finite(reference, clip)
        tensors[f"{index}.waveform"] = clip
        tensors |= {f"{index}.{name}": np.ascontiguousarray(truth[name], np.float32) for name in outputs}
    save_file(tensors, path)
