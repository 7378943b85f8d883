"""A chart as an SVG file: one for phones and desks, light and dark."""

from __future__ import annotations

from benchmarks.charts import bars, lines, svg
from benchmarks.charts.chart import Bars, Chart, Lines


def draw(chart: Chart) -> str:
    """Return the file's text, which depends on the chart alone; ValueError where it has no value to show."""
    match chart:
        case Lines():
            return svg.render(lines.draw(chart))
        case Bars():
            return svg.render(bars.draw(chart))
        case _:
            raise TypeError(f"chart {chart.name}: nothing draws a {type(chart).__name__}")
