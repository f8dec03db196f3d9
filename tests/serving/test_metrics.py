"""What an endpoint reports: every search once, where its time went, what is held and served, how codes look."""

import asyncio
import socket
import threading

import numpy as np
import pytest

from tests import simulated_time
from tests.index.samples import codes_at, rows_of
from tests.serving.test_http import ADMIN, GROUPS, ask, served  # noqa: F401 (fixtures)
from xhash_ray.core.bandwidth import read_bandwidth
from xhash_ray.exposition import Registry
from xhash_ray.index import life
from xhash_ray.options import IndexAdd, IndexDelete
from xhash_ray.serving import reporting
from xhash_ray.serving.coalescing import Coalescer
from xhash_ray.serving.sampling import ENOUGH, QuerySample
from xhash_ray.telemetry import CODES, METRICS, SERVING, attached

AS_ADMIN = {"Authorization": f"Bearer {ADMIN}"}
ROWS = 40


@pytest.fixture
def registry():
    """What is reported during a test."""
    with attached(Registry()) as registry:
        yield registry


def value(registry: Registry, name: str, **labels: str) -> float | None:
    """One sample, None where there is none."""
    return registry.registry.get_sample_value(name, labels)


def counted(registry: Registry) -> dict[tuple[str, str], float]:
    """Searches by kind and outcome."""
    families = {family.name: family.samples for family in registry.registry.collect()}
    samples = [each for each in families.get("xhash_searches", []) if each.name == "xhash_searches_total"]
    return {(each.labels["kind"], each.labels["outcome"]): each.value for each in samples}


def reports_of(served) -> tuple[reporting.GatewayReport, list[reporting.GroupReport]]:  # noqa: F811
    """Those of a gateway and of its groups."""
    groups = [reporting.GroupReport(backend.server, f"g{n}", 2**16) for n, backend in enumerate(served.backends)]
    return reporting.GatewayReport(served.gateway, "here"), groups


def say_all(served) -> None:  # noqa: F811
    """Everything that its processes say of themselves, once."""
    gateway, groups = reports_of(served)
    asyncio.run(gateway())
    for each in groups:
        each()
    reporting.report_process("gateway", "here")


def queries_like(codes: list[bytes], source: str) -> list[dict[str, object]]:
    """Searches with codes, as a batch has them."""
    return [{"code": code.hex(), "source": source, "k": 1, "metadata": False} for code in codes]


def test_every_search_is_counted_once_by_kind_and_outcome(served, registry):  # noqa: F811
    ask(served, code="0102")
    ask(served, text="0102")
    ask(served, id="pair-3")
    served.post("/v1/search/batch", json={"queries": [{"code": "0102"}, {"vector": [1.0] * 16}]})
    served.post("/v1/search", json={"text": "  "})
    served.post("/v1/search", json={})
    served.post("/v1/search", json={"code": "0102", "k": 0})
    served.post("/v1/search/batch", json={"queries": []})
    assert counted(registry) == {
        ("code", "ok"): 2, ("text", "ok"): 1, ("id", "ok"): 1, ("vector", "ok"): 1,
        ("text", "refused"): 1, ("none", "refused"): 3,
    }  # fmt: skip


def test_what_goes_wrong_is_told_apart(served, registry, monkeypatch):  # noqa: F811
    served.backends[1].lost = True
    assert not ask(served, code="0102")["complete"]
    assert served.post("/v1/search", json={"code": "0102", "require_complete": True}).status_code == 503
    assert value(registry, "xhash_missing_shard_answers_total", shard="1") == 2
    assert value(registry, "xhash_missing_shard_answers_total", shard="0") is None
    monkeypatch.setattr(served.gateway.router.coalescer, "bound", 0)
    assert served.post("/v1/search", json={"code": "0102"}).status_code == 503

    async def broken(*_):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(served.gateway.router, "search", broken)
    assert served.post("/v1/search", json={"code": "0102"}).status_code == 500
    assert counted(registry) == {("code", "incomplete"): 1, ("code", "overloaded"): 2, ("code", "failed"): 1}


