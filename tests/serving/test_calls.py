"""gRPC answers what HTTP answers, refuses what it refuses, and asks for keys; over TLS as well."""

import asyncio
import pickle
import ssl
import subprocess
from importlib.resources import files

import grpc
import httpx2
import numpy as np
import pytest

from tests.ports import free_port
from tests.serving.test_http import READ, ask, served  # noqa: F401 (fixtures)
from xhash_ray.errors import BadInput
from xhash_ray.serving import http, messages
from xhash_ray.serving.calls import ASKED
from xhash_ray.serving.listening import Ports, address, check_ports, listen, tcp_listener
from xhash_ray.serving.messages import SERVICE, description, message, to_index

KEYED = (("authorization", f"Bearer {READ}"),)


def called(method: str, request, metadata=KEYED, credentials=None, tls=(None, None), timeout_s: float | None = 120.0):
    """One call to a server that lives as long as it."""

    async def scene():
        ports = Ports("127.0.0.1", None, free_port(), *tls)
        (server,) = await listen(ports)
        where, asked, answered = f"localhost:{ports.grpc}", *ASKED[method]
        opened = grpc.aio.secure_channel(where, credentials) if credentials else grpc.aio.insecure_channel(where)
        try:
            async with opened as channel:
                stub = channel.unary_unary(
                    f"/{SERVICE}/{method}",
                    request_serializer=message(asked).SerializeToString,
                    response_deserializer=message(answered).FromString,
                )
                return await stub(request, metadata=metadata, timeout=timeout_s)
        finally:
            await server.stop(None)

    return asyncio.run(scene())


def search(**fields):
    """A SearchRequest."""
    return message("SearchRequest")(**fields)


def same(answer, spoken: dict) -> None:
    """An answer is what HTTP says."""
    assert [(hit.id, hit.distance) for hit in answer.hits] == [(hit["id"], hit["distance"]) for hit in spoken["hits"]]
    assert [dict(hit.metadata) for hit in answer.hits] == [hit.get("metadata", {}) for hit in spoken["hits"]]
    for name in ("kth_distance", "target", "bits", "generation", "model_fingerprint", "shards", "complete", "certain"):
        assert getattr(answer, name) == spoken[name]
    assert set(answer.timings_ms) == set(spoken["timings_ms"])


@pytest.mark.parametrize(
    ("fields", "query"),
    [
        ({"code": b"\1\2"}, {"code": "0102"}),
        ({"code": b"\1\2", "k": 3, "target": "image", "ties": True}, {"code": "0102", "k": 3, "target": "image"}),
        ({"text": "0003", "metadata": False}, {"text": "0003", "metadata": False}),
        ({"id": "pair-3", "filter": "number < 20"}, {"id": "pair-3", "filter": "number < 20"}),
        ({"text": "0003", "rescore": "outputs", "k": 4}, {"text": "0003", "rescore": "outputs", "k": 4}),
    ],
)
def test_a_search_is_that_of_http(served, fields, query):  # noqa: F811
    answer = called("Search", search(**fields))
    spoken = ask(served, **query)
    same(answer, spoken)
    assert [hit.score for hit in answer.hits if hit.HasField("score")] == [
        hit["score"] for hit in spoken["hits"] if "score" in hit
    ]
    assert answer.HasField("at_kth") == bool(fields.get("ties"))


def test_vectors_batches_codes_pairs_and_the_index(served):  # noqa: F811
    vector = message("Vector")(numbers=[0.5] * 16)
    assert len(called("Search", search(vector=vector, source="text")).hits) == 10
    batch = message("BatchRequest")(queries=[search(code=b"\1\2", k=4), search(text="0003")])
    together = called("SearchBatch", batch).answers
    for answer, query in zip(together, ({"code": "0102", "k": 4}, {"text": "0003"}), strict=True):
        same(answer, ask(served, **query))
    assert called("Encode", search(text="00ff")).code == b"\x00\xff"
    pair, spoken = called("GetItem", message("ItemRequest")(id="pair-7")), served.get("/v1/items/pair-7").json()
    assert (pair.image_code.hex(), dict(pair.metadata)) == (spoken["image_code"], spoken["metadata"])
    facts = called("GetIndex", message("IndexRequest")()).facts
    assert facts["rows"] == 40
    assert dict(facts["columns"]) == {"number": "int32"}


