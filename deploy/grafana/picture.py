"""Draws the dashboard without Grafana, from a Prometheus that has data: every panel's queries, where the panel stands.

    python -m deploy.grafana.picture --prometheus http://127.0.0.1:9090 --minutes 60 --output dashboard.png

It is how the dashboard is looked at where there is no Grafana, and not what Grafana draws. Ends with 1 where Prometheus
refuses a query, and names the panels that have no data.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MultipleLocator

from deploy.grafana.dashboard import COLUMNS, FILE
from deploy.grafana.panel import ORANGE, RED, Json

COLUMN_INCHES, ROW_INCHES = 0.8, 0.36
STYLES = {"dark": "dark_background", "light": "default"}
SHADES = {"text": "grey", ORANGE: "darkorange"}
POINTS = 240  # of a line
TIMEOUT_SECONDS = 60
TIMES = 6  # below a panel
LEGENDS = 9  # of a panel; Grafana lets its legend be scrolled
# Binary steps, as Grafana's units "bytes" and "binBps" have them.
BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Series:
    """What Prometheus answers for a query: labels, and seconds since 1970 with values."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    def called(self, legend: str) -> str:
        """Return what its legend says."""
        return re.sub(r"{{(\w+)}}", lambda match: self.labels.get(match[1], ""), legend.replace("__auto", ""))


class Prometheus:
    """Asks for the panels' queries, over the last `minutes`."""

    def __init__(self, url: str, minutes: float, interval: str) -> None:
        self._seconds = 60 * minutes
        self._url = url
        self._values = {
            "$instance": ".*",
            "$model": ".*",
            "$__rate_interval": interval,
            "$__range": f"{60 * minutes:.0f}s",
        }

    def span(self) -> tuple[float, float]:
        """Return from when to when is drawn, in seconds since 1970."""
        end = time.time()
        return end - self._seconds, end

    def now(self, query: str) -> list[Series]:
        """Return what `query` gives now. Raises httpx.HTTPStatusError where it is refused, as `over` does."""
        return self._ask("query", query=query)

    def over(self, query: str, start: float, end: float) -> list[Series]:
        """Return what `query` gave from `start` to `end`."""
        return self._ask("query_range", query=query, start=start, end=end, step=(end - start) / POINTS)

    def _ask(self, kind: str, query: str, **times: float) -> list[Series]:
        for name, value in self._values.items():
            query = query.replace(name, value)
        answer = httpx.get(f"{self._url}/api/v1/{kind}", params={"query": query, **times}, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        found = answer.json()["data"]["result"]
        return [Series(one["metric"], list(_points(one.get("values", [one.get("value")])))) for one in found]


def _points(values: Sequence[Sequence[Any]]) -> Iterator[tuple[float, float]]:
    for moment, value in values:
        yield float(moment), float(value)


def shown(value: float, unit: str, decimals: int | None = None) -> str:
    """Return `value` with its unit, as Grafana has it, about."""
    if math.isnan(value):
        return "none"
    if unit == "percentunit":
        return f"{100 * value:.3g}%" if decimals is None else f"{100 * value:.{decimals}f}%"
    if unit in ("bytes", "binBps"):
        power = min(int(math.log(max(value, 1), 1024)), len(BYTES) - 1)
        return f"{value / 1024**power:.3g} {BYTES[power]}" + ("/s" if unit == "binBps" else "")
    if unit == "s":
        return f"{1e3 * value:.3g} ms" if 0 < value < 1 else f"{value:.3g} s"
    if unit == "sci":
        return f"{value:.1e}"
    return f"{value:.3g}" + (" req/s" if unit == "reqps" else "")


def draw(axes: Axes, panel: Json, answers: Sequence[list[Series]]) -> None:
    """Draw `panel` with what its queries have found."""
    axes.set_title(panel["title"], loc="left", fontsize=9, fontweight="bold")
    if not any(answers):
        axes.text(0.5, 0.5, "no data", ha="center", va="center", color="grey", transform=axes.transAxes)
        axes.set_axis_off()
        return
    {"timeseries": _lines, "stat": _stat, "table": _table, "bargauge": _bars}[panel["type"]](axes, panel, answers)


def _lines(axes: Axes, panel: Json, answers: Sequence[list[Series]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    limits = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
    is_stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    below: dict[float, float] = {}
    for target, answer in zip(panel["targets"], answers, strict=True):
        is_limit = target["refId"] in limits
        for series in answer:
            moments, values = [moment for moment, _ in series.points], [value for _, value in series.points]
            look: dict[str, Any] = {"color": RED, "linestyle": "--"} if is_limit else {}
            bottom = [below.get(moment, 0.0) for moment in moments]
            if is_stacked:
                values = [
                    low + (0.0 if math.isnan(value) else value) for low, value in zip(bottom, values, strict=True)
                ]
                below |= dict(zip(moments, values, strict=True))
            [line] = axes.plot(moments, values, linewidth=1, label=series.called(target["legendFormat"]), **look)
            if is_stacked:
                axes.fill_between(moments, bottom, values, alpha=0.3, linewidth=0, color=line.get_color())
    axes.set_ylim(bottom=0)
    axes.set_ylabel(defaults["custom"]["axisLabel"], fontsize=7)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, defaults["unit"])))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda moment, _: time.strftime("%H:%M", time.gmtime(moment))))
    earliest, latest = axes.get_xlim()
    axes.xaxis.set_major_locator(MultipleLocator(60 * max(1, round((latest - earliest) / 60 / TIMES))))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.2)
    handles, names = axes.get_legend_handles_labels()
    where: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.09), "ncols": 3, "fontsize": 6, "frameon": False}
    axes.legend(handles[:LEGENDS], names[:LEGENDS], **where)


