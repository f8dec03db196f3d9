"""The page in a real browser: an endpoint over drawn shapes, and Chromium that tells on itself."""

from __future__ import annotations

import asyncio
import io
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.index.samples import model  # noqa: F401 (fixture)
from tests.serving.test_http import Backend, query
from xhash_ray.errors import BadInput
from xhash_ray.index import generations
from xhash_ray.index.build import assemble, partition
from xhash_ray.index.segments import segment_name, write_segment
from xhash_ray.serving import http
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.keys import Keys
from xhash_ray.serving.router import Router
from xhash_ray.serving.thumbnails import Thumbnails

GROUPS = 3
PATIENCE_MS = 120_000  # of a machine that does other things, too
COLOURS = {
    "red": "#c8442f",
    "orange": "#e39a3b",
    "yellow": "#e8d25a",
    "green": "#5d9c59",
    "blue": "#3f6fb0",
    "violet": "#7d5a9e",
}
SHAPES = ("circle", "ring", "square", "diamond", "triangle", "bar")
NAMES = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
EXPECTED = ("Failed to load resource: the server responded", "Failed to load resource: net::ERR_FAILED")
EVIL = '<img src=x onerror="document.title=1">'


def code_of(name: str) -> bytes:
    """Two bytes: as many ones as the colour, then the shape, is far from the first; near ones differ in few bits."""
    colour, shape = name.split()
    steps = (list(COLOURS).index(colour), SHAPES.index(shape))
    return bytes((1 << step) - 1 for step in steps)


def distance(one: str, other: str) -> int:
    """Differing bits of two names' codes."""
    return sum((a ^ b).bit_count() for a, b in zip(code_of(one), code_of(other), strict=True))


def nearest(name: str, k: int) -> list[str]:
    """What a search for a name has to find."""
    return sorted(NAMES, key=lambda other: (distance(name, other), id_of(other)))[:k]


def id_of(name: str) -> str:
    """Ids hold what addresses and paths mind."""
    return "shapes/" + name.replace(" ", "?#&") + ".png"


