"""Horizontal bars, each below its own name and value: as readable on a phone as on a desk."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from xml.etree.ElementTree import Element, SubElement

from benchmarks.charts import scales, svg
from benchmarks.charts.chart import Bar, Bars
from benchmarks.charts.svg import SMALL, TEXT, WIDTH

MARGIN = 6.0
LEFT, RIGHT = MARGIN, WIDTH - 14.0  # half of the last tick's label stands beyond the axis
ROW = 18.0  # from one baseline to the next
BAR, AROUND = 10.0, 5.0  # height of a bar, and what is free above and below it


def draw(chart: Bars) -> Element:
    """Return the picture; ValueError where there is no value."""
    reference = [] if chart.reference is None else [chart.reference]
    xs = scales.scale([value for row in chart.rows for value in (*ends(row), *reference)], log=False)

    def right(value: float) -> float:
        return LEFT + xs.place(value) * (RIGHT - LEFT)

    body = Element("g")
    y = svg.heading(body, chart.title, MARGIN)
    emphasis = any(row.ours for row in chart.rows)
    for group, rows in groupby(chart.rows, lambda row: row.group):
        if group:
            y += ROW + AROUND
            svg.text(body, MARGIN, y, group, "strong")
        for row in rows:
            y = _names(body, y, row)
            kind = "s0" if row.ours or not emphasis else "other"
            # Not through the names: a line over a word makes it hard to read.
            for tick in xs.ticks:
                svg.line(body, "grid", right(tick), y, right(tick), y + BAR + 2 * AROUND)
            _bar(SubElement(body, "g", {"class": kind}), row, y + AROUND, right)
            for value in reference:
                svg.line(body, "reference", right(value), y, right(value), y + BAR + 2 * AROUND)
            y += BAR + 2 * AROUND
    for tick in xs.ticks:
        svg.text(body, right(tick), y + 2 + SMALL, scales.label(tick), "small", "middle")
    y += 8 + 2 * SMALL
    svg.text(body, (LEFT + RIGHT) / 2, y, chart.x_label, "small", "middle")
    root = svg.picture(chart.title, chart.alt, y + 2 * MARGIN)
    root.extend(body)
    return root


def ends(row: Bar) -> tuple[float, ...]:
    """Return the values that must have a place on the axis."""
    return tuple(value for value in (row.value, row.low, row.high) if value is not None)


def _names(body: Element, y: float, row: Bar) -> float:
    """Write the label and the value of a bar below y, and return where that ends."""
    value = f"{row.value:.3g}" if math.isfinite(row.value) else "none"
    if row.low is not None and row.high is not None:
        value += f" ({row.low:.3g} to {row.high:.3g})"
    room = RIGHT - 3 * MARGIN - svg.width_of(value, SMALL)
    svg.text(body, RIGHT, y + ROW, value, "small", "end")
    for words in svg.wrapped(row.label, TEXT, room):
        y += ROW
        svg.text(body, MARGIN, y, words)
    return y


def _bar(group: Element, row: Bar, y: float, right: Callable[[float], float]) -> None:
    if not math.isfinite(row.value):
        return
    begin, end = sorted((right(0.0), right(row.value)))
    sizes = {"x": begin, "y": y, "width": end - begin, "height": BAR}
    SubElement(group, "rect", {"class": "mark"} | {name: svg.number(size) for name, size in sizes.items()})
    if row.low is not None and row.high is not None:
        svg.line(group, "end", right(row.low), y + BAR / 2, right(row.high), y + BAR / 2)
        for value in (row.low, row.high):
            svg.line(group, "end", right(value), y + 2, right(value), y + BAR - 2)
