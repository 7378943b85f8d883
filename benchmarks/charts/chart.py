"""What a chart shows; records return these, and `sonant bench report` draws them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

FILE_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Series:
    """A line: points in the order of x, and where they are known, the intervals around them."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse values that do not belong together."""
        if (self.low is None) != (self.high is None):
            raise ValueError(f"series {self.name}: an interval has two ends")
        if {len(values) for values in (self.y, self.low, self.high) if values is not None} != {len(self.x)}:
            raise ValueError(f"series {self.name}: not as many y, or ends of intervals, as x")


@dataclass(frozen=True)
class Panel:
    """A pair of axes with lines; `title` may be empty."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Bar:
    """A value of one thing, with its interval; those of one `group` stand together, in a row, under its name."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    group: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is of Sonant, and stands out among others."""
        return self.label.lower().startswith("sonant")


@dataclass(frozen=True)
class Chart:
    """A picture.

    `name` is that of its file without .svg, `title` its heading, and `alt` says what it shows to who cannot see it.
    """

    name: str
    title: str
    alt: str

    def __post_init__(self) -> None:
        """Refuse what is no name of a file, and a picture that nobody could be told of."""
        if not FILE_NAME.fullmatch(self.name):
            raise ValueError(f"chart {self.name!r}: a name is of a-z, 0-9 and single hyphens")
        if not self.alt:
            raise ValueError(f"chart {self.name}: it needs words for those who cannot see it")


@dataclass(frozen=True)
class Lines(Chart):
    """Panels one above the other."""

    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Bars(Chart):
    """Horizontal bars from 0, and a line at `reference`, such as 1.0 where the values are ratios."""

    x_label: str
    rows: tuple[Bar, ...]
    reference: float | None = None


def file_name(*parts: str) -> str:
    """Return a name for a chart of these parts, such as "latency" and a model's name."""
    return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)


@runtime_checkable
class Charted(Protocol):
    """A record with charts."""

    @property
    def charts(self) -> tuple[Chart, ...]:
        """What `sonant bench report` draws of it."""
        ...
