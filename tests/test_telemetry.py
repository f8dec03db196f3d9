"""Metrics: every declaration is well-formed, and what a run writes can be read by Prometheus."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from xhash_ray.cli import write_metrics
from xhash_ray.telemetry import METRICS, Registry

UNITS = ("seconds", "bytes", "pairs", "ratio")
SNAKE = re.compile(r"xhash(_[a-z][a-z0-9]*)+")
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))


def written(registry: Registry, path) -> dict[str, list]:
    """What a registry writes, as Prometheus reads it: samples by metric."""
    registry.write(str(path))
    return {family.name: family.samples for family in text_string_to_metric_families(path.read_text())}


@every_metric
def test_names_are_snake_case_with_the_projects_prefix(metric):
    assert SNAKE.fullmatch(metric.name)
    assert METRICS[metric.name] is metric


@every_metric
def test_what_is_measured_has_its_unit_last(metric):
    counts_things = metric.kind == "counter" and metric.name.endswith("s")
    assert counts_things or metric.name.endswith(UNITS)


@every_metric
def test_kinds_are_prometheus_kinds(metric):
    assert metric.kind in {"counter", "gauge", "histogram"}


@every_metric
def test_a_counter_does_not_say_total_itself(metric):
    assert not metric.name.endswith(("_total", "_created", "_count", "_sum", "_bucket"))


@every_metric
def test_labels_are_identifiers_that_prometheus_does_not_reserve(metric):
    assert len(set(metric.labels)) == len(metric.labels)
    for label in metric.labels:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", label)
        assert label not in {"le", "quantile", "job", "instance"}


@every_metric
def test_meanings_are_one_line(metric):
    assert metric.meaning.strip()
    assert "\n" not in metric.meaning
    assert not metric.meaning.endswith(".")


@every_metric
def test_histograms_have_ascending_buckets_and_nothing_else_has_any(metric):
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_prometheus_reads_what_is_written(tmp_path):
    registry = Registry()
    registry.set("xhash_stage_seconds", 1.5, {"stage": "index build"})
    registry.set("xhash_stage_seconds", 2.5, {"stage": 'odd "name"\n\\'})
    (first, second) = written(registry, tmp_path / "xhash.prom")["xhash_stage_seconds"]
    assert (first.labels, first.value) == ({"stage": "index build"}, 1.5)
    assert (second.labels, second.value) == ({"stage": 'odd "name"\n\\'}, 2.5)


def test_every_gauge_is_announced_with_its_meaning(tmp_path):
    Registry().write(str(tmp_path / "xhash.prom"))
    text = (tmp_path / "xhash.prom").read_text()
    for metric in METRICS.values():
        assert (f"# HELP {metric.name} {metric.meaning}\n" in text) == (metric.kind == "gauge")


def test_setting_again_replaces(tmp_path):
    registry = Registry()
    for value in (1, 7):
        registry.set("xhash_stage_pairs", value, {"stage": "extract"})
    (sample,) = written(registry, tmp_path / "xhash.prom")["xhash_stage_pairs"]
    assert sample.value == 7


def test_writing_leaves_one_file_and_replaces_it(tmp_path):
    registry = Registry()
    for value in (1, 2):
        registry.set("xhash_stage_pairs", value, {"stage": "extract"})
        registry.write(str(tmp_path / "xhash.prom"))
    assert [path.name for path in tmp_path.iterdir()] == ["xhash.prom"]


def test_two_registries_do_not_share(tmp_path):
    registry = Registry()
    Registry().set("xhash_stage_pairs", 1, {"stage": "extract"})
    assert written(registry, tmp_path / "xhash.prom")["xhash_stage_pairs"] == []


@pytest.mark.parametrize("name", ["xhash_nothing", "xhash_searches", "xhash_search_seconds"])
def test_only_declared_gauges_can_be_set(name):
    with pytest.raises(KeyError):
        Registry().set(name, 1, {})


def test_rejects_are_told_by_step_and_kind(tmp_path):
    result = {"pairs": 7, "rejected": 3, "rejected_by": {"prepare: truncated": 2, "read: missing text": 1}}
    write_metrics(str(tmp_path / "run.prom"), "extract", result, 1.5)
    text = (tmp_path / "run.prom").read_text()
    found = {family.name: family.samples for family in text_string_to_metric_families(text)}
    counts = {(s.labels["step"], s.labels["kind"]): s.value for s in found["xhash_stage_rejected_by_kind_pairs"]}
    assert counts == {("prepare", "truncated"): 2, ("read", "missing text"): 1}
    assert [s.value for s in found["xhash_stage_rejected_pairs"]] == [3]
