"""The page's routes: what they send along, who gets pictures, and that nothing comes from elsewhere."""

import re
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from xhash_ray.errors import BadInput, Overloaded
from xhash_ray.serving import http, pages
from xhash_ray.serving.keys import Keys

READ = "r" * 20
ASSETS = ["page/page.css", "page/page.js", "page/api.js", "page/cards.js", "page/input.js", "page/query.js"]
NO_ADDRESSES = {"http://www.w3.org/2000/svg"}  # the name of a namespace


class Pictures:
    """One picture; the others are still looked for, or none."""

    async def jpeg(self, identity):
        if identity == "later":
            raise Overloaded("a thumbnail", "ids are being read", "Ask again")
        return b"\xff\xd8" + identity.encode() if identity.startswith("a") else None


async def stored(served, identity, deadline_s):
    """Pairs of the index; one was deleted from it."""
    if identity == "deleted":
        raise BadInput("the pair", "not in this index", "Check the id")


@pytest.fixture
def client(tmp_path):
    """The endpoint with pictures, for those with a key."""
    (tmp_path / "keys").write_text(f"read {READ}\n")
    http.door.opened = SimpleNamespace(
        keys=Keys(str(tmp_path / "keys")), thumbnails=Pictures(), router=SimpleNamespace(ready=dict, item=stored)
    )
    with TestClient(http.http_api(), raise_server_exceptions=False) as client:
        yield client
    http.door.opened = None


def thumbnail(client, identity, key=READ):
    """One picture asked for."""
    return client.get(f"/v1/thumbnails/{identity}", headers={"Authorization": f"Bearer {key}"})


def test_the_apis_description_names_every_route_and_loads_nothing_from_elsewhere(client):
    answer = client.get("/docs", headers={"Authorization": ""})
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for said in ("/v1/search/batch", "/v1/admin/add", "multipart/form-data", "as the model was trained on", "rescore"):
        assert said in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "<script" not in answer.text


def test_a_pair_that_was_deleted_has_no_picture(client):
    assert thumbnail(client, "deleted").status_code == 404


def test_the_page_needs_no_key_and_no_gateway():
    http.door.opened = None
    with TestClient(http.http_api()) as client:
        assert client.get("/").headers["Content-Type"] == "text/html; charset=utf-8"
        assert client.get("/page/page.css").headers["Content-Type"] == "text/css; charset=utf-8"
        assert client.get("/page/page.js").headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert client.get("/v1/thumbnails/a").status_code == 503


@pytest.mark.parametrize("path", ["", *ASSETS])
def test_browsers_are_told_to_trust_nothing_else(client, path):
    headers = client.get(f"/{path}").headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[what] for what in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert {policy[what] for what in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("name", ["nothing.js", "pages.py", "..%2Fpages.py", "__init__.py", "index", ""])
def test_nothing_else_is_sent(client, name):
    assert client.get(f"/page/{name}").status_code == 404


def test_nothing_of_the_page_comes_from_elsewhere_or_is_markup_made_of_data():
    assert len(pages.files()) >= 7
    for name, content in pages.files().items():
        text = content.decode()
        assert set(re.findall(r"""["'`(]((?:https?:)?//[^\s"'`)]+)""", text)) <= NO_ADDRESSES, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), (
            name
        )
        assert not re.search(r"""(?:src|href|fetch|ask)\s*[=(]\s*[`"']/""", text), f"{name}: relative addresses only"
        assert not re.search(r"""\s(?:style|on[a-z]+)=["']""", text), name


def test_every_part_that_is_named_is_there():
    for name, content in pages.files().items():
        named = re.findall(r"""from "\./([^"]+)"|(?:src|href)="page/([^"]+)\"""", content.decode())
        assert {one or other for one, other in named} <= set(pages.files()), name


@pytest.mark.parametrize("path", ["/two", "/two/"])
def test_it_can_lie_below_a_prefix(path):
    outer = FastAPI()
    outer.mount("/two", http.http_api())
    with TestClient(outer) as client:
        answer = client.get(path)
        assert answer.text == pages.files()["index.html"].decode()
        assert str(answer.url).endswith("/two/"), "relative addresses count from here"
        for name in ASSETS:
            assert client.get(f"/two/{name}").status_code == 200


@pytest.mark.parametrize(("sent", "identity"), [("a", "a"), ("a%2Fb%3F%23.png", "a/b?#.png"), ("a%C3%BC", "aü")])
def test_a_picture(client, sent, identity):
    answer = thumbnail(client, sent)
    assert (answer.status_code, answer.content) == (200, b"\xff\xd8" + identity.encode())
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Cache-Control"] == "private, max-age=3600"


def test_who_gets_no_picture_is_told_why(client):
    for key in ("", "x" * 20):
        assert thumbnail(client, "a", key).status_code == 401
    none = thumbnail(client, "b")
    assert (none.status_code, none.json()["error"]["asked"]) == (404, "a thumbnail of 'b'")
    assert thumbnail(client, "later").headers["Retry-After"] == "1"
    http.door.opened.thumbnails = None
    assert thumbnail(client, "a").json()["error"]["found"] == "this endpoint has none"


def test_the_description_of_the_api_has_pictures_and_no_page(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert "/v1/thumbnails/{identity}" in paths
    assert not {"/", "/page/{name}"} & set(paths)
