"""The endpoint without Ray: its promises over HTTP, with groups that can be lost and generations that change."""

import asyncio
import threading

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.index.samples import codes_at, rows_of
from tests.index.test_shard import brute_force
from xhash_ray.errors import BadInput
from xhash_ray.index import life
from xhash_ray.options import IndexAdd, IndexDelete
from xhash_ray.serving import http
from xhash_ray.serving.answers import Query
from xhash_ray.serving.backends import GroupServer, Lost
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.keys import Keys
from xhash_ray.serving.router import Router

READ, ADMIN = "r" * 20, "a" * 20
GROUPS = 3


class Backend:
    """A group in this process that can be lost, or slow."""

    def __init__(self, uri: str, part: int) -> None:
        self.server, self.lost, self.loading = GroupServer(uri, part, GROUPS), False, threading.Event()
        self.loading.set()

    async def call(self, method, deadline_s, *arguments):
        if self.lost:
            raise Lost
        if method == "prepare":
            await asyncio.to_thread(self.loading.wait)
        return await asyncio.to_thread(getattr(self.server, method), *arguments)


def query(code: bytes, outputs: np.ndarray | None = None) -> Query:
    """A query whose outputs are as sure of every bit as of any other, unless they are said."""
    bits = np.unpackbits(np.frombuffer(code, np.uint8), bitorder="little").astype(np.float32) * 2 - 1
    return Query(code, (bits if outputs is None else outputs).tobytes(), bits[:8].tobytes())


class Encoder:
    """Texts are codes in hexadecimal; vectors are outputs of a hash function."""

    def __init__(self) -> None:
        self.prepared: list[str] = []

    async def prepare(self, model_uri, fingerprint):
        self.prepared.append(fingerprint)

    async def encode(self, model_uri, fingerprint, kind, content, modality, deadline_s):
        if kind == "vector":
            return query(b"\1\2", np.float32(np.clip(content, -1e9, 1e9)))
        try:
            return query(bytes.fromhex(content)[:2].ljust(2, b"\0") if str(content).strip() else None)
        except (TypeError, ValueError):
            raise BadInput(f"a {kind} query", "an empty text", "Write what to look for") from None


@pytest.fixture
def served(index, tmp_path):
    """An endpoint over forty pairs in three groups, its parts within reach."""
    keys = tmp_path / "keys"
    keys.write_text(f"read {READ}\nadmin {ADMIN}\n")
    backends = [Backend(index, part) for part in range(GROUPS)]
    gateway = Gateway(Router(index, backends), Encoder(), Keys(str(keys)))
    asyncio.run(gateway.activate(None))
    http.door.opened = gateway
    with TestClient(
        http.http_api(), headers={"Authorization": f"Bearer {READ}"}, raise_server_exceptions=False
    ) as client:
        client.backends, client.gateway, client.index = backends, gateway, index
        yield client
    http.door.opened = None


def found(answer) -> list[tuple[int, str]]:
    """(distance, id) of an answer."""
    return [(hit["distance"], hit["id"]) for hit in answer["hits"]]


def ask(client, **query):
    """One search that must be answered."""
    response = client.post("/v1/search", json=query)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("target", ["image", "text"])
def test_all_groups_answer_like_a_plain_scan(served, target):
    rows = rows_of(0, 40)
    answer = ask(served, code="0102", target=target, k=15, ties=True)
    assert found(answer) == brute_force(rows, np.array([1, 2], np.uint8), target, 15)
    assert (answer["complete"], answer["missing_shards"], answer["certain"]) == (True, [], 15)
    assert answer["at_kth"] >= 1
    assert answer["generation"] == 1
    numbers = dict(zip(rows["id"].to_pylist(), rows["number"].to_pylist(), strict=True))
    assert [hit["metadata"] for hit in answer["hits"]] == [{"number": numbers[name]} for _, name in found(answer)]
    assert "metadata" not in ask(served, code="0102", metadata=False)["hits"][0]


