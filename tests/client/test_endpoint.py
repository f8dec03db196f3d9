"""The clients before the endpoint itself: uvicorn, its HTTP application, forty pairs in three groups."""

from __future__ import annotations

import socket
import threading

import pytest
import uvicorn

from tests.index.samples import index, model, rows_of  # noqa: F401 (fixtures)
from tests.serving.test_http import ADMIN, READ, served  # noqa: F401 (fixture)
from xhash_ray.client import Retry
from xhash_ray.errors import BadInput, Overloaded
from xhash_ray.serving import http

READER, ADMINISTRATOR = {"key": READ}, {"key": ADMIN}


@pytest.fixture
def url(served):  # noqa: F811
    """Of a server over sockets."""
    server = uvicorn.Server(uvicorn.Config(http.http_api(), log_level="error", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_searches_batches_items_and_codes(call, url):
    answer = call(url, "search", settings=READER, code="0102", target="image", k=15, ties=True)
    assert (len(answer.hits), answer.complete, answer.certain, answer.bits) == (15, True, 15, 16)
    assert answer.kth_distance == answer.hits[-1].distance
    assert answer.at_kth >= 1
    assert set(answer.hits[0].metadata) == {"number"}
    assert call(url, "search", settings=READER, code=b"\x01\x02", metadata=False).hits[0].metadata is None
    queries = [{"code": "0102", "target": "image", "k": 15}, {"id": "pair-3"}]
    assert call(url, "search_batch", queries, settings=READER)[0].hits == answer.hits
    stored = next(row for row in rows_of(0, 40).to_pylist() if row["id"] == "pair-7")
    assert call(url, "item", "pair-7", settings=READER).text_code == stored["text_code"].hex()
    assert call(url, "encode", text="00ff", settings=READER).code == "00ff"
    assert call(url, "index", settings=READER)["rows"] == 40
    assert call(url, "alive")


def test_admins_change_what_is_served(call, url):
    assert call(url, "activate", settings=ADMINISTRATOR) == {"generation": 1, "rows": 40}
    with pytest.raises(BadInput, match="an admin's key"):
        call(url, "activate", 1, settings=READER)
    with pytest.raises(BadInput, match="no key"):
        call(url, "index")


def test_admins_change_the_index(call, url):
    assert call(url, "delete", ["pair-0"], settings=ADMINISTRATOR)["rows"] == 39
    assert call(url, "delete", ["pair-0"], ignore_missing=True, settings=ADMINISTRATOR)["rows"] == 39
    with pytest.raises(BadInput):
        call(url, "delete", ["pair-0"], settings=ADMINISTRATOR)
    pair = {"id": "new", "image_code": b"\x01\x02", "text": "0102", "metadata": {"number": 7}}
    assert call(url, "add", [pair], settings=ADMINISTRATOR)["rows"] == 40
    assert call(url, "add", [pair], replace=True, settings=ADMINISTRATOR)["rows"] == 40
    assert call(url, "item", "new", settings=READER).metadata == {"number": 7}
    assert call(url, "rollback", 1, settings=ADMINISTRATOR)["rows"] == 40
    assert call(url, "item", "pair-0", settings=READER).id == "pair-0"


def test_refusals_arrive(call, url, served):  # noqa: F811
    with pytest.raises(BadInput, match="exactly one"):
        call(url, "search", settings=READER)
    for identity in ("nobody", "", "..", "ein/Bär", "%2F"):
        with pytest.raises(BadInput, match="not in this index"):
            call(url, "item", identity, settings=READER)
    served.backends[1].lost = True
    with pytest.raises(Overloaded, match="shards 1"):
        call(url, "search", settings={**READER, "retry": Retry(attempts=1)}, code="0102", require_complete=True)
