"""A clip that is longer than the engine takes -> windows -> one result: the one place where windowing is defined.

A window sees more than it is asked about: `context` on both sides, so that what it keeps is about what the whole clip
would have given. What the windows keep follows one another and is all of the clip. They begin at multiples of the
samples of a frame, so that their frames are those of the clip.

What has no time axis, such as the labels of a window, is averaged: these windows have no context, and the weight of
each is the number of samples that it keeps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from engines.batch import Clip, Row
from engines.manifest import Manifest
from server.errors import AudioTooLongError, OptionError
from server.schemas.options import MIN_WINDOW_SECONDS, WindowOptions

# What a window takes where nothing is asked for: attention grows with the square of the length, and so does memory.
WINDOW_SECONDS = 30.0
# With more of it, frames near a seam come hardly nearer to those of the whole: benchmarks/README.md has the table.
CONTEXT_SECONDS = 1.3
# A window keeps at least half of what it sees, so that windows cost at most twice what the clip would.
MOST_CONTEXT = 1 / 4  # a side
# So many times the shortest clip and a frame is the least for a window: there is room for both sides and what is kept.
LEAST = 4
# Where text is joined, a window ends at the quietest place of its last seconds: people pause every few.
SILENCE_SHARE, SILENCE_SECONDS = 1 / 3, 8.0
# A pause between two words takes 0.2 s or more; the closure of a stop within one, 0.1 s.
PAUSE_SECONDS, PAUSE_STEP_SECONDS = 0.2, 0.02


class Span(NamedTuple):
    """Where a window lies in its clip, in samples: it sees `start` to `end`, and keeps `keep_start` to `keep_end`."""

    start: int
    end: int
    keep_start: int
    keep_end: int

    @property
    def kept(self) -> int:
        """Samples that it keeps: its weight where windows are averaged."""
        return self.keep_end - self.keep_start

    @classmethod
    def whole(cls, samples: int) -> Self:
        """Return the only window of a clip that is not cut."""
        return cls(0, samples, 0, samples)


@dataclass(frozen=True)
class Window:
    """What the engine gave for one window, or what was made of it, and where the window lies in its clip."""

    row: Row
    span: Span

    def kept(self, name: str, samples_per_frame: int) -> NDArray[np.float32]:
        """Return the frames of `name` that are the window's own: those that begin in what it keeps."""
        span, frames = self.span, self.row[name]
        first = (span.keep_start - span.start) // samples_per_frame
        if span.keep_end == span.end:  # of the last samples of a clip, the engine decides what becomes of them
            return frames[first:]
        return frames[first : (span.keep_end - span.start) // samples_per_frame]


@dataclass(frozen=True)
class Geometry:
    """How clips are cut, in samples.

    `window` is the most that a window sees, with `context` on each side of what it keeps; it begins at a multiple of
    `unit`, the samples that a frame advances, and keeps a multiple of it. Without a time axis `unit` is 1. The last
    window ends with the clip, and has `shortest` samples or more: as many as the first frame is made of.

    A clip of up to `longest` samples is not cut.
    """

    window: int
    context: int = 0
    unit: int = 1
    shortest: int = 1
    longest: int = 0

    @classmethod
    def of(cls, manifest: Manifest, outputs: Iterable[str], options: WindowOptions) -> Self:
        """Return what `options` ask for, for an engine and those of its outputs whose windows are joined.

        Where a window was asked for, what is longer is cut, else only what the engine does not take at once. Raises
        OptionError for what is impossible.
        """
        frames = [samples for name in outputs if (samples := manifest.output(name).samples_per_frame)]
        unit = math.lcm(*frames)
        window = _window(manifest, options, least=LEAST * (manifest.min_samples + unit))
        longest = manifest.max_samples if options.window_seconds is None else window
        context = _context(manifest, options, window, unit) if frames else 0
        if options.context_seconds and not frames:
            message = "'context_seconds' is of frames; what is asked for has no time axis: leave it out"
            raise OptionError(message, "context_seconds")
        return cls(window, context, unit, manifest.min_samples, longest)

    @property
    def ahead(self) -> int:
        """Samples that a window sees beyond what it keeps: all that its last frame is made of, or more."""
        return max(self.context, _round_up(self.shortest, self.unit)) if self.unit > 1 else 0


def spans(samples: int, geometry: Geometry) -> list[Span]:
    """Return the windows of a clip of so many `samples`, at least `geometry.shortest`.

    Raises AudioTooLongError where the engine takes too little at once for any window.
    """
    if samples <= max(geometry.longest, geometry.window):
        return [Span.whole(samples)]
    found = [following(None, samples, geometry)]
    while found[-1].end < samples:
        found.append(following(found[-1], samples, geometry))
    return found


def following(before: Span | None, samples: int, geometry: Geometry) -> Span:
    """Return the window that follows `before` in a clip of so many `samples`, or the first; raises as `spans` does."""
    unit = geometry.unit
    start, keep_start = (0, 0) if before is None else (before.keep_end - geometry.context, before.keep_end)
    if start + geometry.window >= samples:
        return Span(min(start, (samples - geometry.shortest) // unit * unit), samples, keep_start, samples)
    reach = (geometry.window - geometry.ahead) // unit * unit  # from where a window begins to what it keeps no more
    if reach <= geometry.context:
        raise AudioTooLongError("the audio is longer than the model takes at once, which is too little for windows")
    return Span(start, start + reach + geometry.ahead, keep_start, start + reach)


def cut_on_silence(clip: Clip, geometry: Geometry, sample_rate: int) -> list[Span]:
    """Return windows that follow one another, each cut where the clip is quietest in the last seconds of the window.

    None has fewer samples than `geometry.shortest`; nor has `clip`, of which only these seconds are read.
    """
    if clip.shape[0] <= max(geometry.longest, geometry.window):
        return [Span.whole(clip.shape[0])]
    search = round(min(SILENCE_SHARE * geometry.window, SILENCE_SECONDS * sample_rate))
    found, start, samples = [], 0, clip.shape[0]
    while samples - start > geometry.window:
        last = min(start + geometry.window, samples - geometry.shortest)
        first = max(start + geometry.shortest, last - search)
        end = first + _quietest(clip[first:last], sample_rate)
        found.append(Span(start, end, start, end))
        start = end
    return [*found, Span(start, samples, start, samples)]


def average(arrays: Sequence[NDArray[np.floating]], windows: Sequence[Window]) -> NDArray[np.float64]:
    """Return the mean of one array for each of `windows`, by the samples that they keep, in float64."""
    return np.average(np.asarray(arrays, np.float64), axis=0, weights=[window.span.kept for window in windows])


def _window(manifest: Manifest, options: WindowOptions, least: int) -> int:
    rate, most = manifest.sample_rate, manifest.max_samples
    if options.window_seconds is None:
        return min(round(WINDOW_SECONDS * rate), most)
    if not least <= options.window_seconds * rate <= most:
        low = max(math.ceil(1000 * least / rate) / 1000, MIN_WINDOW_SECONDS)
        high = math.floor(1000 * most / rate) / 1000
        message = f"'window_seconds' is {options.window_seconds:g}; with this model it may be {low:g} to {high:g}"
        raise OptionError(message, "window_seconds")
    return round(options.window_seconds * rate)


def _context(manifest: Manifest, options: WindowOptions, window: int, unit: int) -> int:
    """Return the context in samples: a multiple of `unit`."""
    most = MOST_CONTEXT * window
    if options.context_seconds is None:
        return int(min(CONTEXT_SECONDS * manifest.sample_rate, most)) // unit * unit
    asked = options.context_seconds * manifest.sample_rate
    if asked > most:
        message = f"'context_seconds' is {options.context_seconds:g}; up to a quarter of the window is taken: "
        raise OptionError(f"{message}{most / manifest.sample_rate:g}", "context_seconds")
    return min(_round_up(round(asked), unit), int(most) // unit * unit)


def _quietest(clip: Clip, sample_rate: int) -> int:
    """Return the middle of the pause in `clip` with the least energy, the last of several; in samples."""
    step = max(1, round(PAUSE_STEP_SECONDS * sample_rate))
    samples = int(clip.shape[0])
    steps = samples // step
    if not steps:
        return samples
    pause = min(steps, round(PAUSE_SECONDS / PAUSE_STEP_SECONDS))
    energy = np.square(clip[: steps * step].reshape(steps, step)).sum(axis=1, dtype=np.float64)
    quiet = np.convolve(energy, np.ones(pause), mode="valid")
    last = len(quiet) - 1 - int(np.argmin(quiet[::-1]))
    return last * step + pause * step // 2


def _round_up(samples: int, unit: int) -> int:
    return -(-samples // unit) * unit