def test_filters_find_k_where_k_exist(served):
    rows = rows_of(0, 40)
    kept = rows.filter(np.asarray(rows["number"]) >= 30)
    answer = ask(served, code="0102", target="image", k=10, filter="number >= 30")
    assert found(answer) == brute_force(kept, np.array([1, 2], np.uint8), "image", 10)
    assert len(answer["hits"]) == 10


def test_a_batch_is_its_queries_one_by_one(served):
    queries = [{"code": "0102", "k": 5, "target": "image"}, {"text": "0003", "k": 7}, {"id": "pair-3", "k": 5}]
    together = served.post("/v1/search/batch", json={"queries": queries}).json()["answers"]
    assert [found(answer) for answer in together] == [found(ask(served, **query)) for query in queries]


def test_a_lost_group_is_said_and_what_is_certain_is_certain(served):
    full = ask(served, code="0102", target="image", k=40)
    served.backends[1].lost = True
    answer = ask(served, code="0102", target="image", k=40)
    assert (answer["complete"], answer["missing_shards"]) == (False, [1])
    assert 0 < len(answer["hits"]) < 40
    assert found(answer)[: answer["certain"]] == found(full)[: answer["certain"]]
    assert served.get("/v1/index").json()["columns"] == {"number": "int32"}
    refused = served.post("/v1/search", json={"code": "0102", "require_complete": True})
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert "shards 1" in refused.json()["error"]["found"]
    served.backends[1].lost = False
    assert ask(served, code="0102", target="image", k=40)["complete"]


def test_a_swap_waits_for_all_groups_and_mixes_nothing(served, tmp_path, model):
    more = codes_at(tmp_path / "more", rows_of(40, 60, 1), model.fingerprint)
    life.add(IndexAdd(index=served.index, codes=more))
    before = ask(served, code="0102", k=100)
    served.backends[2].loading.clear()
    answers = []
    admin = {"Authorization": f"Bearer {ADMIN}"}
    swap = threading.Thread(target=lambda: answers.append(served.post("/v1/admin/activate", json={}, headers=admin)))
    swap.start()
    for _ in range(5):
        assert found(ask(served, code="0102", k=100)) == found(before)
    served.backends[2].loading.set()
    swap.join()
    assert answers[0].json() == {"generation": 2, "rows": 60}
    after = ask(served, code="0102", k=100)
    assert (after["generation"], len(after["hits"])) == (2, 60)
    back = served.post("/v1/admin/activate", json={"generation": 1}, headers=admin)
    assert back.json()["generation"] == 1
    assert found(ask(served, code="0102", k=100)) == found(before)
    life.delete(IndexDelete(index=served.index, ids=("pair-0",)))
    served.post("/v1/admin/activate", json={}, headers=admin)
    assert len(ask(served, code="0102", k=100)["hits"]) == 59
    assert all(len(backend.server.holder.groups.values) <= 2 for backend in served.backends)


def test_a_generation_that_cannot_be_loaded_leaves_the_old_one(served):
    admin = {"Authorization": f"Bearer {ADMIN}"}
    assert served.post("/v1/admin/activate", json={"generation": 9}, headers=admin).status_code == 400
    served.backends[0].lost = True
    assert served.post("/v1/admin/activate", json={}, headers=admin).status_code == 503
    served.backends[0].lost = False
    assert ask(served, code="0102")["generation"] == 1


