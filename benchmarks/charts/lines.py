"""Lines over an axis, in panels one above the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element, SubElement

from benchmarks.charts import scales, svg
from benchmarks.charts.chart import Lines, Panel, Series
from benchmarks.charts.scales import Scale
from benchmarks.charts.svg import SMALL, TEXT, WIDTH

MARGIN = 6.0
RIGHT = WIDTH - 14.0  # half of the last tick's label stands beyond the axis
PLOT = 160.0  # height of the axes
ROW = 18.0  # from one baseline to the next
SWATCH = 26.0
MARK = 3.6  # half of a marker's size
# Around (0, 0), in halves of the size: square, triangle, diamond and the triangle upside down; the first is a circle.
SHAPES = (
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    ((0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
)


def draw(chart: Lines) -> Element:
    """Return the picture; ValueError where a panel has no value."""
    names = list(dict.fromkeys(series.name for panel in chart.panels for series in panel.series))
    places = {name: index for index, name in enumerate(names)}
    shared = all({series.name for series in panel.series} == set(names) for panel in chart.panels)
    body = Element("g")
    y = svg.heading(body, chart.title, MARGIN)
    if shared:
        y = _legend(body, y, places)
    for panel in chart.panels:
        y = _panel(body, y + ROW / 2, panel, places, legend=not shared)
    root = svg.picture(chart.title, chart.alt, y + MARGIN)
    root.extend(body)
    return root


def _legend(body: Element, y: float, places: dict[str, int]) -> float:
    """Write the name of each line beside its colour and marker, below y, and return where that ends."""
    x, y = MARGIN, y + ROW
    for name, place in places.items():
        wide = SWATCH + svg.width_of(name, TEXT) + 12
        if x > MARGIN and x + wide > WIDTH:
            x, y = MARGIN, y + ROW
        group = SubElement(body, "g", {"class": _colour(place)})
        svg.line(group, _line(place), x, y - 4, x + SWATCH - 6, y - 4)
        _mark(group, x + (SWATCH - 6) / 2, y - 4, place)
        svg.text(body, x + SWATCH, y, name)
        x += wide
    return y


def _panel(body: Element, y: float, panel: Panel, places: dict[str, int], *, legend: bool) -> float:
    """Draw one pair of axes below y, and return where it ends."""
    for words in svg.wrapped(panel.title, svg.BOLD * TEXT, WIDTH - 2 * MARGIN):
        y += ROW
        svg.text(body, MARGIN, y, words, "strong")
    if legend:
        y = _legend(body, y, {series.name: places[series.name] for series in panel.series})
    y += ROW
    svg.text(body, MARGIN, y, panel.y_label, "small")
    xs = scales.at([x for series in panel.series for x in series.x], log=panel.log_x)
    ys = scales.scale([y_ for series in panel.series for y_ in _all(series)], log=panel.log_y)
    top = y + 0.7 * ROW
    bottom = top + PLOT
    left = 2 * MARGIN + max(svg.width_of(scales.label(tick), SMALL) for tick in ys.ticks)
    axes = Axes(xs, ys, left, RIGHT, top, bottom)
    for tick in ys.ticks:
        svg.line(body, "grid", left, axes.y(tick), RIGHT, axes.y(tick))
        svg.text(body, left - MARGIN, axes.y(tick) + 4, scales.label(tick), "small", "end")
    svg.line(body, "axis", left, bottom, RIGHT, bottom)
    for tick in xs.ticks:
        svg.line(body, "axis", axes.x(tick), bottom, axes.x(tick), bottom + 4)
        svg.text(body, axes.x(tick), bottom + 4 + SMALL, scales.label(tick), "small", "middle")
    for series in panel.series:
        _series(body, axes, series, places[series.name])
    svg.text(body, (left + RIGHT) / 2, bottom + 8 + 2 * SMALL + 2, panel.x_label, "small", "middle")
    return bottom + 12 + 2 * SMALL + 2


class Axes:
    """Where values are in the picture."""

    def __init__(self, xs: Scale, ys: Scale, left: float, right: float, top: float, bottom: float) -> None:
        self._xs, self._ys = xs, ys
        self._left, self._right, self._top, self._bottom = left, right, top, bottom

    def x(self, value: float) -> float:
        """Return how far right `value` is."""
        return self._left + self._xs.place(value) * (self._right - self._left)

    def y(self, value: float) -> float:
        """Return how far down `value` is."""
        return self._bottom - self._ys.place(value) * (self._bottom - self._top)

    def shows(self, x: float, y: float) -> bool:
        """Whether there is a place for this point: none for what was not measured, or has no logarithm."""
        return all(
            math.isfinite(value) and not (scale.log and value <= 0) for value, scale in ((x, self._xs), (y, self._ys))
        )


def _series(body: Element, axes: Axes, series: Series, place: int) -> None:
    group = SubElement(body, "g", {"class": _colour(place)})
    SubElement(group, "title").text = series.name
    if series.low is not None and series.high is not None:
        for x, low, high in zip(series.x, series.low, series.high, strict=True):
            if axes.shows(x, low) and axes.shows(x, high):
                svg.line(group, "interval", axes.x(x), axes.y(low), axes.x(x), axes.y(high))
    points = [(axes.x(x), axes.y(y)) for x, y in zip(series.x, series.y, strict=True) if axes.shows(x, y)]
    SubElement(group, "polyline", {"class": _line(place), "points": _points(points)})
    for x, y in points:
        _mark(group, x, y, place)


def _mark(group: Element, x: float, y: float, place: int) -> None:
    shape = SHAPES[place % len(SHAPES)]
    if shape:
        points = [(x + MARK * right, y + MARK * down) for right, down in shape]
        SubElement(group, "polygon", {"class": "mark", "points": _points(points)})
    else:
        SubElement(group, "circle", {"class": "mark", "cx": svg.number(x), "cy": svg.number(y), "r": svg.number(MARK)})


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{svg.number(x)},{svg.number(y)}" for x, y in points)


def _colour(place: int) -> str:
    return f"s{place % svg.COLOURS}"


def _line(place: int) -> str:
    return "line" if place < svg.COLOURS else "line again"


def _all(series: Series) -> Iterator[float]:
    yield from series.y
    yield from series.low or ()
    yield from series.high or ()
