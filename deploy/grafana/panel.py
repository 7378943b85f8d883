"""A panel of the dashboard, in a few words, and what Grafana reads of it, in its classic model of dashboards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["timeseries", "stat", "table", "bargauge"]
Json = dict[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Names of Grafana's palette, which has a shade of each for dark and for light.
GREEN, ORANGE, RED = "green", "orange", "red"


@dataclass(frozen=True)
class Query:
    """An expression of PromQL. Its series are called `legend`, in which {{label}} is the value of a label."""

    expression: str
    legend: str = ""
    is_limit: bool = False  # drawn as a dashed red line


@dataclass(frozen=True)
class Panel:
    """One panel. `unit` is a name of Grafana's; `steps` are values from which on it is another colour."""

    title: str
    queries: Sequence[Query]
    description: str
    unit: str = "short"
    kind: Kind = "timeseries"
    width: int = 8  # of 24 columns
    height: int = 8
    stacked: bool = False
    steps: Sequence[tuple[str, float]] = ()
    texts: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # by value: what it is called, and its colour
    decimals: int | None = None
    maximum: float | None = None
    columns: Sequence[str] = ()  # of a table: the labels that it shows, and "Value"
    axis: str = ""

    def to_json(self, number: int, left: int, top: int) -> Json:
        """Return what Grafana reads, with the panel at these columns and rows of its grid."""
        is_instant = self.kind != "timeseries"
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": left, "y": top, "w": self.width, "h": self.height},
            "targets": [
                {
                    "refId": chr(ord("A") + index),
                    "datasource": DATASOURCE,
                    "expr": query.expression,
                    "legendFormat": query.legend or "__auto",
                    "instant": is_instant,
                    "range": not is_instant,
                    "format": "table" if self.kind == "table" else "time_series",
                }
                for index, query in enumerate(self.queries)
            ],
            "fieldConfig": {"defaults": self._defaults(), "overrides": self._limits()},
            "options": OPTIONS[self.kind],
            "transformations": self._transformations(),
        }

    def _defaults(self) -> Json:
        fixed = [{"color": color, "value": value} for color, value in self.steps]
        defaults: Json = {
            "unit": self.unit,
            "color": {"mode": "thresholds" if self.steps else "palette-classic"},
            "thresholds": {"mode": "absolute", "steps": [{"color": GREEN, "value": None}, *fixed]},
            "custom": self._custom(),
            "mappings": [],
        }
        if self.kind == "timeseries":
            defaults["color"] = {"mode": "palette-classic"}
            defaults["min"] = 0
        if self.kind == "stat" and not self.steps:
            defaults["color"] = {"mode": "fixed", "fixedColor": "text"}
        if self.maximum is not None:
            defaults |= {"min": 0, "max": self.maximum}
        if self.decimals is not None:
            defaults["decimals"] = self.decimals
        if self.texts:
            shown = {
                value: {"text": text, "color": color, "index": index}
                for index, (value, (text, color)) in enumerate(self.texts.items())
            }
            defaults["mappings"] = [{"type": "value", "options": shown}]
        if self.kind == "stat":  # shares of no requests
            defaults["mappings"].append({"type": "special", "options": {"match": "nan", "result": {"text": "none"}}})
        return defaults

    def _custom(self) -> Json:
        if self.kind != "timeseries":
            return {}
        return {
            "axisLabel": self.axis,
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if self.stacked else 0,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
        }

    def _limits(self) -> list[Json]:
        """Draw what is a limit as such."""
        look = [
            {"id": "color", "value": {"mode": "fixed", "fixedColor": RED}},
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
        ]
        return [
            {"matcher": {"id": "byFrameRefID", "options": chr(ord("A") + index)}, "properties": look}
            for index, query in enumerate(self.queries)
            if query.is_limit
        ]

    def _transformations(self) -> list[Json]:
        """Of a table: the columns that it has, in their order, from the only query or from several side by side."""
        if self.kind != "table":
            return []
        values = [column for column in self.columns if column.startswith("Value")]
        names = dict(zip(values, (query.legend for query in self.queries), strict=False))
        organised = {
            "excludeByName": {},
            "indexByName": {column: index for index, column in enumerate(self.columns)},
            "renameByName": names,
        }
        return [
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": {"include": {"names": list(self.columns)}}},
            {"id": "organize", "options": organised},
        ]


_REDUCED = {"calcs": ["lastNotNull"], "fields": "", "values": False}
OPTIONS: dict[Kind, Json] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": _REDUCED,
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "value",
        "justifyMode": "center",
        "orientation": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
    "bargauge": {
        "reduceOptions": _REDUCED,
        "displayMode": "basic",
        "orientation": "horizontal",
        "valueMode": "color",
        "namePlacement": "auto",
        "showUnfilled": True,
        "sizing": "auto",
        "minVizHeight": 10,
        "minVizWidth": 8,
        "maxVizHeight": 300,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
    },
}