def test_the_parts_of_a_search_are_all_of_it(served, registry):  # noqa: F811
    spent = ask(served, text="0102")["timings_ms"]
    parts = ("queue", "encode", "scan", "merge", "fetch")
    assert spent.keys() == {*parts, "total", "wait"}
    assert sum(spent[part] for part in parts) == pytest.approx(spent["total"], abs=0.01)
    assert spent["wait"] + spent["encode"] + spent["scan"] == pytest.approx(spent["total"], abs=0.01)
    assert min(spent["scan"], spent["fetch"], spent["merge"]) > 0
    for part in (*parts, "total"):
        assert value(registry, "xhash_search_seconds_count", part=part) == 1
        assert value(registry, "xhash_search_seconds_sum", part=part) == pytest.approx(spent[part] / 1e3, abs=1e-6)
    ask(served, code="0102", metadata=False)
    counts = {part: value(registry, "xhash_search_seconds_count", part=part) for part in (*parts, "total")}
    assert (counts["encode"], counts["fetch"]) == (1, 1), "nothing was encoded or fetched"
    assert counts["total"] == 2


def test_scans_are_counted_where_they_happen(served, registry):  # noqa: F811
    served.post("/v1/search/batch", json={"queries": [{"code": "0102"}] * 5})
    ask(served, code="0102")
    groups = [str(part) for part in range(GROUPS)]
    codes = [value(registry, "xhash_scanned_codes_total", group=group) for group in groups]
    read = [value(registry, "xhash_scanned_bytes_total", group=group) for group in groups]
    assert sum(codes) == ROWS * 6
    assert sum(read) == ROWS * 2 * 2, "two scans of codes of two bytes"
    assert min(value(registry, "xhash_scan_busy_seconds_total", group=group) for group in groups) > 0
    assert value(registry, "xhash_queries_per_scan_sum") == 6
    assert value(registry, "xhash_queries_per_scan_count") == 2


def test_a_lost_shard_is_seen_without_any_search_and_so_is_its_return(served, registry):  # noqa: F811
    gateway, _ = reports_of(served)
    served.backends[1].lost = True
    asyncio.run(gateway())
    answering = [value(registry, "xhash_shard_answering", gateway="here", shard=str(shard)) for shard in range(3)]
    assert answering == [1, 0, 1]
    served.backends[1].lost = False
    served.gateway.router.lost.add(1)
    asyncio.run(gateway())
    assert value(registry, "xhash_shard_answering", gateway="here", shard="1") == 1
    assert served.gateway.router.lost == set()


def test_what_is_served_and_held_follows_swaps(served, registry, tmp_path, model):  # noqa: F811
    gateway, groups = reports_of(served)
    more = codes_at(tmp_path / "more", rows_of(40, 60, 1), model.fingerprint)
    life.add(IndexAdd(index=served.index, codes=more))
    life.delete(IndexDelete(index=served.index, ids=("pair-0", "pair-41")))
    assert served.post("/v1/admin/activate", json={}, headers=AS_ADMIN).json()["generation"] == 3
    assert served.post("/v1/admin/activate", json={"generation": 9}, headers=AS_ADMIN).status_code == 400
    asyncio.run(gateway())
    for each in groups:
        each()
    names = [{"group": str(part), "replica": f"g{part}"} for part in range(GROUPS)]
    assert value(registry, "xhash_activated_generation", gateway="here") == 3
    assert {value(registry, "xhash_loaded_generation", **each) for each in names} == {3}
    assert sum(value(registry, "xhash_group_pairs", **each) for each in names) == 58
    held = sum(value(registry, "xhash_group_code_bytes", **each) for each in names)
    assert held == 60 * 2 * 2, "segments that both generations have are held once"
    assert value(registry, "xhash_swap_seconds_count", outcome="ok") == 1
    assert value(registry, "xhash_swap_seconds_count", outcome="failed") == 1


def test_queries_that_look_other_than_what_is_stored_are_drift(served, registry):  # noqa: F811
    gateway, _ = reports_of(served)
    stored = [code.as_py() for code in rows_of(0, ROWS)["text_code"]]
    labels = {"modality": "text", "where": "here"}
    served.post("/v1/search/batch", json={"queries": queries_like(stored[:10], "text")})
    asyncio.run(gateway())
    assert value(registry, "xhash_code_drift_ratio", **labels) is None, "ten queries say nothing"
    served.gateway.sample.codes.clear()
    served.post("/v1/search/batch", json={"queries": queries_like(stored * 6, "text")})
    asyncio.run(gateway())
    assert value(registry, "xhash_code_drift_ratio", **labels) == pytest.approx(0)
    shifted = [bytes([code[0] ^ 0xFF, code[1]]) for code in stored] * 6
    served.post("/v1/search/batch", json={"queries": queries_like(shifted, "text")})
    asyncio.run(gateway())
    bits = np.unpackbits(np.frombuffer(b"".join(stored), np.uint8).reshape(-1, 2), axis=1).mean(axis=0)
    expected = np.abs(1 - 2 * bits[:8]).sum() / 2 / 16  # half of the queries are the shifted ones
    assert expected > 0.1
    assert value(registry, "xhash_code_drift_ratio", **labels) == pytest.approx(expected)
    assert value(registry, "xhash_code_sample_size", source="queries", **labels) == 480
    assert value(registry, "xhash_code_drift_ratio", modality="image", where="here") is None


