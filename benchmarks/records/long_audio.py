"""What `sonant bench long-audio` writes."""

from __future__ import annotations

from typing import Literal

from benchmarks.base import Model, Run, Table
from benchmarks.findings import Promise

# What is promised of a recording of hours.
ADDED_MIB = 150.0  # over the server when it is idle
SLOWER = 0.10  # for a second of audio than in a clip of half a minute


class ContextCell(Model):
    """One engine with windows of one context."""

    model: str
    context_seconds: float
    median: float  # over frames: |windowed - whole| / |whole|
    p99: float
    near: float  # the median of the frames within half a second of where windows meet
    differing: int | None  # texts that are not that of the whole; None for an engine without CTC
    word_errors: float | None  # of the windowed texts, to what was said


class WindowEffect(Model):
    """Clips that the engine takes at once, cut into windows all the same."""

    benchmark: Literal["long-audio-windows"] = "long-audio-windows"
    run: Run
    clips: int
    clip_seconds: float
    window_seconds: float
    whole_word_errors: dict[str, float]  # by engine
    cells: tuple[ContextCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"Windows of {self.window_seconds:g} s against the whole"

    @property
    def table(self) -> Table:
        """A row for each engine and context."""
        rows = [
            [
                *(cell.model, f"{cell.context_seconds:g}"),
                *(f"{100 * value:.2f}" for value in (cell.median, cell.near, cell.p99)),
                "" if cell.differing is None else f"{cell.differing} of {self.clips}",
                "" if cell.word_errors is None else f"{100 * cell.word_errors:.2f}",
            ]
            for cell in self.cells
        ]
        header = ["engine", "context s", "frames, median %", "near a seam", "p99", "texts that differ", "word errors %"]
        return header, rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        whole = ", ".join(f"{name} {100 * value:.2f} %" for name, value in self.whole_word_errors.items())
        return (
            f"{self.clips} recordings of about {self.clip_seconds:.0f} s, each encoded at once and in windows of "
            f"{self.window_seconds:g} s with so many seconds of context a side. A frame's error is the length of its "
            "difference from that of the whole, by the length of that; near a seam are the frames within half a second "
            "of where two windows meet. What is left with much context is what the model takes from the whole clip, "
            f"such as the loudness by which it is normalized. Word errors of the whole: {whole}."
        )


class LongCell(Model):
    """One way to ask for a long recording."""

    what: str
    seconds: float
    per_second: float  # seconds for each second of audio
    short_per_second: float  # the same, of clips of half a minute
    peak_mib: float
    received_mib: float

    @property
    def slower(self) -> float:
        """Than a short clip, relative."""
        return self.per_second / self.short_per_second - 1.0


class LongRecording(Model):
    """A recording of hours against the real server."""

    benchmark: Literal["long-audio-recording"] = "long-audio-recording"
    run: Run
    minutes: float
    short_seconds: float
    idle_mib: float
    word_errors: float
    pieces_word_errors: float  # of the clips of half a minute that the recording is made of
    sentences_word_errors: float  # of the sentences that these are made of
    cells: tuple[LongCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"A recording of {self.minutes:g} minutes"

    @property
    def table(self) -> Table:
        """A row for each way to ask."""
        rows = [
            [
                *(cell.what, f"{cell.seconds:.1f}", f"{1 / cell.per_second:.1f}", f"{1 / cell.short_per_second:.1f}"),
                *(f"{100 * cell.slower:+.1f}", f"{cell.peak_mib - self.idle_mib:.1f}", f"{cell.received_mib:.1f}"),
            ]
            for cell in self.cells
        ]
        short = f"in clips of {self.short_seconds:g} s"
        return ["asked for", "seconds", "audio s/s", short, "slower %", "added peak MiB", "answer MiB"], rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        added = max(cell.peak_mib for cell in self.cells) - self.idle_mib
        slower = max(cell.slower for cell in self.cells)
        return (
            f"Sentences of the demo with pauses between them, sent as FLAC. The idle server has {self.idle_mib:.0f} "
            f"MiB; the peak is at most {added:.0f} MiB above (promised: {ADDED_MIB:g}). A second of audio takes up to "
            f"{100 * slower:.1f} % longer than in clips of {self.short_seconds:g} s, one after the other (promised: "
            f"{100 * SLOWER:g} %). Word errors: {100 * self.word_errors:.2f} %; {100 * self.pieces_word_errors:.2f} % "
            f"of the pieces of {self.short_seconds:g} s that it is made of (promised: no worse), and "
            f"{100 * self.sentences_word_errors:.2f} % of the sentences alone."
        )

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What hours may cost, beside clips of half a minute."""
        added = max(cell.peak_mib for cell in self.cells) - self.idle_mib
        slower = max(cell.slower for cell in self.cells)
        hours = f"{self.minutes:g} minutes in one request"
        return (
            Promise(
                f"{hours}: memory over the idle server",
                f"at most {ADDED_MIB:g} MiB",
                f"{added:.0f} MiB",
                added <= ADDED_MIB,
            ),
            Promise(
                f"{hours}: time of a second of audio, over that in clips of {self.short_seconds:g} s",
                f"at most {100 * SLOWER:g} % more",
                f"{100 * slower:+.1f} %",
                slower <= SLOWER,
            ),
            Promise(
                f"{hours}: word errors, over those of its pieces of {self.short_seconds:g} s",
                f"at most {100 * self.pieces_word_errors:.2f} %",
                f"{100 * self.word_errors:.2f} %",
                self.word_errors <= self.pieces_word_errors,
            ),
        )
