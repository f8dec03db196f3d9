"""The endpoint over HTTP: four shards answer like brute force, whatever is asked with."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request

import numpy as np
import pytest
import ray
import torch
from prometheus_client.parser import text_string_to_metric_families
from ray import serve

from tests.ports import free_port
from xhash_ray import options
from xhash_ray.asking import ask
from xhash_ray.client import Client, Retry
from xhash_ray.core.hamming import distances_reference
from xhash_ray.errors import BadInput, BadOption, Unreachable
from xhash_ray.index import generations
from xhash_ray.methods.artefacts import to_method
from xhash_ray.storage import tables
from xhash_ray.storage.artefact import read_artefact
from xhash_ray.storage.codes import open_codes, to_array
from xhash_ray.storage.features import load_features
from xhash_ray.telemetry import METRICS, SERVING


@pytest.fixture(scope="module")
def url(run):
    from xhash_ray.runtime.endpoint import start, stop

    facts = start(options.Serve(index=run.index, port=free_port()))
    assert (facts["shards"], facts["bits"]) == (4, 32)
    yield facts["url"]
    stop()


@pytest.fixture
def client(url):
    with Client(url) as client:
        yield client


@pytest.fixture(scope="module")
def stored(run):
    return tables.read_table(open_codes(run.codes).tables)


def brute_force(stored, code: bytes, target: str, k: int) -> list[tuple[int, str]]:
    distances = distances_reference(to_array(stored[f"{target}_code"]), np.frombuffer(code, np.uint8)[None])[0]
    return sorted(zip(distances.tolist(), stored["id"].to_pylist(), strict=True))[:k]


def found(answer) -> list[tuple[int, str]]:
    return [(hit.distance, hit.id) for hit in answer.hits]


@pytest.mark.parametrize("row", [0, 100, 259])
@pytest.mark.parametrize("target", ["image", "text"])
def test_code_queries_answer_like_brute_force(client, stored, row, target):
    code = stored["text_code"][row].as_py()
    answer = client.search(code=code.hex(), target=target, k=50)
    assert found(answer) == brute_force(stored, code, target, 50)
    assert answer.kth_distance == answer.hits[-1].distance


def test_a_text_finds_what_its_stored_code_finds(client, stored):
    row = 17
    answer = client.search(text=stored["caption"][row].as_py(), k=20)
    assert answer.target == "image"
    assert found(answer) == brute_force(stored, stored["text_code"][row].as_py(), "image", 20)


def test_an_image_finds_what_its_stored_code_finds(client, stored, run):
    corpus = {row["id"]: row for row in tables.read_table(tables.open_tables(run.corpus, "corpus")).to_pylist()}
    row = 23
    answer = client.search(image=corpus[stored["id"][row].as_py()]["image"], k=20)
    assert answer.target == "text"
    assert found(answer) == brute_force(stored, stored["image_code"][row].as_py(), "text", 20)


def test_a_vector_finds_what_its_code_finds(client, stored, run):
    feature = load_features(run.features).text[5]
    code = to_method(read_artefact(run.model)).encode("text", torch.from_numpy(feature[None]))[0].tobytes()
    answer = client.search(vector=feature.tolist(), source="text", target="image", k=9)
    assert found(answer) == brute_force(stored, code, "image", 9)


def test_an_id_finds_what_its_code_finds_with_metadata(client, stored):
    row = 42
    answer = client.search(id=stored["id"][row].as_py(), target="image", k=5)
    assert found(answer) == brute_force(stored, stored["image_code"][row].as_py(), "image", 5)
    captions = dict(zip(stored["id"].to_pylist(), stored["caption"].to_pylist(), strict=True))
    for hit in answer.hits:
        assert hit.metadata["caption"] == captions[hit.id]


def test_more_hits_than_pairs_gives_all_pairs(client, stored):
    answer = client.search(code=stored["text_code"][0].as_py().hex(), target="image", k=9999)
    assert len(answer.hits) == stored.num_rows


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"text": "  "}, "an empty text"),
        ({"text": "a", "id": "b"}, "exactly one"),
        ({}, "exactly one"),
        ({"image": b"no image"}, "cannot be decoded"),
        ({"image": "%%%"}, "not base64"),
        ({"code": "xyz"}, "not hexadecimal"),
        ({"code": "00"}, "8 bits"),
        ({"vector": [0.0, 1.0]}, "Send 128"),
        ({"id": "nobody"}, "not in this index"),
        ({"text": "a", "target": "audio"}, "target"),
        ({"text": "a", "k": 0}, "k"),
        ({"text": "a", "k": 1_000_000}, "k"),
        ({"text": "a", "filter": "x"}, "filter"),
    ],
)
def test_bad_queries_are_refused_with_a_reason(client, query, message):
    with pytest.raises(BadInput, match=message):
        client.search(**query)


def test_the_index_is_described(client, run):
    facts = client.index()
    assert facts["model_fingerprint"] == read_artefact(run.model).fingerprint
    made = generations.current(run.index)
    assert (facts["generation"], facts["shards"], facts["rows"]) == (made.number, made.shards, made.rows)
    assert not {"segments", "tombstones", "encoder"} & set(facts)


def test_curl_as_the_readme_shows_it(url, program):
    body = json.dumps({"text": "a blue star", "k": 3})
    command = [program("curl"), "-s", f"{url}/v1/search", "-H", "Content-Type: application/json", "-d", body]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=600).stdout)
    assert len(answer["hits"]) == 3


def test_xhash_query_asks_one_thing(url):
    assert len(ask(options.Query(text="a red circle", k=4, url=url))["hits"]) == 4
    with pytest.raises(BadOption, match="exactly one"):
        ask(options.Query(url=url))
    with pytest.raises(BadInput, match="No such file"):
        ask(options.Query(image="/nowhere.jpg", url=url))


def test_an_unreachable_endpoint_is_said():
    with pytest.raises(Unreachable, match="no answer"):
        ask(options.Query(text="x", url=f"http://127.0.0.1:{free_port()}"))


def test_a_taken_port_is_said_before_anything_starts(run, url):
    from xhash_ray.runtime.endpoint import start

    with pytest.raises(BadInput, match="Address already in use"):
        start(options.Serve(index=run.index, port=int(url.rsplit(":", 1)[1])))


def test_a_missing_index_is_said(run, tmp_path):
    from xhash_ray.runtime.endpoint import start

    with pytest.raises(BadInput, match="no generation"):
        start(options.Serve(index=str(tmp_path), port=free_port()))


def test_the_client_asks_for_items_codes_and_batches(client, stored):
    row = stored.slice(3, 1).to_pylist()[0]
    assert client.item(row["id"]).text_code == row["text_code"].hex()
    assert client.encode(text=row["caption"]).code == row["text_code"].hex()
    queries = [{"text": row["caption"], "k": 4}, {"id": row["id"], "target": "image", "filter": "split = 'query'"}]
    together = client.search_batch(queries)
    assert [found(answer) for answer in together] == [found(client.search(**query)) for query in queries]
    assert {hit.metadata["split"] for hit in together[1].hits} == {"query"}


def scraped() -> dict[str, list]:
    """What Prometheus would read from this node: samples of our metrics by name, labels of Ray among theirs."""
    port = next(node["MetricsExportPort"] for node in ray.nodes() if node["Alive"])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        named = [family for family in families if family.name.startswith("ray_xhash_")]
    return {family.name.removeprefix("ray_"): family.samples for family in named}


def test_what_it_does_can_be_scraped_from_rays_own_port(client, stored):
    code = stored["text_code"][0].as_py().hex()
    client.search(text="a red star", k=2)
    client.search_batch([{"code": code, "source": "text", "k": 1}] * 250)
    with pytest.raises(BadInput):
        client.search(text="  ")
    rare = {"xhash_missing_shard_answers", "xhash_swap_seconds"}  # nothing is lost or swapped here
    wanted = {metric.name for metric in METRICS.values() if metric.group == SERVING} - rare
    wanted |= {"xhash_code_drift_ratio", "xhash_code_entropy_ratio"}
    found, deadline_s = scraped(), time.monotonic() + 120
    while not (wanted <= found.keys() and roles(found) == {"gateway", "encoder"}) and time.monotonic() < deadline_s:
        time.sleep(1)
        found = scraped()
    assert wanted - found.keys() == set()
    assert roles(found) == {"gateway", "encoder"}
    counts = {(s.labels["kind"], s.labels["outcome"]): s.value for s in found["xhash_searches"]}
    assert counts["code", "ok"] >= 250
    assert counts["text", "refused"] >= 1
    (answering,) = {sample.value for sample in found["xhash_shard_answering"]}
    assert answering == 1
    assert {sample.labels["shard"] for sample in found["xhash_shard_answering"]} == {"0", "1", "2", "3"}
    (held,) = [sample for sample in found["xhash_group_pairs"] if sample.labels["group"] == "0"]
    assert held.value == stored.num_rows
    assert held.labels["replica"] == found["xhash_activated_generation"][0].labels["gateway"]


def roles(found: dict[str, list]) -> set[str]:
    """Whose memory is told."""
    return {sample.labels["role"] for sample in found.get("xhash_process_resident_bytes", [])}


def killed(deployment: str) -> None:
    """Kills the replicas of a deployment as a crash does."""
    names = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]
    mine = [name for name in names if "SERVE_REPLICA" in name and deployment in name]
    assert mine
    for name in mine:
        ray.kill(ray.get_actor(name, namespace="serve"), no_restart=True)


@pytest.mark.faults
def test_shards_in_processes_of_their_own_and_one_that_dies(run, url, stored):
    from xhash_ray.runtime.serving import ServeArgs, build_app

    serve.run(build_app(ServeArgs(index=run.index, processes=2)), name="two", route_prefix="/two")
    try:
        code = stored["text_code"][5].as_py()
        with Client(f"{url}/two", timeout_s=600, retry=Retry(attempts=10)) as client:
            full = found(client.search(code=code.hex(), target="image", k=300))
            assert full == brute_force(stored, code, "image", 300)
            killed("two#shards-1")
            answers, deadline_s = [], time.monotonic() + 600
            while time.monotonic() < deadline_s and not (answers and answers[-1].complete):
                answers.append(client.search(code=code.hex(), target="image", k=300, timeout_s=0.5))
            assert answers[-1].complete, "it came back by itself"
            assert found(answers[-1]) == full
            for answer in answers[:-1]:
                assert answer.missing_shards
                assert found(answer)[: answer.certain] == full[: answer.certain]
            lost = {answer.missing_shards for answer in answers[:-1]}
            assert not lost or (2, 3) in lost, "others may be late, where the machine stands still"
            killed("two#EncoderDeployment")
            assert client.search(text="a red star", k=3, timeout_s=60).complete, "the next encoder answers"
    finally:
        serve.delete("two")
