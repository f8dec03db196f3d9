"""What rules, dashboards and runbooks name: metrics, their labels, and where they may come from."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from xhash_ray.dashboards.layout import DASHBOARDS
from xhash_ray.dashboards.prometheus import plain
from xhash_ray.telemetry import METRICS

ROOT = Path(__file__).parents[2]
RULES, CONFIG = ROOT / "deploy" / "prometheus" / "rules.yaml", ROOT / "deploy" / "prometheus" / "prometheus.yml"
RUNBOOKS, DASHBOARD_FILES = ROOT / "deploy" / "RUNBOOKS.md", ROOT / "deploy" / "grafana" / "dashboards"
UNIT_TESTS = [ROOT / "tests" / "dashboards" / name for name in ("alerts_test.yaml", "alerts_of_days_test.yaml")]
NAME = re.compile(r"\b((?:xhash[_:]|ray_)[a-z0-9_:]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
DECLARED = {name + suffix: metric for name, metric in METRICS.items() for suffix in SUFFIXES[metric.kind]}


@cache
def rules() -> list[dict[str, Any]]:
    """Every rule."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Rules that are alerts."""
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> set[str]:
    """Names that rules record."""
    return {rule["record"] for rule in rules() if "record" in rule}


def panel_expressions() -> list[str]:
    """Every query of every panel."""
    every = [query for dashboard in DASHBOARDS for panel in dashboard.panels() for query in panel.queries]
    return [plain(query, "1m") for query in every]


@cache
def rays_names() -> str:
    """The source that names what Ray says of nodes; read, not imported."""
    (package,) = find_spec("ray").submodule_search_locations
    return (Path(package) / "dashboard" / "modules" / "reporter" / "reporter_agent.py").read_text()


def strangers(text: str) -> list[str]:
    """Metrics that nobody exports, and labels that they do not have."""
    found = []
    for name, matchers in NAME.findall(text):
        if name.startswith("ray_"):
            if f'"{name.removeprefix("ray_")}"' not in rays_names():
                found.append(name)
        elif name not in recorded() and name not in DECLARED:
            found.append(name)
        elif name in DECLARED:
            known = {*DECLARED[name].labels, *(("le",) if name.endswith("_bucket") else ())}
            found += [f"{name}{{{label}}}" for label in MATCHER.findall(matchers) if label not in known]
    return found
