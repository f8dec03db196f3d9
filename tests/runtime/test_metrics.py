"""Metrics through Ray: what drivers and workers reported is on their node's page for Prometheus, once."""

from __future__ import annotations

import csv
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from tests.runtime.conftest import PAIRS
from xhash_ray import options, telemetry
from xhash_ray.exposition import exposed
from xhash_ray.learning.reporting import NO_TERMS
from xhash_ray.runtime import encoding, extraction
from xhash_ray.runtime import telemetry as runtime_telemetry
from xhash_ray.runtime.encoding import encode
from xhash_ray.runtime.telemetry import RayMetrics, report_to_ray, reported_to_ray
from xhash_ray.runtime.training import train
from xhash_ray.runtime.verifying import verify
from xhash_ray.telemetry import METRICS

PATIENCE_S = 60.0  # processes send every 10 s what they have
STEPS = [("extract", step) for step in extraction.STEPS] + [("encode", step) for step in encoding.STEPS]
TESTED = "test_metrics"  # value of every label that these tests make up


class Sample(NamedTuple):
    """One line of a node's page."""

    name: str
    labels: dict[str, str]
    value: float


def scrape() -> list[Sample]:
    """What the node would tell Prometheus of this project."""
    (node,) = (node for node in ray.nodes() if node["Alive"])
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = text_string_to_metric_families(answer.read().decode())
    samples = (Sample(it.name, it.labels, it.value) for family in found for it in family.samples)
    return [sample for sample in samples if sample.name.startswith("ray_xhash_")]


def having(samples: list[Sample], name: str, **labels: str) -> list[Sample]:
    """Series of a name that have some labels."""
    return [it for it in samples if it.name == name and labels.items() <= it.labels.items()]


def of_this_driver(samples: list[Sample], name: str, **labels: str) -> list[float]:
    """Values that this process reported."""
    return [it.value for it in having(samples, name, WorkerId=ray.get_runtime_context().get_worker_id(), **labels)]


def scraped_until(true: Callable[[list[Sample]], bool]) -> list[Sample]:
    """The node's page as soon as something is on it; after a while as it is."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not true(found := scrape()) and time.monotonic() < deadline_s:
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def page(run, tmp_path_factory) -> list[Sample]:
    """The node's page after a run, with a report of every declaration by a driver and one by a task."""
    out = str(tmp_path_factory.mktemp("metrics") / "codes")
    with reported_to_ray():
        encode(options.Encode(features=run.features, model=run.model, out=out, rows_per_unit=90))
        for metric in METRICS.values():
            call = {"counter": telemetry.add, "gauge": telemetry.set, "histogram": telemetry.observe}[metric.kind]
            call(metric.name, 2.0, **dict.fromkeys(metric.labels, TESTED))
        ray.get(ray.remote(num_cpus=0)(add_in_a_task).remote())
        return scraped_until(is_complete)


def is_complete(found: list[Sample]) -> bool:
    """Whether everything is there of which the others follow: what was reported last in each process."""
    driver = having(found, "ray_xhash_artefact_pairs", artefact=TESTED)
    task = having(found, "ray_xhash_run_units_total", verb="a task")
    return bool(driver and task) and all(pairs_through(found, *each) >= PAIRS for each in STEPS)


def pairs_through(found: list[Sample], verb: str, step: str) -> float:
    """Of all processes."""
    return sum(sample.value for sample in having(found, "ray_xhash_step_pairs_total", verb=verb, step=step))


def values_in(file) -> dict[tuple[str, ...], float]:
    """What a file holds: values by name and labels' values, in the order of the labels' names."""
    found = text_string_to_metric_families(file.read_text())
    samples = [sample for family in found for sample in family.samples]
    return {(it.name, *dict(sorted(it.labels.items())).values()): it.value for it in samples}


def add_in_a_task() -> None:
    """Reports once, though told twice to report to Ray."""
    report_to_ray()
    report_to_ray()
    telemetry.add("xhash_run_units", 3, verb="a task")


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_every_declaration_can_be_reported_to_ray(metric, page):
    name = f"ray_{metric.name}" + {"counter": "_total", "gauge": "", "histogram": "_count"}[metric.kind]
    found = having(page, name, **dict.fromkeys(metric.labels, TESTED))
    told = 1.0 if metric.kind == "histogram" else 2.0
    assert told in [sample.value for sample in found]  # metrics without labels have series of other processes as well


def test_a_task_reports_for_itself(page):
    (sample,) = having(page, "ray_xhash_run_units_total", verb="a task")
    assert sample.value == 3
    assert sample.labels["WorkerId"] != ray.get_runtime_context().get_worker_id()


