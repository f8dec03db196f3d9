"""Prometheus with our configuration beside a cluster at work: it finds everything, and every panel has data."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray import serve

from tests.dashboards.reading import DECLARED
from tests.ports import free_port
from tests.runtime.prometheus_site import EXPORTER, PUSHGATEWAY, exporter, site
from xhash_ray import cli, options
from xhash_ray.client import Client
from xhash_ray.dashboards.plotting import last, without_data
from xhash_ray.errors import XhashError
from xhash_ray.storage import tables
from xhash_ray.telemetry import METRICS

ADMIN = "admin-key-of-tests"
DEMANDED_S = 90
EXTRACTED = 100
ONLY_IN_TROUBLE = {"xhash_missing_shard_answers"}
COUNTED = {name for name, metric in DECLARED.items() if metric.name not in ONLY_IN_TROUBLE}


class Asker:
    """Somebody who searches all the time, in every way."""

    def __init__(self, url: str, rows: list[dict]) -> None:
        self.url, self.rows, self.stopped = url, rows, threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self) -> Asker:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.thread.join(60)

    def work(self) -> None:
        """A batch of each kind, single queries, and one that is refused, again and again."""
        rounds = 0
        with Client(self.url, key=ADMIN) as client:
            while not self.stopped.wait(0.5):
                row = self.rows[rounds % len(self.rows)]
                rounds += 1
                client.search(text=row["text"], k=5)
                client.search(image=row["image"], k=5)
                client.search_batch([{"id": each["id"], "k": 3, "target": "text"} for each in self.rows[:40]])
                client.search_batch([{"text": each["text"], "k": 3} for each in self.rows[rounds % 200 :][:16]])
                with contextlib.suppress(XhashError):
                    client.search(id="nobody")


def spoilt_corpus(rows: list[dict], folder: str) -> str:
    """A corpus with an image that is none."""
    kept = [{name: row[name] for name in ("id", "image", "text")} for row in rows[:EXTRACTED]]
    kept[3]["image"] = b"<html>404 Not Found</html>"
    pq.write_table(pa.Table.from_pylist(kept), f"{folder}/pairs.parquet")
    return f"{folder}/pairs.parquet"


def rejected_by_ray(running) -> dict[tuple[str, str], float]:
    """Rejected pairs of extractions that Ray was told of, by step and kind."""
    answer = running.prometheus.value('sum by (step, kind) (xhash_rejected_pairs_total{verb="extract", job="ray"})')
    return {(labels["step"], labels["kind"]): value for labels, value in answer}


@pytest.fixture(scope="module")
def rejected_before() -> dict[tuple[str, str], float]:
    """What other tests' extractions had rejected on the same cluster before `watched` extracts."""
    return {}


@pytest.fixture(scope="module")
def watched(run, tmp_path_factory, rejected_before):
    """Prometheus, after extraction, training, encoding, and an endpoint at work; it goes on working."""
    from xhash_ray.runtime.endpoint import start

    def found(name: str) -> str:
        return shutil.which(name) or pytest.skip(f"missing program: {name}")

    folder = tmp_path_factory.mktemp("prometheus")
    keys = folder / "keys"
    keys.write_text(f"admin {ADMIN}\n")
    rows = tables.read_table(tables.open_tables(run.corpus, "corpus")).to_pylist()
    looked_at = (run.index, run.features, run.codes, run.model)
    with site(folder, found) as running, exporter(running.ports[EXPORTER], *looked_at):
        serve.shutdown()  # one that runs would keep its ports
        url = start(options.Serve(index=run.index, port=free_port(), keys=str(keys)))["url"]
        try:
            with Asker(url, rows):
                with Client(url, key=ADMIN) as client:
                    client.activate()
                running.until('up{job="ray"} == 1', bool, DEMANDED_S)
                running.until(
                    '{__name__=~"xhash_.*", job="ray"}', bool, DEMANDED_S
                )  # the agent's page: others are sooner
                rejected_before.update(rejected_by_ray(running))
                work(running, run, rows, folder)
                yield running
        finally:
            serve.shutdown()


def work(running, run, rows: list[dict], folder) -> None:
    """Every stage once more, reporting to Ray, to a Pushgateway and to a file."""
    push = f"http://127.0.0.1:{running.ports[PUSHGATEWAY]}"
    file = str(running.textfiles / "extract.prom")
    corpus = spoilt_corpus(rows, str(folder))
    stages = (
        ["extract", "--corpus", corpus, "--out", f"{folder}/features", "--model", "xhash-tiny", "--pretrained",
         run.weights, "--rows-per-unit", "20", "--max-rejects", "0.1", "--metrics-file", file],
        ["train", "--features", run.features, "--out", f"{folder}/model", "--method", "jdsh", "--bits",
         "32", "--workers", "0",
         "--validation", "id%10=0", "--set", "settings.epochs=10", "--push-gateway", push],
        ["encode", "--features", f"{folder}/features", "--model", run.model, "--out", f"{folder}/codes"],
    )  # fmt: skip
    for stage in stages:
        assert cli.main(stage) == 0


