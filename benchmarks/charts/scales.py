"""From values to places on an axis, and where its ticks are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STEPS = (1.0, 2.0, 5.0, 10.0)
MAX_TICKS, MAX_LOG_TICKS = 6, 8
WHOLE = 1e-9  # relative: what is left of a whole number of steps after rounding


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, on which a place is 0 at its begin and 1 at its end."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Return where `value` is."""
        low, high, value = (math.log(each) if self.log else each for each in (self.low, self.high, value))
        return (value - low) / (high - low)


def scale(values: Iterable[float], *, log: bool) -> Scale:
    """Return an axis for `values`: from 0 unless some are below; ValueError where a logarithm has none above 0."""
    known = [value for value in values if math.isfinite(value) and not (log and value <= 0)]
    if not known:
        raise ValueError("a chart without a value")
    return _logarithmic(min(known), max(known)) if log else _linear(min(0.0, *known), max(known))


def at(values: Iterable[float], *, log: bool) -> Scale:
    """Return an axis that ends at the least and the largest of `values`, with ticks at them where they are few."""
    wide = scale(values, log=log)
    found = tuple(sorted({value for value in values if math.isfinite(value) and not (log and value <= 0)}))
    if len(found) < 2:
        return wide
    ends = Scale(found[0] if log else min(0.0, found[0]), found[-1], log, ())
    ticks = _apart(ends, found) if len(found) <= 2 * MAX_TICKS else [tick for tick in wide.ticks if tick <= ends.high]
    return Scale(ends.low, ends.high, log, tuple(tick for tick in ticks if tick >= ends.low))


def label(value: float) -> str:
    """Return `value` as a tick has it."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / min(size, 1e3 if unit == 'k' else size):.4g}{unit}"
    return f"{value:.4g}"


def _linear(low: float, high: float) -> Scale:
    high = high if high > low else low + 1.0
    rough = (high - low) / (MAX_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in STEPS if power * each >= rough * (1 - WHOLE))
    first, last = math.floor(low / step + WHOLE), math.ceil(high / step - WHOLE)
    return Scale(first * step, last * step, log=False, ticks=tuple(step * index for index in range(first, last + 1)))


def _logarithmic(low: float, high: float) -> Scale:
    """End at 1, 2 or 5 times a power of ten."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    round_ones = [each * 10.0**power for power in powers for each in STEPS[:-1]]
    begin = max(value for value in round_ones if value <= low * (1 + WHOLE))
    end = min(value for value in round_ones if value >= high * (1 - WHOLE) and value > begin)
    within = [value for value in round_ones if begin <= value <= end]
    decades = [value for value in within if math.log10(value).is_integer()]
    ticks = within if len(within) <= MAX_LOG_TICKS else decades
    return Scale(begin, end, log=True, ticks=tuple(ticks[:: math.ceil(len(ticks) / MAX_LOG_TICKS)]))


def _apart(scale_: Scale, values: Sequence[float]) -> list[float]:
    """Return the largest of `values`, and those below it with room for their labels between them."""
    kept = [values[-1]]
    for value in reversed(values[:-1]):
        if scale_.place(kept[-1]) - scale_.place(value) >= 1 / (2 * MAX_TICKS):
            kept.append(value)
    return kept[::-1]
