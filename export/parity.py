"""The truth: transformers on one unpadded clip; and the golden clips that carry it to the host that serves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from engines.batch import Row
from engines.verify import error
from export.errors import ParityError
from export.families import Exportable, Reference

# The largest error of an fp32 output: this, or this many times what separates the reference in fp32 from itself in
# fp64, where an input (DC with faint noise, say) leaves the reference fewer digits than that.
TOLERANCE = 1e-5
GAP_FACTOR = 3.0
# Seconds of the golden clips. A large encoder gets shorter ones, so that their replay stays within a second.
SECONDS, SECONDS_LARGE = (3.0, 1.7, 0.6), (1.1, 0.7, 0.4)
LARGE = 50_000_000


def worst_excess(
    result: Row, reference: Reference, clip: NDArray[np.float32], truth: Row | None = None
) -> tuple[str, float, float]:
    """Return (output, error, bound) of the output of `result` that is farthest beyond its bound.

    `truth` is what `reference` computes for `clip` unless something else is given. The reference is computed in fp64
    only where an error is above `TOLERANCE`.
    """
    truth = truth or reference(clip)
    errors = {name: error(array, truth[name]) for name, array in result.items()}
    bounds = dict.fromkeys(errors, TOLERANCE)
    if max(errors.values()) > TOLERANCE:
        single, double = reference(clip), reference(clip, torch.float64)
        bounds = {name: max(TOLERANCE, GAP_FACTOR * error(single[name], double[name])) for name in errors}
    name = max(errors, key=lambda name: errors[name] / bounds[name])
    return name, errors[name], bounds[name]


def check(rows: Sequence[Row], reference: Reference, clips: Sequence[NDArray[np.float32]]) -> None:
    """Raise ParityError where a row differs from the reference on its clip by more than its bound."""
    for row, clip in zip(rows, clips, strict=True):
        name, found, bound = worst_excess(row, reference, clip)
        if found > bound:
            raise ParityError(
                f"{name} differs from transformers by {found:.1e} (bound {bound:.1e}) on a clip of {len(clip)} samples"
            )


def golden_clips(sample_rate: int, min_samples: int, parameters: int) -> list[NDArray[np.float32]]:
    """Return speech-like clips: a gliding voice with syllables, breath and pauses; seeded."""
    generator = np.random.default_rng(20)
    clips = []
    for seconds in SECONDS_LARGE if parameters > LARGE else SECONDS:
        time = np.arange(max(int(seconds * sample_rate), min_samples)) / sample_rate
        pitch = 120.0 * 2.0 ** (0.5 * np.sin(2 * np.pi * 0.7 * time + generator.uniform(0, 6)))
        phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
        voice = sum(np.sin(k * phase + generator.uniform(0, 6)) / k for k in range(1, 24))
        syllables = np.clip(np.sin(2 * np.pi * 3.3 * time + generator.uniform(0, 6)) + 0.4, 0, None)
        clip = 0.1 * voice * syllables + 0.01 * generator.standard_normal(time.size)
        clips.append(clip.astype(np.float32))
    return clips


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
        truth = reference(clip)
        tensors[f"{index}.waveform"] = clip
        tensors |= {f"{index}.{name}": np.ascontiguousarray(truth[name], np.float32) for name in outputs}
    save_file(tensors, path)