def picture(name: str, size: int = 200) -> bytes:
    """A PNG of a shape."""
    colour, shape = name.split()
    image = Image.new("RGB", (size, size), "#f3efe6")
    draw, (low, high), middle = ImageDraw.Draw(image), (size // 6, size - size // 6), size // 2
    fill = COLOURS[colour]
    if shape in ("circle", "ring"):
        draw.ellipse((low, low, high, high), fill=fill if shape == "circle" else None, outline=fill, width=size // 9)
    else:
        corners = {
            "square": [(low, low), (high, low), (high, high), (low, high)],
            "diamond": [(middle, low), (high, middle), (middle, high), (low, middle)],
            "triangle": [(middle, low), (high, high), (low, high)],
            "bar": [(low, middle - 20), (high, middle - 20), (high, middle + 20), (low, middle + 20)],
        }
        draw.polygon(corners[shape], fill=fill)
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


class ShapeEncoder:
    """Texts name a shape, and are held up where a test wants it; images are recognised."""

    def __init__(self) -> None:
        self.known = {picture(name): name for name in NAMES}
        self.held = dict[str, threading.Event]()  # by first word

    async def prepare(self, model_uri, fingerprint):
        pass

    async def encode(self, model_uri, fingerprint, kind, content, modality, deadline_s):
        held = self.held.get(str(content).split()[0]) if kind == "text" else None
        while held is not None and not held.is_set():
            await asyncio.sleep(0.01)
        name = str(content).removeprefix("slow ") if kind == "text" else self.known.get(content)
        if name not in NAMES:
            raise BadInput(
                f"a {kind} query", f"nothing is known of {EVIL if kind == 'text' else 'it'}", "Ask for a shape"
            )
        return query(code_of(name))


def make_index(uri: str, known: dict) -> str:
    """An index of all shapes."""
    codes = pa.array([code_of(name) for name in NAMES], pa.binary(2))
    rows = pa.table(
        {
            "id": [id_of(name) for name in NAMES],
            "image_code": codes,
            "text_code": codes,
            "caption": [f"A {name} {EVIL}" if name == "blue bar" else f"A {name} on paper" for name in NAMES],
            "colour": [name.split()[0] for name in NAMES],
            "corners": pa.array([[0, 0, 4, 4, 3, 4][SHAPES.index(name.split()[1])] for name in NAMES], pa.int32()),
        }
    )
    parts = [assemble([part]) for part in partition(rows, GROUPS)]
    segments = [write_segment(uri, segment_name("0a", n, GROUPS), n, 1, part) for n, part in enumerate(parts)]
    generations.commit(uri, None, "build", segments, [], len(NAMES), known)
    return uri


def make_corpus(folder: Path) -> str:
    """The shapes as a corpus; of one the picture is broken."""
    folder.mkdir()
    contents = [b"broken" if name == "green ring" else picture(name) for name in NAMES]
    table = pa.table({"id": [id_of(name) for name in NAMES], "image": contents, "text": NAMES})
    pq.write_table(table, folder / "a.parquet", row_group_size=10)
    return str(folder)


@pytest.fixture(scope="module")
def site(tmp_path_factory, model) -> Iterator[SimpleNamespace]:  # noqa: F811
    """The endpoint on a port of its own, at / and, as behind a prefix, at /two/."""
    folder = tmp_path_factory.mktemp("site")
    uri, copy = str(folder / "index"), f"models/{model.fingerprint[:12]}"
    shutil.copytree(model.uri, f"{uri}/{copy}")
    known = {"bits": 16, "method": "jdsh", "model_fingerprint": model.fingerprint, "model": copy, "shards": GROUPS}
    make_index(uri, {**known, "encoder": {"model": "shapes"}})
    backends, encoder = [Backend(uri, part) for part in range(GROUPS)], ShapeEncoder()
    thumbnails = Thumbnails(make_corpus(folder / "corpus"), patience_s=120.0)
    gateway = Gateway(Router(uri, backends), encoder, Keys(None), thumbnails)
    with listening(gateway) as url:
        yield SimpleNamespace(
            url=url, gateway=gateway, backends=backends, encoder=encoder, thumbnails=thumbnails, folder=folder
        )
    http.door.opened = None


class listening:  # noqa: N801 (reads as a verb)
    """Serves a gateway while it lasts; gives its address."""

    def __init__(self, gateway: Gateway) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        app = Starlette(routes=[Mount("/two", http.http_api()), Mount("/", http.http_api())])
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve(gateway)))

    async def serve(self, gateway: Gateway) -> None:
        """Until it is told to stop."""
        await gateway.activate(None)
        http.door.opened = gateway
        await self.server.serve(sockets=[self.socket])

    def __enter__(self) -> str:
        self.thread.start()
        while not self.server.started and self.thread.is_alive():
            time.sleep(0.01)
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}/"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, Playwright | Browser]]:
    """The browser of a module, started by its first test."""
    held: dict[str, Playwright | Browser] = {}
    yield held
    if held:
        held["browser"].close()
        held["playwright"].stop()


@pytest.fixture
def browser(program, started) -> Browser:
    """Chromium; skips, saying so, where there is none."""
    executable = program("chromium")
    if not started:
        expect.set_options(timeout=PATIENCE_MS)
        started["playwright"] = sync_playwright().start()
        given = {"executable_path": executable, "args": ["--no-sandbox"], "timeout": PATIENCE_MS}
        started["browser"] = started["playwright"].chromium.launch(**given)
    return started["browser"]


@pytest.fixture
def page(browser, site, network_at_rest) -> Iterator[Page]:
    """A fresh tab at the page, which has to end without an error of its scripts and without having asked elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, reduced_motion="reduce")
    page, wrong = context.new_page(), []
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    page.on("console", lambda said: wrong.append(said.text) if is_wrong(said) else None)
    page.on("request", lambda asked: wrong.append(asked.url) if is_elsewhere(asked.url, site.url) else None)
    page.goto(site.url)
    yield page
    context.close()
    assert wrong == []


def is_wrong(said) -> bool:
    """Whether the browser complains; that a refusal came, which tests ask for, is no complaint."""
    return said.type in ("error", "warning") and not said.text.startswith(EXPECTED)


def is_elsewhere(url: str, home: str) -> bool:
    """Whether an address is of another host."""
    return urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != urlsplit(home).netloc
