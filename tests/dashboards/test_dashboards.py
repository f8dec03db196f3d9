"""Dashboards: made from the declarations, complete, such as Grafana reads them, and kept in step with their files."""

from __future__ import annotations

import json
import subprocess
from itertools import combinations

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as schema
from grafana_foundation_sdk.models import units

from tests.dashboards.reading import DASHBOARD_FILES, DECLARED, ROOT, panel_expressions, strangers
from xhash_ray.dashboards.grafana import DATASOURCE, files, to_json
from xhash_ray.dashboards.layout import DASHBOARDS
from xhash_ray.dashboards.panels import quantiles, seldom, shown
from xhash_ray.telemetry import METRICS

every_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=[each.uid for each in DASHBOARDS])
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"


def test_the_files_are_those_that_are_generated():
    """`python -m xhash_ray.dashboards write deploy/grafana/dashboards` makes them so."""
    assert {file.name: file.read_text() for file in DASHBOARD_FILES.glob("*.json")} == files()


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_every_metric_is_on_the_dashboard_of_its_group(metric):
    (dashboard,) = [each for each in DASHBOARDS if each.group == metric.group]
    expressions = [query.expression for panel in dashboard.panels() for query in panel.queries]
    names = [name for name, declared in DECLARED.items() if declared is metric]
    assert any(name in expression for name in names for expression in expressions)


def test_panels_name_metrics_that_exist():
    assert [each for expression in panel_expressions() for each in strangers(expression)] == []


def test_prometheus_can_read_every_query(program, tmp_path):
    made = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(panel_expressions())]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": made}]}))
    done = subprocess.run(
        [program("promtool"), "check", "rules", str(tmp_path / "rules.yaml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{len(made)} rules found" in done.stdout


def missing(ours: object, theirs: object, path: str = "") -> list[str]:
    """What of ours is not in theirs."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        gone = [f"{path}.{key}" for key in ours if key not in theirs]
        return gone + [
            each for key in ours if key in theirs for each in missing(ours[key], theirs[key], f"{path}.{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [each for number, (one, other) in pairs for each in missing(one, other, f"{path}[{number}]")]
    return [] if ours == theirs else [f"{path}: {ours!r} became {theirs!r}"]


def through_grafanas_schema(made: dict) -> dict:
    """A dashboard as Grafana's own schema reads and writes it: fields that it does not know are gone."""
    register_default_plugins()
    return json.loads(JSONEncoder().encode(schema.Dashboard.from_json(made)))


@every_dashboard
def test_grafanas_schema_knows_every_field(dashboard):
    made = to_json(dashboard)
    assert missing(made, through_grafanas_schema(made)) == []


def test_a_field_that_grafana_does_not_know_would_be_found():
    made = json.loads(json.dumps(to_json(DASHBOARDS[0])))
    made["panels"][1]["options"]["colour"] = "red"
    assert missing(made, through_grafanas_schema(made)) == [".panels[1].options.colour"]


def test_units_are_grafanas():
    known = {value for name, value in vars(units).items() if not name.startswith("_")}
    assert {panel.unit for dashboard in DASHBOARDS for panel in dashboard.panels()} <= known


def overlap(one: dict, other: dict) -> bool:
    """Whether two places share a cell."""
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    return across and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]


@every_dashboard
def test_panels_stand_within_24_columns_and_on_no_other(dashboard):
    places = [panel["gridPos"] for panel in to_json(dashboard)["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]


@every_dashboard
def test_a_dashboard_has_what_grafana_needs(dashboard):
    made = to_json(dashboard)
    assert 1 <= len(made["uid"]) <= 40
    ids = [panel["id"] for panel in made["panels"]]
    assert len(set(ids)) == len(ids)
    assert made["templating"]["list"][0]["type"] == "datasource"
    for panel in made["panels"]:
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"]
            assert panel["datasource"] == DATASOURCE == {"type": "prometheus", "uid": "${datasource}"}
            assert [target["refId"] for target in panel["targets"]] == ["A", "B", "C"][: len(panel["targets"])]
            assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])


@every_dashboard
def test_no_two_panels_of_a_dashboard_are_the_same(dashboard):
    """Titles may repeat in different rows; queries of one kind may not."""
    seen = [(panel.kind, panel.queries) for panel in dashboard.panels()]
    assert len(set(seen)) == len(seen)


def test_a_variable_filters_and_is_offered():
    made = {dashboard.uid: to_json(dashboard) for dashboard in DASHBOARDS}
    offered = {uid: [each["name"] for each in one["templating"]["list"]] for uid, one in made.items()}
    assert offered["xhash-extraction"] == ["datasource", "verb"]
    assert offered["xhash-training"] == ["datasource", "method"]
    assert offered["xhash-codes"] == ["datasource"]


def expressions(panel) -> list[str]:
    """Of a panel's queries."""
    return [query.expression for query in panel.queries]


def test_what_becomes_of_each_kind_of_metric():
    pairs = shown("xhash_training_pairs", "Speed")
    assert expressions(pairs) == [
        'sum by (method) (rate(xhash_training_pairs_total{method=~"$method"}[$__rate_interval]))'
    ]
    assert (pairs.queries[0].legend, pairs.unit, pairs.axis) == ("{{method}}", "short", "pairs/s")
    assert expressions(shown("xhash_index_bytes", "Size")) == ["max by (index) (xhash_index_bytes)"]
    age = shown("xhash_index_committed_timestamp_seconds", "Age")
    assert expressions(age) == ["time() - max by (index) (xhash_index_committed_timestamp_seconds)"]
    assert age.unit == "s"
    assert expressions(quantiles("xhash_search_seconds", "Latency", where='part="total"'))[1] == (
        'histogram_quantile(0.99, sum by (le) (rate(xhash_search_seconds_bucket{part="total"}[$__rate_interval])))'
    )
    assert expressions(seldom(shown("xhash_missing_shard_answers", "Missing"))) == [
        "sum by (shard) (rate(xhash_missing_shard_answers_total[$__rate_interval])) or on() vector(0)"
    ]


def test_provisioning_names_the_datasource_that_rays_dashboards_look_for_and_both_folders():
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert (source["name"], source["type"], source["url"]) == ("Prometheus", "prometheus", "$PROMETHEUS_URL")
    providers = yaml.safe_load((PROVISIONING / "dashboards" / "dashboards.yaml").read_text())["providers"]
    paths = {each["folder"]: each["options"]["path"] for each in providers}
    assert paths["xhash"] == "/var/lib/grafana/dashboards"
    assert paths["Ray"] == "/tmp/ray/session_latest/metrics/grafana/dashboards"
