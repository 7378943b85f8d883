"""Writes deploy/grafana/sonant.json, which Grafana reads: `python -m deploy.grafana.dashboard`.

To change the dashboard, change `contents.py` and run this. What was changed in Grafana itself is lost with the next
start: it is provisioned from the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from deploy.grafana.contents import HOST, ROWS
from deploy.grafana.panel import DATASOURCE, Json

FILE = Path(__file__).parent / "sonant.json"
COLUMNS = 24
# Of the classic model; Grafana brings older ones up to date when it reads them.
SCHEMA_VERSION = 39


def dashboard() -> Json:
    """Return the dashboard."""
    return {
        "uid": "sonant",
        "title": "Sonant",
        "description": "Traffic, latency, queues, batches, engines and their verification, memory.",
        "tags": ["sonant"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,  # the same moment in all panels
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": [_restarts()]},
        "panels": list(_panels()),
    }


def _panels() -> Iterator[Json]:
    """Yield rows and their panels, from left to right and from top to bottom."""
    number, top = 1, 0
    for title, panels in ROWS.items():
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        number, left, top, height = number + 1, 0, top + 1, 0
        for panel in panels:
            if left + panel.width > COLUMNS:
                left, top, height = 0, top + height, 0
            yield panel.to_json(number, left, top)
            number, left, height = number + 1, left + panel.width, max(height, panel.height)
        top += height


def _variables() -> list[Json]:
    names = {"instance": f"label_values(up{{{HOST.split(',')[0]}}}, instance)"}
    names["model"] = f"label_values(sonant_model_state{{{HOST}}}, model)"
    # All is any, so that requests without a model are seen too.
    several = {"multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    found = [
        {
            "name": name,
            "type": "query",
            "label": name,
            "datasource": DATASOURCE,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,  # with the time range
            "sort": 1,  # by name
            **several,
        }
        for name, query in names.items()
    ]
    return [{"name": "datasource", "type": "datasource", "label": "data source", "query": "prometheus"}, *found]


def _restarts() -> Json:
    return {
        "name": "Starts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "purple",
        "expr": f"changes(process_start_time_seconds{{{HOST}}}[$__rate_interval]) > 0",
        "titleFormat": "{{instance}} was started",
        "step": "30s",
    }


def text() -> str:
    """Return the file's text."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
