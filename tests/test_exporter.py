"""The exporter tells what indexes and artefacts are, survives what it cannot read, and ends when it is told to."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.index.samples import codes_at, index, model, rows_of  # noqa: F401 (fixtures)
from xhash_ray import exporter
from xhash_ray.cli import main
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.exposition import Registry
from xhash_ray.index import generations, life
from xhash_ray.index.health import health_of
from xhash_ray.options import Exporter, IndexAdd, IndexDelete
from xhash_ray.storage.codes import to_array
from xhash_ray.telemetry import CODES, INDEX, METRICS, attached

WAIT_S = 120


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Samples by name and values of labels in the order of their names."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, *(sample.labels[name] for name in sorted(sample.labels))] = sample.value
    return found


def test_once_it_writes_every_fact_to_a_file(index, model, tmp_path, capsys):  # noqa: F811
    codes = codes_at(tmp_path / "codes", rows_of(40, 60, 1), model.fingerprint)
    life.add(IndexAdd(index=index, codes=codes))
    life.delete(IndexDelete(index=index, ids=("pair-1",)))
    path, places = tmp_path / "facts.prom", f"{codes},{model.uri},{tmp_path}/nowhere"
    flags = ["--once", "--metrics-file", str(path), "--json"]
    assert main(["exporter", "--index", index, "--artefacts", places, *flags]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1]) == {"places": 4, "reachable": 3, "rounds": 1}
    assert f"[exporter] artefact at {tmp_path}/nowhere" in said.err
    found, made = samples(path.read_text()), generations.current(index)
    files = [*made.segments, *made.tombstones]
    expected = {"reachable": 1, "generation": 3, "pairs": 59, "deleted_pairs": 1, "segments": len(made.segments)}
    expected |= {"bytes": sum(os.path.getsize(f"{index}/{each.name}") for each in files)}
    expected |= {"committed_timestamp_seconds": made.facts["created_unix_s"]}
    assert {name: found[f"xhash_index_{name}", index] for name in expected} == expected
    assert [found["xhash_artefact_reachable", each] for each in places.split(",")] == [1, 1, 0]
    assert found["xhash_artefact_pairs", codes, "codes"] == 20
    written = found["xhash_artefact_written_timestamp_seconds", codes, "codes"]
    assert written == pytest.approx(os.path.getmtime(f"{codes}/_dataset.json"))
    assert ("xhash_artefact_written_timestamp_seconds", model.uri, "model") in found
    there = {name for name, *_ in found}
    drift = {"xhash_code_drift_ratio"}  # takes queries
    assert {metric.name for metric in METRICS.values() if metric.group in (INDEX, CODES)} - there == drift


def test_health_is_that_of_a_segment_and_is_measured_once_a_generation(index, tmp_path, model, monkeypatch):  # noqa: F811
    made, looked = generations.current(index), []
    largest = max(made.segments, key=lambda facts: facts.rows)
    measure = exporter.sampled_health
    monkeypatch.setattr(exporter, "sampled_health", lambda found: looked.append(found.number) or measure(found))
    watch = exporter.Watch(Exporter(index=(index,)))
    with attached(Registry()) as registry:
        watch.look()
        watch.look()
        rows = [row for row in rows_of(0, 40).to_pylist() if row["id"] in ids_of(index, largest)]
        codes = to_array(rows_of(0, 40).filter([row in rows for row in rows_of(0, 40).to_pylist()])["text_code"])
        labels = {"source": "index", "modality": "text", "where": index}
        assert registry.registry.get_sample_value("xhash_code_sample_size", labels) == largest.rows
        entropy = registry.registry.get_sample_value("xhash_code_entropy_ratio", labels)
        assert entropy == pytest.approx(health_of(codes).entropy)
        life.delete(IndexDelete(index=index, ids=("pair-0",)))
        watch.look()
    assert looked == [1, 2]


def ids_of(uri: str, facts) -> set[str]:
    """Ids of a segment."""
    return set(exporter.map_table(f"{uri}/{facts.name}")["id"].to_pylist())


def test_what_cannot_be_read_is_said_once_and_comes_back(index, tmp_path, capsys):  # noqa: F811
    watch, aside = exporter.Watch(Exporter(index=(index,))), str(tmp_path / "aside")
    with attached(Registry()) as registry:

        def reachable() -> float | None:
            watch.look()
            return registry.registry.get_sample_value("xhash_index_reachable", {"index": index})

        assert reachable() == 1
        shutil.move(index, aside)
        assert (reachable(), reachable()) == (0, 0)
        assert registry.registry.get_sample_value("xhash_index_pairs", {"index": index}) == 40, "what was known last"
        shutil.move(aside, index)
        assert reachable() == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[exporter]")]
    assert len(lines) == 2
    assert "no generation" in lines[0]
    assert lines[1].endswith("there again")


@pytest.mark.parametrize("content", ["", "[]", '{"format_version": 2}', "\x00"])
def test_a_generation_file_that_is_none_is_not_reachable(index, content):  # noqa: F811
    with open(f"{index}/generations/00000001.json", "w") as file:
        file.write(content)
    watch = exporter.Watch(Exporter(index=(index,)))
    with attached(Registry()) as registry:
        watch.look()
    assert registry.registry.get_sample_value("xhash_index_reachable", {"index": index}) == 0


def scraped(port: int) -> dict[tuple[str, ...], float]:
    """What Prometheus would read."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return samples(answer.read().decode())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_end(index, number):  # noqa: F811
    command = [sys.executable, "-m", "xhash_ray.cli", "exporter", "--index", index, "--port", "0", "--every-s", "0.2"]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        port = int(line.split("/metrics")[0].rpartition(":")[2])
        found, deadline_s = {}, time.monotonic() + WAIT_S
        while ("xhash_index_pairs", index) not in found and time.monotonic() < deadline_s:
            found = scraped(port)
        assert found["xhash_index_pairs", index] == 40
        life.delete(IndexDelete(index=index, ids=("pair-0",)))
        while found["xhash_index_pairs", index] != 39 and time.monotonic() < deadline_s:
            found = scraped(port)
        assert found["xhash_index_generation", index] == 2
        process.send_signal(number)
        out, err = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert json.loads(out.splitlines()[-1])["reachable"] == 1


def test_a_taken_port_is_said_before_anything_is_read():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"port {port} on 127.0.0.1: Address already in use"):
            exporter.export(Exporter(index=("/nowhere",), port=port))
        assert main(["exporter", "--index", "/nowhere", "--port", str(port)]) == 2


@pytest.mark.parametrize(
    ("options", "found"),
    [(Exporter(), "nothing to look at"), (Exporter(index=("a",), every_s=0), "--every-s 0")],
)
def test_misuse_is_refused(options, found):
    with pytest.raises(BadOption, match=found):
        exporter.export(options)
