"""The truth: transformers on one unpadded clip, and how far from it a graph may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from engines import generation
from engines.batch import Row
from engines.manifest import LOGITS, Precision
from engines.runtimes import Session, resident
from engines.verify import SILENCE, error
from export.errors import ParityError
from export.exportable import Decoder, Exportable, Reference

# The largest error of an fp32 output: about 80 roundings of fp32 (2**-23 each), which is what some ten layers of sums
# in another order leave.
TOLERANCE = 1e-5
# An input (DC with faint noise, a pure tone) may leave the reference itself fewer digits than that. The bound is then
# so many times what separates the reference in fp32 from itself in fp64: the graph's own rounding is about as large as
# the reference's, in another direction, and the maxima of the two differ.
GAP_FACTOR = 3.0
# Never beyond this, lest a reference that is wrong in fp64 lets anything pass: the largest that the hard signals of the
# tests ask for is 3.1e-3, for a full-scale tone before a filterbank whose DFT transformers computes in fp32.
CEILING = 4e-3


class Limit(NamedTuple):
    """How far an output may be from transformers on a golden clip."""

    error: float
    cosine: float  # at least so much


# Of the precisions that round on purpose. fp16: some five of its own roundings, 2**-10, at the largest value; bf16: as
# much again, with its 2**-7, and room for deep encoders, whose roundings add up; int8: what `engines.verify` serves,
# near enough for similarities between embeddings.
LIMITS: dict[Precision, Limit] = {
    "fp16": Limit(5e-3, 0.9999),
    "bf16": Limit(5e-2, 0.995),
    "int8": Limit(2e-1, 0.999),
}
PARITY_TOKENS = 12  # of the text that a decoder is given at export


def worst_excess(
    result: Row, reference: Reference, clip: NDArray[np.float32], truth: Row | None = None
) -> tuple[str, float, float]:
    """Return (output, error, bound) of the output of `result` that is farthest beyond its bound.

    `truth` is what `reference` computes for `clip` unless something else is given. The reference is computed in fp64
    only where an error is above `TOLERANCE`. Raises ParityError where the reference itself is not finite.
    """
    truth = truth or finite(reference, clip)
    errors = {name: error(array, truth[name]) for name, array in result.items()}
    bounds = dict.fromkeys(errors, TOLERANCE)
    if max(errors.values()) > TOLERANCE:
        single, double = finite(reference, clip), finite(reference, clip, torch.float64)
        bounds = {name: _bound(single[name], double[name]) for name in errors}
    name = max(errors, key=lambda name: errors[name] / bounds[name])
    return name, errors[name], bounds[name]


def _bound(single: NDArray[np.floating], double: NDArray[np.floating]) -> float:
    """Return the bound of an output that the reference computes as `single` in fp32 and as `double` in fp64."""
    return min(max(TOLERANCE, GAP_FACTOR * error(single, double)), CEILING)


def finite(
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


class Remembered:
    """A reference that computes each of `clips` once in fp32, however many graphs are compared with it."""

    def __init__(self, reference: Reference, clips: Sequence[NDArray[np.float32]]) -> None:
        self._reference, self._clips = reference, list(clips)
        self._truths: dict[int, dict[str, NDArray[np.floating]]] = {}

    def __call__(
        self, clip: NDArray[np.float32], dtype: torch.dtype = torch.float32
    ) -> dict[str, NDArray[np.floating]]:
        """Return what the reference does."""
        place = next((place for place, each in enumerate(self._clips) if each is clip), None)
        if place is None or dtype != torch.float32:
            return self._reference(clip, dtype)
        if place not in self._truths:
            self._truths[place] = self._reference(clip)
        return self._truths[place]


def check(
    rows: Sequence[Row], reference: Reference, clips: Sequence[NDArray[np.float32]], precision: Precision = "fp32"
) -> dict[str, float]:
    """Return the least cosine of each output between a row and the reference on its clip.

    Raises ParityError where they differ by more than the bounds of `precision`.
    """
    cosines: dict[str, float] = {}
    for row, clip in zip(rows, clips, strict=True):
        truth = finite(reference, clip)
        if precision in LIMITS:
            _check_limit(row, truth, precision, clip)
        else:
            name, found, bound = worst_excess(row, reference, clip, truth)
            if found > bound:
                raise ParityError(_differs(name, found, bound, clip))
        for name, array in row.items():
            cosines[name] = min(cosines.get(name, 1.0), cosine(array, truth[name]))
    return cosines


def _check_limit(
    row: Row, truth: Mapping[str, NDArray[np.floating]], precision: Precision, clip: NDArray[np.float32]
) -> None:
    """Raise ParityError where an output of `row` is beyond the limit of `precision`."""
    limit, remedy = LIMITS[precision], f"; leave {precision} out of --precision"
    for name, array in row.items():
        found, near = error(array, truth[name]), cosine(array, truth[name])
        if not found <= limit.error:
            raise ParityError(f"{precision}: {_differs(name, found, limit.error, clip)}{remedy}")
        if not near >= limit.cosine:
            raise ParityError(
                f"{precision}: {name} has a cosine of {near:.6f} to that of transformers (at least {limit.cosine}) on "
                f"a clip of {len(clip)} samples{remedy}"
            )


def _differs(name: str, found: float, bound: float, clip: NDArray[np.float32]) -> str:
    return f"{name} differs from transformers by {found:.1e} (bound {bound:.1e}) on a clip of {len(clip)} samples"


def cosine(result: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Return the cosine between all values of two arrays of one shape; 1 where the reference is as good as zero."""
    if float(np.abs(reference).max(initial=0.0)) < SILENCE:  # there is no direction, and `error` is absolute
        return 1.0
    a, b = (array.astype(np.float64).ravel() for array in (result, reference))
    sizes = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / sizes if sizes else 0.0


def check_text(
    session: Session,
    start: Session | None,
    decoder: Decoder,
    clips: Sequence[NDArray[np.float32]],
    precision: Precision = "fp32",
) -> dict[str, float]:
    """Do what `check` does for a graph of a decoder.

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

    return check(rows, reference, clips, precision)


def variant_difference(exportable: Exportable, clips: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    """Return how far the variant is from what it departs from: the error of each output of one size, on `clips`."""
    if exportable.departed_from is None:
        return {}
    pairs = [(exportable.reference(clip), exportable.departed_from(clip)) for clip in clips]
    sized = [output.name for output in exportable.outputs if output.lengths is None]
    return {name: max(error(variant[name], original[name]) for variant, original in pairs) for name in sized}