def test_a_sample_is_bounded_and_of_one_model():
    sample = QuerySample(most=ENOUGH)
    for number in range(ENOUGH + 50):
        sample.add("m1", "text", bytes([number % 256, 0]))
    codes = sample.taken("m1")["text"]
    assert codes.shape == (ENOUGH, 2)
    assert codes[0, 0] == 50, "the oldest have gone"
    assert sample.taken("m2") == {}
    sample.add("m2", "text", b"\0")
    assert sample.taken("m1") == {}
    assert sample.taken("m2") == {}, "one is not enough"


def test_every_metric_of_the_endpoint_has_samples_after_a_small_load(served, registry):  # noqa: F811
    ask(served, text="0102")
    served.post("/v1/search/batch", json={"queries": queries_like([b"\1\2"] * ENOUGH, "text")})
    served.backends[2].lost = True
    ask(served, code="0102")
    served.backends[2].lost = False
    served.post("/v1/search", json={})
    served.post("/v1/admin/activate", json={}, headers=AS_ADMIN)
    say_all(served)
    there = {family.name for family in registry.registry.collect() if family.samples}
    assert {metric.name for metric in METRICS.values() if metric.group in (SERVING, CODES)} - there == set()
    labels = {"source": "index", "modality": "image", "where": "g0"}
    rows = served.backends[0].server.holder.group(1).rows
    assert value(registry, "xhash_code_sample_size", **labels) == rows
    assert value(registry, "xhash_code_sample_size", **{**labels, "where": "g1"}) is None, "the first speaks for all"


def test_a_process_tells_its_memory_and_how_full_the_cache_disk_is(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("XHASH_CACHE", str(tmp_path / "not" / "there" / "yet"))
    reporting.report_process("encoder", "r1")
    assert value(registry, "xhash_process_resident_bytes", role="encoder", replica="r1") > 10**7
    assert 0 < value(registry, "xhash_cache_disk_free_ratio", node=socket.gethostname(), replica="r1") <= 1
    assert not (tmp_path / "not").exists()


def test_bandwidth_is_that_of_a_machine():
    assert 10**8 < read_bandwidth(1, size_bytes=2**22) < 10**13


def test_how_many_waited_is_remembered_until_it_was_asked():
    async def scene():
        async def work(kind, queries):
            await asyncio.sleep(1)
            return queries

        shared = Coalescer(work)
        await asyncio.gather(*(shared.ask("a", number) for number in range(4)))
        assert shared.waited() == 3, "the first had nobody to wait for"
        assert shared.waited() == 0

    simulated_time.run(scene())


def test_a_report_that_fails_is_not_the_last():
    said = []

    async def say():
        said.append(len(said))
        if len(said) == 1:
            raise RuntimeError("not this time")

    async def scene():
        task = asyncio.ensure_future(reporting.keep_saying(say, every_s=5))
        await asyncio.sleep(21)
        task.cancel()

    simulated_time.run(scene())
    assert said == [0, 1, 2, 3, 4]


def test_a_thread_says_it_again_until_it_is_told_to_end():
    said, third = [], threading.Event()

    def say():
        said.append(1)
        if len(said) == 3:
            third.set()
        if len(said) == 1:
            raise RuntimeError("not this time")

    ended = reporting.keep_saying_aside(say, every_s=0.001)
    assert third.wait(60)
    ended.set()


def test_a_group_that_never_answers_keeps_no_report_waiting(served, registry, monkeypatch):  # noqa: F811
    async def silent(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(served.backends[0], "call", silent)
    gateway, _ = reports_of(served)
    simulated_time.run(gateway())
    assert value(registry, "xhash_shard_answering", gateway="here", shard="0") == 0
    assert value(registry, "xhash_shard_answering", gateway="here", shard="2") == 1
