"""The truth: transformers on one unpadded clip; and the golden clips that carry it to the host that serves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from engines import generation
from engines.batch import Row
from engines.manifest import LOGITS, TOKENS, Golden
from engines.runtimes import Session, resident
from engines.verify import error
from export.errors import ParityError
from export.exportable import Decoder, Exportable, Reference

# The largest error of an fp32 output: this, or this many times what separates the reference in fp32 from itself in
# fp64, where an input (DC with faint noise, say) leaves the reference fewer digits than that.
TOLERANCE = 1e-5
GAP_FACTOR = 3.0
# The golden clips: their lengths as shares of the longest; its seconds, fewer for an encoder of many parameters, so
# that their replay stays within a second on one core; and the bytes that they may fill with what was computed for them.
SHARES = (1.0, 0.57, 0.21)
FIXED_SHARES = SHARES[:2]  # where every clip takes as long as the longest
SHORTEST_SECONDS, LONGEST_SECONDS = 0.3, 3.0
SECONDS_TIMES_PARAMETERS = 1e8
GOLDEN_BYTES = 4.5e6
PARITY_TOKENS = 12  # of the text that a decoder is given at export
# Of a decoder: the tokens of each golden clip's text, and about how many of a step's logits are kept.
GOLDEN_TOKENS, GOLDEN_LOGITS = 6, 1024


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


def check_text(session: Session, start: Session | None, decoder: Decoder, clips: Sequence[NDArray[np.float32]]) -> None:
    """Raise ParityError where a graph of a decoder differs from the reference by more than its bound.

    `session` is that of a step graph, led through a text of random tokens over what `start` computes; without `start`,
    that of the start graph itself.
    """
    spec = decoder.generation
    size = min(PARITY_TOKENS, spec.max_positions or PARITY_TOKENS)
    text = np.random.default_rng(21).integers(0, spec.vocabulary_size, size)
    if start is None:
        rows = generation.cross_rows(resident(session), spec, clips)
    else:
        state = generation.start(resident(start), spec, clips, beams=2)
        logits = generation.follow(resident(session), spec, state, np.tile(text, (len(clips), 1)))
        rows = [{LOGITS: row} for row in logits]

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        return decoder.reference(clip, text, dtype)

    check(rows, reference, clips)


def golden_clips(exportable: Exportable, outputs: Sequence[str]) -> list[NDArray[np.float32]]:
    """Return speech-like clips for which `outputs` are kept: a gliding voice with syllables and breath; seeded."""
    sample_rate = exportable.sample_rate
    parameters = sum(parameter.numel() for parameter in exportable.module.parameters())
    longest = min(max(SECONDS_TIMES_PARAMETERS / parameters, SHORTEST_SECONDS), LONGEST_SECONDS)
    longest = min(longest, GOLDEN_BYTES / sum(SHARES) / _bytes_per_second(exportable, outputs))
    generator = np.random.default_rng(20)
    clips = []
    for share in SHARES if exportable.lengths else FIXED_SHARES:
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


def golden_outputs(exportable: Exportable, layers: Iterable[int]) -> tuple[str, ...]:
    """Return what the golden clips keep: the last layer, the logits, and a hidden state for each truncated graph.

    Without truncated graphs, a middle and the first hidden state.
    """
    names = [output.name for output in exportable.outputs]
    chosen = sorted(set(layers)) or [0, exportable.num_layers // 2]
    states = [f"hidden_states.{layer}" for layer in chosen]
    return tuple(name for name in names if name in {"embeddings", "pooled", "logits", *states})


def describe_golden(exportable: Exportable, clips: int, outputs: Sequence[str]) -> Golden:
    """Describe golden clips of which `outputs` are kept; the hash of their file is still to come."""
    rows = None
    others = [output for output in exportable.outputs if output.name in outputs and output.has_other_rows]
    if others:
        values = sum(math.prod(size for size in output.shape[2:] if isinstance(size, int)) for output in others)
        rows = max(1, int(GOLDEN_BYTES / (4 * values * clips)))
    kept = Golden(clips=clips, outputs=tuple(outputs), sha256="0" * 64, rows=rows)
    if exportable.decoder is None:
        return kept
    spec = exportable.decoder.generation
    text = {
        "cross": spec.cross[-2:-1],
        "tokens": min(GOLDEN_TOKENS, spec.max_positions or GOLDEN_TOKENS),
        "stride": math.ceil(spec.vocabulary_size / GOLDEN_LOGITS),
    }
    return kept.model_copy(update=text)


def golden_reference(exportable: Exportable, golden: Golden) -> Reference:
    """Return the truth of all that is kept of a golden clip: for a decoder also a text, and the logits after each."""
    encoded, decoder = _cut_reference(exportable, golden), exportable.decoder
    if decoder is None:
        return encoded

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[Any]]:
        tokens = greedy(decoder, clip, golden.tokens)
        truth = decoder.reference(clip, tokens, dtype)
        text: dict[str, NDArray[Any]] = {LOGITS: truth[LOGITS][:, :: golden.stride], TOKENS: tokens}
        return {**encoded(clip, dtype), **truth, **text}

    return reference


def _cut_reference(exportable: Exportable, golden: Golden) -> Reference:
    """Return the truth of the rows that are kept of a golden clip."""

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        truth = exportable.reference(clip, dtype)
        kept = [output for output in exportable.outputs if output.name in golden.outputs]
        return {output.name: truth[output.name][golden.cut(output)] for output in kept}

    return reference


def variant_difference(exportable: Exportable, clips: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    """Return how far the variant is from what it departs from: the error of each output of one size, on `clips`."""
    if exportable.departed_from is None:
        return {}
    pairs = [(exportable.reference(clip), exportable.departed_from(clip)) for clip in clips]
    sized = [output.name for output in exportable.outputs if output.lengths is None]
    return {name: max(error(variant[name], original[name]) for variant, original in pairs) for name in sized}


def write_golden(
    path: Path, clips: Sequence[NDArray[np.float32]], reference: Reference, outputs: Sequence[str]
) -> None:
    """Write the clips and what the reference computes for each."""
    tensors: dict[str, NDArray[np.generic]] = {}
    for index, clip in enumerate(clips):
        truth = _finite(reference, clip)
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
