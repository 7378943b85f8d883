"""How long is measured: in windows, until the last of them agree, as perf_analyzer does.

Source: docs/measurements_metrics.md of triton-inference-server/perf_analyzer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load.drive import Sample

LAST = 3  # windows that must agree


@dataclass(frozen=True)
class Rule:
    """When a measurement ends.

    A window takes `window` seconds and as many more as `requests` answers need, but no more than `longest` times that.
    The first is for warming up. The last three are the result as soon as the throughput of each and its mean latency
    are `within` this share of their means; after `windows` without that, it is not stable. A request is given up after
    `timeout` seconds. Of the first `checked` requests the answers are compared with those to them alone.
    """

    window: float = 10.0
    requests: int = 30
    longest: float = 5.0
    within: float = 0.1
    windows: int = 10
    timeout: float = 60.0
    checked: int = 16

    def __post_init__(self) -> None:
        """Refuse what cannot end well."""
        if min(self.window, self.timeout, self.within) <= 0 or self.longest < 1:
            raise ValueError(f"windows and timeouts are longer than 0 seconds: {self}")
        if self.windows < LAST:
            raise ValueError(f"at least {LAST} windows are compared, not {self.windows}")

    @property
    def most(self) -> float:
        """Seconds that a window may take."""
        return self.longest * self.window

    def seconds(self, rate: float) -> float:
        """Return how long windows are in which so many requests come each second."""
        return min(max(self.window, self.requests / rate), self.most)

    def is_met(self, windows: Sequence[Window]) -> bool:
        """Whether the last windows agree."""
        last = windows[-LAST:]
        return (
            len(last) == LAST
            and self._agree([window.throughput for window in last])
            and self._agree([window.latency for window in last])
        )

    def _agree(self, values: Sequence[float]) -> bool:
        mean = sum(values) / len(values)  # not a number where nothing was answered: then nothing agrees
        return mean > 0 and all(abs(value - mean) <= self.within * mean for value in values)


@dataclass(frozen=True)
class Window:
    """What was answered well in a span of time: seconds of audio for each second, and the mean latency in seconds."""

    throughput: float
    latency: float

    @classmethod
    def of(cls, samples: Sequence[Sample], begin: float, end: float) -> Window:
        """Look at what ended in a span."""
        good = [sample for sample in samples if begin <= sample.end < end and sample.good]
        audio = sum(sample.audio_seconds for sample in good)
        mean = sum(sample.latency for sample in good) / len(good) if good else float("nan")
        return cls(audio / (end - begin), mean)
