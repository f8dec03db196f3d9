"""What is sent: the least that says it, nothing lost on the way."""

from __future__ import annotations

import inspect
import json
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from urllib.parse import unquote

import httpx2
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tests.client.stub import endpoint, says
from xhash_ray.client import AsyncClient, Client, calls
from xhash_ray.errors import BadInput, Unreachable
from xhash_ray.serving.requests import SearchRequest, decode_image

METHODS = [name for name in dir(Client) if not name.startswith("_") and inspect.isfunction(getattr(Client, name))]
FINITE = st.floats(allow_nan=False, allow_infinity=False)
OPTIONS = {
    "source": st.sampled_from(["image", "text"]),
    "target": st.sampled_from(["image", "text"]),
    "k": st.integers(1, 10_000),
    "filter": st.text(max_size=20),
    "metadata": st.booleans(),
    "ties": st.booleans(),
    "require_complete": st.booleans(),
    "timeout_s": st.floats(0.1, 60),
}
KINDS = {"text": st.text(max_size=20), "vector": st.lists(FINITE, max_size=4), "id": st.text(max_size=20)}
FACTS = says({"rows": 5})


@given(st.fixed_dictionaries({}, optional=KINDS | OPTIONS))
def test_a_request_says_what_its_arguments_say(query):
    sent = json.loads(calls.search(**query).body)
    assert SearchRequest(**sent) == SearchRequest(**query)
    (in_batch,) = json.loads(calls.search_batch([query]).body)["queries"]
    assert in_batch == sent


@given(st.binary(min_size=1), st.binary())
def test_bytes_arrive(image, code):
    sent = json.loads(calls.search(image=image, code=code).body)
    assert (decode_image(sent["image"]), bytes.fromhex(sent["code"])) == (image, code)
    assert json.loads(calls.search(image=sent["image"], code=sent["code"]).body) == sent, "texts are sent as they are"


@given(st.text(st.characters(exclude_categories=())) | st.sampled_from([".", "..", "a/../b", "/", "?", "%2F", "#x"]))
def test_any_id_is_one_step_of_the_path(identity):
    path = httpx2.URL("http://host/base" + calls.item(identity).path).raw_path.decode()
    assert unquote(path.removeprefix("/base/v1/items/"), errors="surrogatepass") == identity
    assert path.count("/") == 4


def test_defaults_are_not_sent(call):
    with endpoint(says({"answers": []})) as stub:
        call(stub.url, "search_batch", [{"text": "x", "k": 10, "metadata": True, "target": None}, {"id": "", "k": 3}])
    assert stub.asked[0].body == {"queries": [{"text": "x"}, {"id": "", "k": 3}]}
    for made in (calls.search(text="x", k=10, timeout_s=10.0), calls.encode(text="x")):
        assert json.loads(made.body) == {"text": "x"}
    rescored = calls.search(text="x", rescore="outputs", candidates=100)
    assert json.loads(rescored.body) == {"text": "x", "rescore": "outputs", "candidates": 100}


def test_what_admins_send(call):
    pair = {"id": "a", "image": b"abc", "text": None, "text_vector": np.float32([1, 2]), "metadata": {"n": 1}}
    with endpoint(FACTS) as stub:
        for method, arguments in [("activate", ()), ("activate", (3,)), ("rollback", ()), ("rollback", (2,))]:
            assert call(stub.url, method, *arguments) == {"rows": 5}
        call(stub.url, "delete", ("a", "b"))
        call(stub.url, "delete", ["a"], ignore_missing=True)
        call(stub.url, "add", [pair])
        call(stub.url, "add", [{"id": "b", "image_code": b"\x00\xff", "text_code": "00ff"}], replace=True)
    plain = {"id": "a", "image": "YWJj", "text_vector": [1.0, 2.0], "metadata": {"n": 1}}
    assert [(asked.verb, asked.path.removeprefix("/v1/admin/"), asked.body) for asked in stub.asked] == [
        ("POST", "activate", {}),
        ("POST", "activate", {"generation": 3}),
        ("POST", "rollback", {}),
        ("POST", "rollback", {"to": 2}),
        ("POST", "delete", {"ids": ["a", "b"]}),
        ("POST", "delete", {"ids": ["a"], "ignore_missing": True}),
        ("POST", "add", {"pairs": [plain]}),
        ("POST", "add", {"pairs": [{"id": "b", "image_code": "00ff", "text_code": "00ff"}], "replace": True}),
    ]


@pytest.mark.parametrize(
    ("method", "arguments", "options", "message"),
    [
        ("search", (), {"vector": [float("nan")]}, "not JSON compliant"),
        ("search", (), {"vector": [[1.0]]}, "not a list of numbers"),
        ("search", (), {"vector": 3}, "not a list of numbers"),
        ("search", (), {"text": b"x"}, "not JSON serializable"),
        ("add", ([{"id": "a", "metadata": {"n": float("inf")}}],), {}, "not JSON compliant"),
        ("delete", ("pair-1",), {}, "one text, 'pair-1'"),
    ],
)
def test_what_no_request_can_hold_is_refused_before_it_is_sent(call, method, arguments, options, message):
    with endpoint(FACTS) as stub:
        with pytest.raises(BadInput, match=message):
            call(stub.url, method, *arguments, **options)
        assert not stub.asked


def test_keys_and_paths_of_the_url(call):
    with endpoint(FACTS) as stub:
        call(stub.url + "/base/", "index", settings={"key": "k" * 20})
        call(stub.url, "index")
        with pytest.raises(BadInput, match="the key"):
            call(stub.url, "index", settings={"key": "k" * 20 + "\n"})
    first, second = stub.asked
    assert (first.path, first.headers["Authorization"]) == ("/base/v1/index", "Bearer " + "k" * 20)
    assert (second.path, second.headers.get("Authorization")) == ("/v1/index", None)


def certificate(folder) -> str:
    """A file with a key and a certificate that this address gives itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    names, now = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    signed = builder.add_extension(names, critical=True).sign(key, hashes.SHA256())
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = serialization.Encoding.PEM
    (folder / "own.pem").write_bytes(key.private_bytes(pem, *form) + signed.public_bytes(pem))
    return str(folder / "own.pem")


def test_https_with_an_authority_of_ones_own(call, tmp_path):
    own = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(own)
    with endpoint(FACTS, tls=tls) as stub:
        for verify in (own, ssl.create_default_context(cafile=own), False):
            assert call(stub.url, "index", settings={"verify": verify}) == {"rows": 5}
        with pytest.raises(Unreachable, match="CERTIFICATE"):
            call(stub.url, "index", settings={"verify": True})
    with pytest.raises(BadInput, match="Name a PEM file"):
        call(stub.url, "index", settings={"verify": "/nowhere.pem"})


def test_both_clients_have_the_same_methods_arguments_and_descriptions():
    assert {"search", "search_batch", "encode", "item", "index", "add", "delete", "rollback", "activate"} < set(METHODS)
    for name in METHODS:
        ours, theirs = getattr(Client, name), getattr(AsyncClient, name)
        assert ours.__doc__ == theirs.__doc__, name
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name
    arguments = inspect.signature(Client.search).parameters
    assert list(arguments)[:2] == ["self", "text"]
    assert (arguments["k"].default, inspect.signature(Client.search).return_annotation) == (10, "Answer")
    assert "text" in inspect.signature(Client("http://127.0.0.1").search).parameters


def test_the_client_is_light():
    heavy = {"ray", "torch", "numpy", "pyarrow", "pydantic", "fastapi", "asyncio"}
    program = f"import sys, xhash_ray.client; print(sorted({heavy} & set(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
