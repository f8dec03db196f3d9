"""Metrics outside Ray: what is written and pushed is what was reported, and no run fails because it cannot be."""

from __future__ import annotations

import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.ports import free_port
from tests.waiting import wait_until
from xhash_ray import cli, exposition, telemetry
from xhash_ray.cli import main
from xhash_ray.errors import BadInput
from xhash_ray.exposition import Pushes, Registry, exposed
from xhash_ray.telemetry import METRICS

NOBODY = "http://127.0.0.1:9"


class Gateway(ThreadingHTTPServer):
    """What a Pushgateway is to whoever pushes: it remembers requests, and answers with `status`."""

    daemon_threads = True
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.requests: list[tuple[str, str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def values(self, number: int = -1) -> dict[tuple[str, ...], float]:
        """What a request brought: values by name and labels' values."""
        return values_in(self.requests[number][2])


class Answering(BaseHTTPRequestHandler):
    def answer(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.requests.append((self.command, self.path, body))
        self.send_response(self.server.status)
        self.end_headers()

    do_PUT = do_POST = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    server = Gateway()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def values_in(text: str) -> dict[tuple[str, ...], float]:
    """Values by name and labels' values, in the order of the labels' names, as Prometheus reads them."""
    return {
        (sample.name, *dict(sorted(sample.labels.items())).values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def written(registry: Registry, path: Path) -> dict[str, list]:
    """What a registry writes, as Prometheus reads it: samples by metric."""
    registry.write(str(path))
    return {family.name: family.samples for family in text_string_to_metric_families(path.read_text())}


def test_prometheus_reads_what_is_written(tmp_path):
    registry = Registry()
    registry.set("xhash_stage_seconds", 1.5, {"stage": "index build"})
    registry.set("xhash_stage_seconds", 2.5, {"stage": 'odd "name"\n\\'})
    (first, second) = written(registry, tmp_path / "xhash.prom")["xhash_stage_seconds"]
    assert (first.labels, first.value) == ({"stage": "index build"}, 1.5)
    assert (second.labels, second.value) == ({"stage": 'odd "name"\n\\'}, 2.5)


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_every_declaration_can_be_reported_and_is_announced_with_its_meaning(metric, tmp_path):
    call = {"counter": telemetry.add, "gauge": telemetry.set, "histogram": telemetry.observe}[metric.kind]
    with telemetry.attached(Registry()) as registry:
        call(metric.name, 2, **dict.fromkeys(metric.labels, "x"))
    (samples,) = written(registry, tmp_path / "xhash.prom").values()
    exposed_as = {"counter": f"{metric.name}_total", "gauge": metric.name, "histogram": f"{metric.name}_sum"}
    (value,) = (sample.value for sample in samples if sample.name == exposed_as[metric.kind])
    assert value == 2
    name = metric.name + ("_total" if metric.kind == "counter" else "")
    assert f"# HELP {name} {metric.meaning}\n" in (tmp_path / "xhash.prom").read_text()


def test_what_nobody_reported_is_not_there(tmp_path):
    """A metric without labels would be 0 otherwise, as if it had been measured."""
    registry = Registry()
    registry.add("xhash_run_units", 0, {"verb": "extract"})
    assert list(written(registry, tmp_path / "xhash.prom")) == ["xhash_run_units"]


def test_counters_add_up_and_gauges_are_replaced(tmp_path):
    registry = Registry()
    for value in (1, 7):
        registry.set("xhash_stage_pairs", value, {"stage": "extract"})
        registry.add("xhash_run_units", value, {"verb": "extract"})
    registry.write(str(tmp_path / "xhash.prom"))
    found = values_in((tmp_path / "xhash.prom").read_text())
    assert found == {("xhash_stage_pairs", "extract"): 7, ("xhash_run_units_total", "extract"): 8}


def test_threads_lose_no_report():
    """Of a metric, too, that several of them report first."""
    for _ in range(20):
        registry, together = Registry(), threading.Barrier(8)

        def work(registry: Registry = registry, together: threading.Barrier = together) -> None:
            together.wait()
            for _ in range(50):
                registry.add("xhash_run_units", 1, {"verb": "extract"})

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert registry.registry.get_sample_value("xhash_run_units_total", {"verb": "extract"}) == 400


def test_writing_leaves_one_file_and_replaces_it(tmp_path):
    registry = Registry()
    for value in (1, 2):
        registry.set("xhash_stage_pairs", value, {"stage": "extract"})
        registry.write(str(tmp_path / "xhash.prom"))
    assert [path.name for path in tmp_path.iterdir()] == ["xhash.prom"]


def test_two_registries_do_not_share(tmp_path):
    registry = Registry()
    Registry().set("xhash_stage_pairs", 1, {"stage": "extract"})
    assert written(registry, tmp_path / "xhash.prom") == {}


def test_a_stage_leaves_a_file_with_all_it_reported(tmp_path):
    result = {"pairs": 7, "rejected": 3, "rejected_by": {"prepare: truncated": 2, "read: missing text": 1}}
    before_s = time.time()
    with exposed("extract", str(tmp_path / "run.prom"), None) as stage:
        telemetry.add("xhash_run_units", 5, verb="extract")
        stage.result = result
    found = values_in((tmp_path / "run.prom").read_text())
    assert found.pop(("xhash_stage_seconds", "extract")) >= 0
    assert before_s <= found.pop(("xhash_stage_finished_timestamp_seconds", "extract")) <= time.time()
    assert found == {
        ("xhash_run_units_total", "extract"): 5,
        ("xhash_stage_succeeded", "extract"): 1,
        ("xhash_stage_pairs", "extract"): 7,
        ("xhash_stage_rejected_pairs", "extract"): 3,
        ("xhash_stage_rejected_by_kind_pairs", "truncated", "extract", "prepare"): 2,
        ("xhash_stage_rejected_by_kind_pairs", "missing text", "extract", "read"): 1,
    }


@pytest.mark.parametrize("result", [{"rows": 7}, {"pairs": 7}])
def test_rows_are_pairs_too(result, tmp_path):
    with exposed("index build", str(tmp_path / "run.prom"), None) as stage:
        stage.result = result
    assert values_in((tmp_path / "run.prom").read_text())["xhash_stage_pairs", "index build"] == 7


def test_a_verb_that_counts_pairs_of_several_things_writes_the_rest(tmp_path):
    with exposed("verify", str(tmp_path / "run.prom"), None) as stage:
        stage.result = {"pairs": {"features": 7, "codes": 7}}
    assert values_in((tmp_path / "run.prom").read_text())["xhash_stage_succeeded", "verify"] == 1


@pytest.mark.parametrize("error", [BadInput("a", "b", "c"), RuntimeError("oops"), KeyboardInterrupt()])
def test_a_stage_that_failed_says_so_too(error, tmp_path, gateway):
    def fail() -> None:
        with exposed("train", str(tmp_path / "run.prom"), gateway.url):
            telemetry.set("xhash_training_epochs", 3, method="jdsh")
            raise error

    with pytest.raises(type(error)):
        fail()
    found = values_in((tmp_path / "run.prom").read_text())
    assert found == gateway.values()
    assert (found["xhash_stage_succeeded", "train"], found["xhash_training_epochs", "jdsh"]) == (0, 3)
    assert ("xhash_stage_pairs", "train") not in found


def test_a_stage_is_pushed_before_while_and_after(gateway):
    with exposed("index build", None, gateway.url, interval_s=0.02) as stage:
        assert [request[0] for request in gateway.requests] == ["POST"]
        telemetry.set("xhash_run_active", 1, verb="extract")
        wait_until(lambda: len(gateway.requests) > 3)
        assert gateway.values() == {("xhash_run_active", "extract"): 1}
        telemetry.set("xhash_run_active", 0, verb="extract")
        stage.result = {}
    methods, paths, _ = zip(*gateway.requests, strict=True)
    assert methods == ("POST",) * (len(methods) - 1) + ("PUT",)
    assert set(paths) == {"/metrics/job/xhash_index_build"}
    assert gateway.values()["xhash_run_active", "extract"] == 0
    pushed = len(gateway.requests)
    time.sleep(0.1)
    assert len(gateway.requests) == pushed


def test_a_gateway_that_is_not_there_is_said_before_any_work(capsys):
    with pytest.raises(BadInput, match=f"pushing metrics to {NOBODY}: .*refused"), exposed("train", None, NOBODY):
        pytest.fail("work began")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://127.0.0.1:notaport", "http://", "no such host"])
def test_what_is_no_gateway_is_said_before_any_work(url):
    with pytest.raises(BadInput, match="Give the URL of a Pushgateway"), exposed("train", None, url):
        pytest.fail("work began")


def test_a_gateway_that_refuses_is_said_before_any_work(gateway):
    gateway.status = 405
    with pytest.raises(BadInput, match="405"), exposed("train", None, gateway.url):
        pytest.fail("work began")


def test_a_gateway_that_goes_away_costs_one_line_and_nothing_else(gateway, capsys):
    with exposed("train", None, gateway.url, interval_s=0.02) as stage:
        gateway.status = 500
        wait_until(lambda: len(gateway.requests) > 4)
        stage.result = {"pairs": 7}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"[metrics] pushing metrics to {gateway.url}: ")
    assert line.endswith("the run goes on")
    assert gateway.values()["xhash_stage_succeeded", "train"] == 1


def test_a_gateway_that_comes_back_gets_the_rest(gateway):
    with exposed("train", None, gateway.url, interval_s=0.02) as stage:
        gateway.status = 500
        wait_until(lambda: len(gateway.requests) > 2)
        gateway.status = 200
        seen = len(gateway.requests)
        telemetry.set("xhash_training_epochs", 3, method="jdsh")
        wait_until(lambda: len(gateway.requests) > seen + 1)
        assert gateway.values()["xhash_training_epochs", "jdsh"] == 3
        stage.result = {}


def test_pushing_holds_no_process_up(gateway):
    pushes = Pushes(Registry(), gateway.url, "xhash_train")
    assert pushes.thread.daemon
    pushes.close()
    assert not pushes.thread.is_alive()


def test_a_file_that_cannot_be_written_is_said_before_any_work(tmp_path):
    for path in (tmp_path / "nowhere" / "run.prom", tmp_path):
        with pytest.raises(BadInput, match=f"writing metrics to {path}"), exposed("train", str(path), None):
            pytest.fail("work began")


def test_a_file_that_can_no_longer_be_written_costs_one_line(tmp_path, capsys):
    folder = tmp_path / "there"
    folder.mkdir()
    with exposed("train", str(folder / "run.prom"), None) as stage:
        folder.rmdir()
        stage.result = {}
    assert capsys.readouterr().err == f"[metrics] writing {folder}/run.prom: No such file or directory\n"


def test_nothing_is_collected_where_nobody_asked(monkeypatch):
    monkeypatch.setattr(exposition, "Registry", lambda: pytest.fail("collected"))
    with exposed("train", None, None) as stage:
        stage.result = {}


@pytest.mark.parametrize(
    ("command", "code"), [(["metrics"], 0), (["query", "--text", "x", "--url", NOBODY, "--timeout-s", "0.1"], 1)]
)
def test_the_command_line_pushes_and_writes(command, code, gateway, tmp_path, capsys):
    file = tmp_path / "run.prom"
    assert main([*command, "--metrics-file", str(file), "--push-gateway", gateway.url]) == code
    assert gateway.requests[-1][:2] == ("PUT", f"/metrics/job/xhash_{command[0]}")
    assert gateway.values() == values_in(file.read_text())
    assert gateway.values()["xhash_stage_succeeded", command[0]] == 1 - code


def test_the_command_line_ends_with_one_line_where_nobody_takes_pushes(capsys, monkeypatch):
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: pytest.fail("work began"))
    assert main(["methods", "--push-gateway", NOBODY]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"xhash: pushing metrics to {NOBODY}: ")


@pytest.fixture
def pushgateway(program, tmp_path) -> Iterator[str]:
    """A real Pushgateway on loopback."""
    port = free_port()
    command = [program("prometheus-pushgateway"), f"--web.listen-address=127.0.0.1:{port}", "--persistence.file="]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{url}/-/ready"))
        yield url
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    """Whether a URL answers."""
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except OSError:
        return False
    return True


def held(url: str) -> dict[tuple[str, ...], float]:
    """What a Pushgateway would let Prometheus scrape of this project."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        found = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in found for sample in family.samples]
    return {(it.name, it.labels["job"]): it.value for it in samples if it.name.startswith("xhash_")}


def test_a_real_pushgateway_keeps_the_last_run_until_the_next_has_ended(pushgateway):
    for pairs in (7, 8):
        with exposed("index build", None, pushgateway, interval_s=0.05) as stage:
            telemetry.set("xhash_run_active", 1, verb="verify")
            wait_until(lambda: held(pushgateway).get(("xhash_run_active", "xhash_index_build")) == 1)
            before = held(pushgateway).get(("xhash_stage_pairs", "xhash_index_build"))
            assert before == (None if pairs == 7 else 7)
            telemetry.set("xhash_run_active", 0, verb="verify")
            stage.result = {"pairs": pairs}
        found = held(pushgateway)
        assert found["xhash_stage_pairs", "xhash_index_build"] == pairs
        assert found["xhash_run_active", "xhash_index_build"] == 0
