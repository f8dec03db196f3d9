"""Bodies: JSON and forms mean the same; what is neither is said to be; nothing is read without a key."""

import pytest

from tests.serving.test_http import ask, found, served  # noqa: F401 (fixtures)


def form(client, files=None, **fields):
    """A search as a form."""
    return client.post("/v1/search", data=fields, files=files or {"unused": ("", b"")})


def test_a_form_is_a_search(served, monkeypatch):  # noqa: F811
    contents = []
    encode = served.gateway.encoder.encode

    async def looking(model_uri, fingerprint, kind, content, modality, deadline_s):
        contents.append((kind, content))
        return await encode(model_uri, fingerprint, "text", "0102", modality, deadline_s)

    monkeypatch.setattr(served.gateway.encoder, "encode", looking)
    response = form(served, {"image": ("a.jpg", b"\xff\xd8 an image", "image/jpeg")}, k="7", filter="number < 30")
    assert response.status_code == 200, response.text
    assert contents == [("image", b"\xff\xd8 an image")]
    expected = ask(served, code="0102", target="text", k=7, filter="number < 30")
    assert found(response.json()) == found(expected)


@pytest.mark.parametrize(
    ("send", "status", "message"),
    [
        ({"data": {"text": "0102"}}, 415, "application/x-www-form-urlencoded"),
        ({"content": b"text", "headers": {"content-type": "text/plain"}}, 415, "text/plain"),
        ({"content": b"{}", "headers": {"content-type": ""}}, 415, "no content type"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 422, "boundary"),
        ({"files": {"image": ("a", b"")}}, 400, "no bytes"),
        ({"files": {"image": ("a", b"x"), "more": ("b", b"y")}}, 422, "Too many files"),
        ({"files": {"image": ("a", b"x")}, "data": {"k": "many"}}, 422, "valid integer"),
        ({"files": {"image": ("a", b"x")}, "data": {"colour": "red"}}, 422, "Extra inputs"),
        ({"files": {"a": ("", b"")}, "data": {f"f{n}": "x" for n in range(40)}}, 422, "Too many fields"),
    ],
)
def test_bodies_that_are_none_are_refused_with_a_reason(served, send, status, message):  # noqa: F811
    response = served.post("/v1/search", **send)
    assert response.status_code == status, response.text
    assert message in response.text


def test_a_body_is_not_looked_at_without_a_key(served):  # noqa: F811
    for path in ("/v1/search", "/v1/search/batch", "/v1/encode"):
        response = served.post(path, content=b"{", headers={"Authorization": "", "Content-Type": "application/json"})
        assert response.status_code == 401


def test_unknown_paths_and_methods_are_refused_like_everything_else(served):  # noqa: F811
    assert served.get("/v2").json()["error"]["found"] == "Not Found"
    response = served.get("/v1/search")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