def test_items_and_codes(served):
    stored = served.get("/v1/items/pair-7").json()
    row = next(row for row in rows_of(0, 40).to_pylist() if row["id"] == "pair-7")
    assert stored["image_code"] == row["image_code"].hex()
    assert stored["metadata"] == {"number": row["number"]}
    assert served.get("/v1/items/nobody").status_code == 404
    assert served.post("/v1/encode", json={"text": "00ff"}).json()["code"] == "00ff"
    assert served.get("/v1/index").json()["rows"] == 40
    assert served.get("/readyz").json() == {"generation": 1}


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/v1/index", None, 401),
        ("/v1/index", "wrong" * 5, 401),
        ("/v1/index", READ, 200),
        ("/v1/index", ADMIN, 200),
        ("/v1/admin/activate", None, 401),
        ("/v1/admin/activate", READ, 403),
        ("/v1/admin/activate", ADMIN, 200),
        ("/healthz", None, 200),
    ],
)
def test_who_may_do_what(served, path, key, status):
    headers = {"Authorization": f"Bearer {key}" if key else ""}
    response = served.post(path, json={}, headers=headers) if "admin" in path else served.get(path, headers=headers)
    assert response.status_code == status


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({}, 400, "exactly one"),
        ({"text": "  "}, 400, "an empty text"),
        ({"code": "xyz"}, 400, "not hexadecimal"),
        ({"code": "00"}, 400, "8 bits"),
        ({"code": "0102", "k": 0}, 422, "greater than or equal to 1"),
        ({"code": "0102", "k": 10**6}, 422, "less than or equal to 10000"),
        ({"code": "0102", "filter": "nmber = 1"}, 400, "no such column"),
        ({"code": "0102", "filter": "number = 'x'"}, 400, "for a column of int32"),
        ({"code": "0102", "target": "audio"}, 422, "'image' or 'text'"),
        ({"id": "nobody"}, 400, "not in this index"),
        ({"code": "0102", "timeout_s": 0}, 422, "greater than 0"),
        ({"code": "0102", "hits": 3}, 422, "Extra inputs"),
    ],
)
def test_bad_queries_are_refused_with_a_reason(served, query, status, message):
    response = served.post("/v1/search", json=query)
    assert response.status_code == status
    assert message in response.json()["error"]["found"] + response.json()["error"]["do"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"queries": 1}'])
@pytest.mark.parametrize("path", ["/v1/search", "/v1/search/batch", "/v1/encode"])
def test_bodies_that_are_no_request_are_no_error_of_ours(served, path, body):
    assert served.post(path, content=body, headers={"Content-Type": "application/json"}).status_code == 422


def test_bodies_that_are_too_large_are_refused_unread(served, monkeypatch):
    monkeypatch.setattr("xhash_ray.serving.door.MAX_BODY_BYTES", 100)
    assert served.post("/v1/search", json={"text": "x" * 200}).status_code == 413
    assert served.post("/v1/search", content=iter([b"{}"])).status_code == 413, "no length was given"
    for length in ("\u00b2", "9" * 5000, "-1", "1e2"):
        response = served.post("/v1/search", content=b"{}", headers={"Content-Length": length.encode("latin-1")})
        assert response.status_code == 413, "no number"


def test_before_a_generation_is_loaded_nobody_is_answered():
    http.door.opened = None
    with TestClient(http.http_api()) as client:
        assert client.get("/healthz").status_code == 200
        for path in ("/readyz", "/v1/index"):
            assert client.get(path).status_code == 503


def test_a_swap_between_encoding_and_searching_mixes_no_generations(served, tmp_path, model, monkeypatch):
    more = codes_at(tmp_path / "more", rows_of(40, 60, 1), model.fingerprint)
    life.add(IndexAdd(index=served.index, codes=more))
    encode = served.gateway.encoder.encode

    async def swapping(*given):
        monkeypatch.setattr(served.gateway.encoder, "encode", encode)
        await served.gateway.activate(None)
        return await encode(*given)

    monkeypatch.setattr(served.gateway.encoder, "encode", swapping)
    answer = ask(served, text="0102", k=100)
    assert (answer["generation"], len(answer["hits"])) == (1, 40), "it ends in the generation that it began in"
    assert ask(served, text="0102", k=100)["generation"] == 2


def test_a_pair_whose_group_is_lost_can_be_asked_for_again(served):
    for backend in served.backends:
        backend.lost = True
    assert served.get("/v1/items/pair-7").status_code == 503