def test_prometheus_finds_the_cluster_through_rays_service_discovery(watched):
    targets = watched.prometheus.ask("targets")["activeTargets"]
    jobs = {each["labels"]["job"] for each in targets}
    assert jobs == {"ray", "xhash-exporter", "pushgateway", "node", "prometheus"}
    assert len([each for each in targets if each["labels"]["job"] == "ray"]) >= 2, "the node's agent, the dashboard"
    down = watched.until("up == 0", lambda found: not found, 30)
    assert down == []


def test_every_metric_has_samples_under_its_own_name(watched):
    def missing(found) -> set[str]:
        return COUNTED - {labels["__name__"] for labels, _ in found}

    expression = 'group by (__name__) (last_over_time({__name__=~"(ray_)?xhash_.*"}[10m]))'
    found = watched.until(expression, lambda found: not missing(found), DEMANDED_S)
    assert missing(found) == set()
    assert not [labels for labels, _ in found if labels["__name__"].startswith("ray_")]


def test_no_label_is_there_that_nobody_declared(watched):
    """What Ray, Prometheus and a Pushgateway add aside."""
    added = {
        "__name__",
        "job",
        "instance",
        "le",
        "Component",
        "NodeAddress",
        "SessionName",
        "Version",
        "otel_scope_name",
        "WorkerId",
        "JobId",
    }
    for labels, _ in watched.prometheus.value('{__name__=~"xhash_.*"}'):
        metric = DECLARED[labels["__name__"]]
        assert {*metric.labels} - labels.keys() == set(), labels
        assert labels.keys() - added - {*metric.labels} == set(), labels


def test_no_panel_is_without_data(watched):
    deadline_s = time.monotonic() + DEMANDED_S
    missing = without_data(watched.prometheus, last(10, "1m"))
    while missing and time.monotonic() < deadline_s:
        time.sleep(2)
        missing = without_data(watched.prometheus, last(10, "1m"))
    assert missing == []


def test_rules_are_evaluated_and_no_alert_fires_where_nothing_is_wrong(watched):
    groups = watched.prometheus.ask("rules")["groups"]
    assert len(groups) == 8
    assert [rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")] == []
    firing = watched.prometheus.value('ALERTS{alertname=~"Xhash.*", alertstate="firing"}')
    assert firing == []


def test_it_reads_the_figures_that_we_report(watched, run):
    (pairs,) = watched.prometheus.value(f'xhash_index_pairs{{index="{run.index}"}}')
    assert pairs[1] == 260
    told_to_the_file = watched.prometheus.value('xhash_rejected_pairs_total{verb="extract", job="node"}')
    assert [value for _, value in told_to_the_file] == [1]
    assert METRICS["xhash_stage_pairs"].labels == ("stage",)
    (stage,) = watched.prometheus.value('xhash_stage_rejected_pairs{stage="extract", job="node"}')
    assert stage[1] == 1


def test_promtool_queries_what_is_scraped(watched, program):
    """As runbooks do."""
    words = [program("promtool"), "query", "instant", watched.prometheus.url, "max(xhash_index_pairs)"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "=> 260 @" in done.stdout


def test_ray_is_told_of_the_one_rejected_pair_too(watched, rejected_before):
    """Ray's agents are told every ten seconds, Prometheus asks them every two: it may take a moment."""

    def more() -> dict[tuple[str, str], float]:
        now = rejected_by_ray(watched)
        return {key: now[key] - rejected_before.get(key, 0) for key in now if now[key] != rejected_before.get(key, 0)}

    deadline_s = time.monotonic() + DEMANDED_S
    while not more() and time.monotonic() < deadline_s:
        time.sleep(1)
    assert list(more().values()) == [1]


def test_pictures_are_drawn(watched, tmp_path):
    from xhash_ray.dashboards.__main__ import main
    from xhash_ray.dashboards.layout import DASHBOARDS

    assert main(["plot", str(tmp_path), "--prometheus", watched.prometheus.url, "--minutes", "5"]) == 0
    drawn = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert drawn.keys() == {f"{each.uid}.png" for each in DASHBOARDS}
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())
