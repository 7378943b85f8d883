"""When words are said, as an engine tells it, next to when they were."""

from __future__ import annotations

from typing import Literal

from benchmarks.base import Model, Run, Table


class Differences(Model):
    """Of the times of words, in milliseconds: the engine's less espeak-ng's."""

    words: int
    median: float  # of the absolute differences
    p90: float
    bias: float  # the median of the differences


class TimesCell(Model):
    """One way to decode."""

    decoding: str
    starts: Differences
    ends: Differences
    error_rate: float  # of the words
    milliseconds: float  # of decoding, for a second of audio


class Timestamps(Model):
    """The times of words of CTC, next to those of the synthesizer that spoke them."""

    benchmark: Literal["timestamps"] = "timestamps"
    run: Run
    clips: int
    audio_seconds: float
    words: int  # that espeak-ng tells the time of
    cells: tuple[TimesCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"Times of words: {self.run.model}"

    @property
    def table(self) -> Table:
        """A row for each way to decode."""
        header = ["decoding", "word error rate", "starts", "median", "p90", "bias", "ends", "median", "p90", "bias"]
        return [*header, "decoding, ms/s"], [
            [
                *(cell.decoding, f"{100 * cell.error_rate:.1f} %"),
                *_row(cell.starts),
                *_row(cell.ends),
                f"{cell.milliseconds:.1f}",
            ]
            for cell in self.cells
        ]

    @property
    def summary(self) -> str:
        """The figures that count."""
        return (
            f"{self.clips} held-out sentences in held-out voices, {self.audio_seconds:.0f} s, next to espeak-ng's own "
            f"events: it tells the beginning of {self.words} words, and the end of those that it does not run together "
            "with the next. Those count that were heard right. Median and 90th percentile are of absolute "
            "differences; the bias is the median difference, below 0 where the engine is early. CTC tells which frames "
            "say that a character was heard: as a rule a single one, before its sound ends, so words end early. The "
            "times are these frames, as transformers has them; nothing is added."
        )


def _row(differences: Differences) -> list[str]:
    times = (differences.median, differences.p90, differences.bias)
    return [str(differences.words), *(f"{time:.0f} ms" for time in times)]