@pytest.mark.parametrize(("verb", "step"), STEPS)
def test_each_step_is_counted_by_the_processes_that_do_it(verb, step, page):
    assert pairs_through(page, verb, step) >= PAIRS
    assert of_this_driver(page, "ray_xhash_step_pairs_total", verb=verb, step=step) == []
    busy_s = having(page, "ray_xhash_step_busy_seconds_total", verb=verb, step=step)
    assert sum(sample.value for sample in busy_s) > 0


def test_what_a_driver_knows_of_a_run_is_there(page):
    assert of_this_driver(page, "ray_xhash_run_done_pairs", verb="encode") == [PAIRS]
    assert of_this_driver(page, "ray_xhash_run_active", verb="encode") == [0]
    for verb, units in (("extract", 3), ("encode", 2 * 3)):  # of 100 and 90 pairs
        assert sum(of_this_driver(page, "ray_xhash_run_units_total", verb=verb)) >= units
        assert sum(of_this_driver(page, "ray_xhash_written_bytes_total", verb=verb)) > 0


def test_what_a_training_told_its_driver_is_there(page):
    """Three epochs of whole batches; its gauges are gone by now."""
    assert sum(of_this_driver(page, "ray_xhash_training_pairs_total", method="jdsh")) >= 3 * (PAIRS // 32 * 32)


def test_a_drivers_file_holds_what_workers_did_once(run, tmp_path):
    with exposed("encode", str(tmp_path / "run.prom"), None) as stage:
        out = str(tmp_path / "codes")
        stage.result = encode(options.Encode(features=run.features, model=run.model, out=out, rows_per_unit=90))
    found = values_in(tmp_path / "run.prom")
    for step in encoding.STEPS:
        assert found["xhash_step_pairs_total", step, "encode"] == PAIRS
        assert found["xhash_step_busy_seconds_total", step, "encode"] > 0
    assert found["xhash_run_units_total", "encode"] == 3
    assert found["xhash_stage_pairs", "encode"] == PAIRS


def test_a_verification_counts_files_and_ends(run, tmp_path):
    with exposed("verify", str(tmp_path / "run.prom"), None) as stage:
        stage.result = verify(options.Verify(codes=run.codes))
    found = values_in(tmp_path / "run.prom")
    assert found["xhash_run_units_total", "verify"] == stage.result["files"] > 0
    assert (found["xhash_run_active", "verify"], found["xhash_stage_succeeded", "verify"]) == (0, 1)


def test_a_training_without_ray_is_told_too(run, tmp_path):
    given = {"features": run.features, "out": str(tmp_path / "model"), "method": "jdsh", "bits": 16, "workers": 0}
    with exposed("train", str(tmp_path / "run.prom"), None) as stage:
        stage.result = train(options.Train(**given, settings={"epochs": 2, "hidden": 32}))
    found = values_in(tmp_path / "run.prom")
    row = list(csv.DictReader((tmp_path / "model" / "run" / "epochs.csv").open()))[-1]
    terms = {key[2]: value for key, value in found.items() if key[0] == "xhash_training_loss"}
    assert terms == pytest.approx({name: float(row[name]) for name in terms}, rel=1e-6)
    assert set(terms) == set(row) - NO_TERMS - {"epoch"}
    assert found["xhash_training_pairs_total", "jdsh"] == 2 * (PAIRS // 32 * 32)
    assert (found["xhash_training_epochs", "jdsh"], found["xhash_training_active", "jdsh"]) == (2, 0)


class Remembered:
    """A gauge of Ray's that remembers."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values.append(value)


@pytest.fixture
def remembered(monkeypatch) -> Iterator[tuple[RayMetrics, Remembered]]:
    gauge, backend = Remembered(), RayMetrics()
    monkeypatch.setattr(backend, "metric", lambda name: gauge)
    return backend, gauge


def test_gauges_are_said_again_while_they_are_kept_up_and_no_longer(remembered):
    backend, gauge = remembered
    with backend.kept_up(every_s=0.01), backend.kept_up(every_s=0.01):
        backend.set("xhash_run_active", 1.0, {"verb": "extract"})
        deadline_s = time.monotonic() + PATIENCE_S
        while len(gauge.values) < 4 and time.monotonic() < deadline_s:
            time.sleep(0.005)
        backend.set("xhash_run_active", 0.0, {"verb": "extract"})
    assert gauge.values[:4] == [1.0] * 4
    assert gauge.values[-1] == 0.0
    said = len(gauge.values)
    time.sleep(0.05)
    backend.set("xhash_run_active", 1.0, {"verb": "extract"})
    time.sleep(0.05)
    assert len(gauge.values) == said + 1


def test_a_driver_reports_while_it_is_told_to(remembered, monkeypatch):
    backend, gauge = remembered
    monkeypatch.setattr(runtime_telemetry, "REPORTED", backend)
    telemetry.set("xhash_run_active", 1, verb="extract")
    with reported_to_ray():
        telemetry.set("xhash_run_active", 2, verb="extract")
    telemetry.set("xhash_run_active", 3, verb="extract")
    assert gauge.values == [2.0]
