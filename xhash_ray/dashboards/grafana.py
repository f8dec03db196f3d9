"""Dashboards as Grafana reads them."""

from __future__ import annotations

import json
from typing import Any

from xhash_ray.dashboards.layout import DASHBOARDS, Dashboard
from xhash_ray.dashboards.panels import VARIABLES, Panel

COLUMNS, PANEL_HEIGHT, NUMBER_HEIGHT = 24, 8, 4
SCHEMA_VERSION = 41  # of Grafana 11.6; later ones migrate it
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def files() -> dict[str, str]:
    """Every dashboard as a file: its name and its text."""
    return {f"{each.uid}.json": json.dumps(to_json(each), indent=1, sort_keys=True) + "\n" for each in DASHBOARDS}


def to_json(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["xhash"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one cross for all panels
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [DATASOURCES, *(variable(label) for label in used(dashboard))]},
        "links": [{"type": "dashboards", "tags": ["xhash"], "title": "xhash", "asDropdown": False, "keepTime": True}],
        "annotations": {"list": [FIRING]},
        "panels": placed(dashboard),
    }


DATASOURCES = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}
FIRING = {
    "name": "Alerts",
    "datasource": DATASOURCE,
    "enable": True,
    "iconColor": "red",
    "expr": 'ALERTS{alertname=~"Xhash.*", alertstate="firing"}',
}


def used(dashboard: Dashboard) -> list[str]:
    """The labels that a dashboard's queries filter by."""
    expressions = " ".join(query.expression for panel in dashboard.panels() for query in panel.queries)
    return [label for label in VARIABLES if f"${label}" in expressions]


def variable(label: str) -> dict[str, Any]:
    """A choice at the top of a dashboard: the values that a label has, or all."""
    return {
        "name": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": f"label_values({VARIABLES[label]}, {label})",
        "refresh": 2,  # when the time range changes
        "includeAll": True,
        "allValue": ".*",
        "multi": False,
        "current": {"selected": True, "text": "All", "value": "$__all"},
    }


def placed(dashboard: Dashboard) -> list[dict[str, Any]]:
    """Rows and panels with their places: from left to right, and below where a line is full."""
    made: list[dict[str, Any]] = []
    top = 0
    for row in dashboard.rows:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        made.append({"id": len(made) + 1, "type": "row", "title": row.title, "collapsed": False, "gridPos": place})
        top, left, tallest = top + 1, 0, 0
        for panel in row.panels:
            height = NUMBER_HEIGHT if panel.kind == "stat" else PANEL_HEIGHT
            if left + panel.width > COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            made.append({"id": len(made) + 1, "gridPos": place, **panel_json(panel)})
            left, tallest = left + panel.width, max(tallest, height)
        top += tallest
    return made


def panel_json(panel: Panel) -> dict[str, Any]:
    """A panel without its place."""
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.kind == "timeseries":
        defaults["custom"] = {"axisLabel": panel.axis, "fillOpacity": 8, "lineWidth": 2, "showPoints": "auto"}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": OPTIONS[panel.kind] if panel.kind != "heatmap" else heatmap_options(panel),
        "targets": [target(panel, number) for number in range(len(panel.queries))],
    }


OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "values": False},
        "graphMode": "area",
        "colorMode": "value",
        "justifyMode": "auto",
        "textMode": "auto",
        "orientation": "auto",
    },
}


def heatmap_options(panel: Panel) -> dict[str, Any]:
    """Buckets come from Prometheus; their bounds have the panel's unit."""
    return {
        "calculate": False,
        "cellGap": 1,
        "color": {"scheme": "Oranges", "mode": "scheme", "steps": 64, "exponent": 0.5, "fill": "dark-orange"},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "unit": panel.unit, "axisLabel": panel.axis},
    }


def target(panel: Panel, number: int) -> dict[str, Any]:
    """A query of a panel."""
    query = panel.queries[number]
    return {
        "refId": chr(ord("A") + number),
        "datasource": DATASOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "format": "heatmap" if panel.kind == "heatmap" else "time_series",
        "editorMode": "code",
        "range": True,
    }