@pytest.mark.parametrize(
    ("method", "request_of", "status", "said"),
    [
        ("Search", lambda: search(), "INVALID_ARGUMENT", "exactly one"),
        ("Search", lambda: search(code=b"\1"), "INVALID_ARGUMENT", "8 bits"),
        ("Search", lambda: search(code=b"\1\2", k=0), "INVALID_ARGUMENT", "greater than or equal to 1"),
        ("Search", lambda: search(code=b"\1\2", k=10**6), "INVALID_ARGUMENT", "less than or equal to 10000"),
        ("Search", lambda: search(code=b"\1\2", target="audio"), "INVALID_ARGUMENT", "'image' or 'text'"),
        ("Search", lambda: search(code=b"\1\2", filter="nmber = 1"), "INVALID_ARGUMENT", "no such column"),
        ("Search", lambda: search(id="nobody"), "INVALID_ARGUMENT", "not in this index"),
        ("SearchBatch", lambda: message("BatchRequest")(), "INVALID_ARGUMENT", "0 queries"),
        ("GetItem", lambda: message("ItemRequest")(id="nobody"), "NOT_FOUND", "not in this index"),
    ],
)
def test_what_http_refuses_is_refused_with_its_words(served, method, request_of, status, said):  # noqa: F811
    with pytest.raises(grpc.aio.AioRpcError, match=status) as refused:
        called(method, request_of())
    assert said in refused.value.details()


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer wrong"),)])
def test_a_key_is_asked_for(served, metadata):  # noqa: F811
    with pytest.raises(grpc.aio.AioRpcError, match="UNAUTHENTICATED"):
        called("Search", search(code=b"\1\2"), metadata)


def test_missing_shards_are_said_and_a_complete_answer_can_be_insisted_on(served):  # noqa: F811
    served.backends[1].lost = True
    answer = called("Search", search(code=b"\1\2", target="image", k=40))
    assert (answer.complete, list(answer.missing_shards)) == (False, [1])
    with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
        called("Search", search(code=b"\1\2", require_complete=True))
    http.door.opened = None
    with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
        called("Search", search(code=b"\1\2"))


def test_times_and_missing_numbers_can_be_told(served):  # noqa: F811
    facts = to_index({"when": np.datetime64("2026-11-26"), "ratio": float("nan")}).facts
    assert facts["ratio"] is None
    assert facts["when"].startswith("2026-11-26")


def certificate(folder, program) -> tuple[str, str]:
    """A certificate of localhost, signed by itself, and its key."""
    paths = str(folder / "cert.pem"), str(folder / "key.pem")
    command = [
        program("openssl"),
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return paths


def test_both_ports_speak_tls(served, tmp_path, program):  # noqa: F811
    tls = certificate(tmp_path, program)
    with open(tls[0], "rb") as file:
        trusted = grpc.ssl_channel_credentials(file.read())
    assert len(called("Search", search(code=b"\1\2"), credentials=trusted, tls=tls).hits) == 10

    async def over_https():
        ports = Ports("127.0.0.1", free_port(), None, *tls)
        kept = await listen(ports)
        async with httpx2.AsyncClient(timeout=120, verify=ssl.create_default_context(cafile=tls[0])) as client:
            response = await client.get(f"https://localhost:{ports.http}/healthz")
        for task in kept:
            task.cancel()
        return response.json()

    assert asyncio.run(over_https()) == {"status": "ok"}


def test_messages_can_be_pickled():
    for name in ("SearchRequest", "SearchAnswer", "Item"):
        made = message(name)()
        assert pickle.loads(pickle.dumps(made)) == made
    asked = search(text="red", k=3)
    assert pickle.loads(pickle.dumps(asked)) == asked
    with pytest.raises(AttributeError):
        _ = messages.Nothing


def test_addresses_are_written_as_urls_have_them():
    assert (address("127.0.0.1", 80), address("::1", 80)) == ("127.0.0.1:80", "[::1]:80")
    tcp_listener("::1", 0).close()


def test_half_a_certificate_is_refused(tmp_path):
    with pytest.raises(BadInput, match="only one of"):
        check_ports(Ports(certificate=str(tmp_path)))
    with pytest.raises(BadInput, match="no file"):
        check_ports(Ports(certificate=str(tmp_path / "a"), key=str(tmp_path / "b")))


def test_what_is_shipped_is_what_the_proto_file_says(tmp_path):
    from grpc_tools import protoc

    folder = files("xhash_ray.serving").joinpath("wire")
    made = tmp_path / "search.binpb"
    asked = ["protoc", f"-I{folder}", "--include_imports", f"--descriptor_set_out={made}", f"{folder}/search.proto"]
    asked.insert(1, f"-I{files('grpc_tools').joinpath('_proto')}")
    assert protoc.main(asked) == 0
    compiled = type(description).FromString(made.read_bytes())
    assert [file for file in compiled.file if file.name == "search.proto"] == [
        file for file in description.file if file.name == "search.proto"
    ]
