"""The golden clips: what transformers computes for them goes with the engine to the host that serves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from engines.manifest import LOGITS, TOKENS, Golden
from engines.parts import TEXT_LOGITS
from export.exportable import Decoder, Exportable, Reference
from export.parity import finite

# Their lengths as shares of the longest; its seconds, fewer for an encoder of many parameters, so that their replay
# stays within a second on one core; and the bytes that they may fill with what was computed for them.
SHARES = (1.0, 0.57, 0.21)
PADDED_SHARES = SHARES[:2]  # where every clip takes as long as the longest
SHORTEST_SECONDS, LONGEST_SECONDS = 0.3, 3.0
SECONDS_TIMES_PARAMETERS = 1e8
BYTES = 4.5e6
# Of a decoder: the tokens of each clip's text, and about how many of a step's logits are kept.
TEXT_LENGTH, STEP_LOGITS = 6, 1024


def make_clips(exportable: Exportable, outputs: Sequence[str]) -> list[NDArray[np.float32]]:
    """Return speech-like clips for which `outputs` are kept: a gliding voice with syllables and breath; seeded."""
    sample_rate = exportable.sample_rate
    parameters = sum(parameter.numel() for parameter in exportable.module.parameters())
    longest = min(max(SECONDS_TIMES_PARAMETERS / parameters, SHORTEST_SECONDS), LONGEST_SECONDS)
    longest = min(longest, BYTES / sum(SHARES) / _bytes_per_second(exportable, outputs))
    generator = np.random.default_rng(20)
    clips = []
    for share in PADDED_SHARES if exportable.padded_to_longest else SHARES:
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
        if output.name == "embeddings" and output.samples_per_frame is not None and exportable.decoder is not None:
            spec = exportable.decoder.generation  # one layer's keys of the cross attention
            values += exportable.sample_rate / output.samples_per_frame * spec.heads * spec.head_size
    return 4 * values


def kept_outputs(exportable: Exportable, layers: Iterable[int]) -> tuple[str, ...]:
    """Return what the golden clips keep: the last layer, the logits, and a hidden state for each truncated graph.

    Without truncated graphs, a middle and the first hidden state.
    """
    names = [output.name for output in exportable.outputs]
    chosen = sorted(set(layers)) or [0, exportable.num_layers // 2]
    states = [f"hidden_states.{layer}" for layer in chosen]
    return tuple(name for name in names if name in {"embeddings", "pooled", "logits", *states})


def describe(exportable: Exportable, clips: int, outputs: Sequence[str]) -> Golden:
    """Describe golden clips of which `outputs` are kept; the hash of their file is still to come."""
    others = [output for output in exportable.outputs if output.name in outputs and output.has_other_rows]
    values = sum(math.prod(size for size in output.shape[2:] if isinstance(size, int)) for output in others)
    decoder = exportable.decoder
    if decoder is not None and decoder.frames is not None:
        values += decoder.generation.heads * decoder.generation.head_size  # one layer's keys of the cross attention
    rows = max(1, int(BYTES / (4 * values * clips))) if values else None
    kept = Golden(clips=clips, outputs=tuple(outputs), sha256="0" * 64, rows=rows)
    if decoder is None:
        return kept
    spec = decoder.generation
    text = {
        "cross": spec.cross[-2:-1],
        "tokens": min(TEXT_LENGTH, spec.max_positions or TEXT_LENGTH),
        "stride": math.ceil(spec.vocabulary_size / STEP_LOGITS),
    }
    return kept.model_copy(update=text)


def reference_of(exportable: Exportable, golden: Golden) -> Reference:
    """Return the truth of all that is kept of a golden clip: for a decoder also a text, and the logits after each."""
    encoded, decoder = _cut_reference(exportable, golden), exportable.decoder
    if decoder is None:
        return encoded

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[Any]]:
        tokens = greedy(decoder, clip, golden.tokens)
        truth = decoder.reference(clip, tokens, dtype)
        text: dict[str, NDArray[Any]] = {TEXT_LOGITS: truth[LOGITS][:, :: golden.stride], TOKENS: tokens}
        cross = {name: truth[name][:, : golden.rows] for name in golden.cross}
        return {**encoded(clip, dtype), **cross, **text}

    return reference


def _cut_reference(exportable: Exportable, golden: Golden) -> Reference:
    """Return the truth of the rows that are kept of a golden clip."""

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        truth = exportable.reference(clip, dtype)
        kept = [output for output in exportable.outputs if output.name in golden.outputs]
        return {output.name: truth[output.name][golden.cut(output)] for output in kept}

    return reference


def write(path: Path, clips: Sequence[NDArray[np.float32]], reference: Reference, outputs: Sequence[str]) -> None:
    """Write the clips and what the reference computes for each."""
    tensors: dict[str, NDArray[np.generic]] = {}
    for index, clip in enumerate(clips):
        truth = finite(reference, clip)
        tensors[f"{index}.waveform"] = clip
        for name in outputs:
            array = truth[name]
            dtype = np.float32 if np.issubdtype(array.dtype, np.floating) else array.dtype
            tensors[f"{index}.{name}"] = np.ascontiguousarray(array, dtype)
    save_file(tensors, path)


def greedy(decoder: Decoder, clip: NDArray[np.float32], size: int) -> NDArray[np.int64]:
    """Return the start token and the likeliest that follow, `size` in all."""
    tokens = [decoder.generation.start_token]
    while len(tokens) < size:
        logits = decoder.reference(clip, np.array(tokens))[LOGITS]
        tokens.append(int(logits[-1].argmax()))
    return np.array(tokens)