def _stat(axes: Axes, panel: Json, answers: Sequence[list[Series]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    value = answers[0][0].points[-1][1]
    text, color = shown(value, defaults["unit"], defaults.get("decimals")), _color(value, defaults)
    for mapping in defaults["mappings"]:
        if found := mapping["options"].get(f"{value:g}"):
            text, color = found["text"], found["color"]
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=20, color=SHADES.get(color, color))
    axes.set_axis_off()


def _color(value: float, defaults: Json) -> str:
    if defaults["color"]["mode"] != "thresholds":
        return "text"
    steps = defaults["thresholds"]["steps"]
    return next((step["color"] for step in reversed(steps) if step["value"] is None or value >= step["value"]), "text")


def _table(axes: Axes, panel: Json, answers: Sequence[list[Series]]) -> None:
    _, chosen, organised = panel["transformations"]
    columns = chosen["options"]["include"]["names"]
    rows: dict[tuple[str, ...], list[str]] = {}
    for answer in answers:
        for series in answer:
            labels = tuple(series.labels.get(column, "") for column in columns if not column.startswith("Value"))
            rows.setdefault(labels, []).append(shown(series.points[-1][1], panel["fieldConfig"]["defaults"]["unit"]))
    has_values = any(column.startswith("Value") for column in columns)
    cells = [[*labels, *values] if has_values else [*labels] for labels, values in sorted(rows.items())]
    names = [organised["options"]["renameByName"].get(column, column) for column in columns]
    room = int(panel["gridPos"]["h"] * 1.5)
    left_out = [["..."] + [""] * (len(names) - 1)] if len(cells) > room else []
    table = axes.table(cells[:room] + left_out, colLabels=names, loc="upper left", cellLoc="left", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    table.auto_set_column_width(list(range(len(names))))
    for cell in table.get_celld().values():
        cell.get_text().set_color(mpl.rcParams["text.color"])
        cell.set_edgecolor("grey")
    axes.set_axis_off()


def _bars(axes: Axes, panel: Json, answers: Sequence[list[Series]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    found = sorted((series.called(panel["targets"][0]["legendFormat"]), series.points[-1][1]) for series in answers[0])
    names, values = [name for name, _ in found][::-1], [value for _, value in found][::-1]
    colors = [SHADES.get(color, color) for color in (_color(value, defaults) for value in values)]
    bars = axes.barh(names, values, color=colors, height=0.6)
    labels = [f"{name}  {shown(value, defaults['unit'])}" for name, value in zip(names, values, strict=True)]
    axes.bar_label(bars, labels, fontsize=7, padding=3)
    axes.set_yticks([])
    axes.set_xlim(0, defaults["max"])
    axes.tick_params(labelsize=7)
    axes.set_xticks([])


def picture(prometheus: Prometheus, theme: str, path: str) -> tuple[list[str], list[str]]:
    """Draw the dashboard into `path`; return the panels without data, and what Prometheus refused."""
    panels = json.loads(FILE.read_text())["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    span, empty, refused = prometheus.span(), [], []
    with plt.style.context(STYLES[theme]):
        figure = plt.figure(figsize=(COLUMNS * COLUMN_INCHES, height * ROW_INCHES))
        for panel in panels:
            place = panel["gridPos"]
            left, width = place["x"] / COLUMNS, place["w"] / COLUMNS
            if panel["type"] == "row":
                figure.text(0.005, 1 - (place["y"] + 0.8) / height, panel["title"], fontsize=12, fontweight="bold")
                continue
            try:
                answers = [
                    prometheus.now(target["expr"]) if target["instant"] else prometheus.over(target["expr"], *span)
                    for target in panel["targets"]
                ]
            except httpx.HTTPStatusError as error:
                refused.append(f"{panel['title']}: {error.response.text}")
                continue
            if not any(answers):
                empty.append(panel["title"])
            # What stands around the axes: labels on their left, the title above, times and a legend below.
            inner = (left + 0.11 * width, 1 - (place["y"] + 0.75 * place["h"]) / height)
            size = (0.86 * width, 0.62 * place["h"] / height)
            axes = figure.add_axes((*inner, *size))
            if panel["type"] == "timeseries":
                axes.set_xlim(*span)
            draw(axes, panel, answers)
        figure.savefig(path, dpi=100)
        plt.close(figure)
    return empty, refused


def main() -> int:
    """Draw, and say what could not be."""
    parser = argparse.ArgumentParser(description="Draw the dashboard from what a Prometheus has.")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    parser.add_argument("--minutes", type=float, default=60, help="the time until now that is drawn")
    parser.add_argument("--interval", default="1m", help="over which rates are taken: at least four scrapes")
    parser.add_argument("--theme", choices=STYLES, default="dark")
    parser.add_argument("--output", default="dashboard.png")
    arguments = parser.parse_args()
    prometheus = Prometheus(arguments.prometheus, arguments.minutes, arguments.interval)
    empty, refused = picture(prometheus, arguments.theme, arguments.output)
    print(f"Wrote {arguments.output}" + (f"; without data: {', '.join(empty)}" if empty else ""))
    for reason in refused:
        print(f"refused: {reason}", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    mpl.use("Agg")
    sys.exit(main())
