"""The README's and the operator's guide's commands, run one after the other as they stand there, on object storage.

What is put in place of what they name: a bucket of the S3 server on loopback, a small CLIP, few epochs, free ports.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from tests.documents.reading import ROOT, Command, commands
from tests.documents.runners import DOCUMENTED, runner_of
from tests.ports import free_port
from xhash_ray.cli import main, parser, values_of
from xhash_ray.client import Client
from xhash_ray.config import build
from xhash_ray.index import generations
from xhash_ray.options import VERBS
from xhash_ray.storage import tables, writing
from xhash_ray.storage.codes import open_codes

README, OPERATING = ROOT / "README.md", ROOT / "deploy" / "OPERATING.md"
READ, ADMIN = "a-key-that-only-reads", "a-key-that-changes-things"
SMALL = "--set settings.landmarks=32"
OWN = ("xhash extract", "xhash train   --features s3", "xhash encode  ", "xhash index")


class Guide:
    """Runs a document's commands in a place of their own.

    Args:
        root: In the bucket.
        weights: Of the small CLIP.
        http, grpc: Ports.
    """

    def __init__(self, root: str, weights: str, http: int, grpc: int) -> None:
        self.root, self.http = root, http
        self.puts = (
            ("s3://bucket", root),
            ("s3://backups", f"{root}-backups"),
            ("--model ViT-B-32 --pretrained laion2b_s34b_b79k", f"--model xhash-tiny --pretrained {weights}"),
            ("--workers 4", f"--workers 0 {SMALL}"),
            ("--bits 64\n", f"--bits 64 --workers 0 {SMALL}\n"),
            ("--port 8000", f"--port {http}"),
            ("--grpc-port 9000", f"--grpc-port {grpc}"),
            ("localhost:8000", f"127.0.0.1:{http}"),
            ("Bearer KEY", f"Bearer {READ}"),
            ("year >= 2010 and not exists(discontinued)", "exists(caption) and not exists(background)"),
        )

    def put(self, text: str) -> str:
        """A command with what is there in place of what it names."""
        text += "\n"
        for old, new in self.puts:
            text = text.replace(old, new)
        return text.strip()

    def run(self, command: Command) -> None:
        """Runs one command; it must succeed."""
        text = self.put(command.text)
        if text.startswith("curl "):
            done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, f"{command.where}: {done.stderr}"
            answer = json.loads(done.stdout)
            assert "hits" in answer or "generation" in answer, f"{command.where}: {done.stdout}"
            return
        words = shlex.split(text)
        url = ["--url", f"http://127.0.0.1:{self.http}"] if words[1] == "query" else []
        assert main([*words[1:], *url]) == 0, f"{command.where}: {text}"


def shown(path: Path) -> list[Command]:
    """A document's commands that are run here."""
    return [command for command in commands(path) if runner_of(command.text).test == DOCUMENTED]


def more_codes(root: str) -> None:
    """Codes of further pairs, and newer ones of some that are there, beside those that the guide has made."""
    codes = open_codes(f"{root}/codes")
    rows = tables.read_table(codes.tables).slice(0, 20)
    others = rows.set_column(0, "id", pa.array([f"more-{number}" for number in range(len(rows))]))
    for name, table in (("more-codes", others), ("newer-codes", rows)):
        written = [tables.write_table(f"{root}/{name}/part.parquet", table)]
        writing.commit(f"{root}/{name}", written, {"model_fingerprint": codes.fingerprint})


@pytest.fixture
def workshop(run, s3_endpoint, tmp_path, monkeypatch) -> Guide:
    """A folder with the local files that the documents name, and a bucket with the corpus."""
    root = "s3://xhash/documents/main"
    store = fsspec.filesystem("s3")
    store.put(run.corpus, f"{root}/pairs", recursive=True)
    picture = tables.read_table(tables.open_tables(run.corpus, "a corpus"))["image"][0].as_py()
    (tmp_path / "shoe.jpg").write_bytes(picture)
    (tmp_path / "keys.txt").write_text(f"read {READ}\nadmin {ADMIN}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XHASH_KEY", READ)
    monkeypatch.setenv("XHASH_ADMIN_KEY", ADMIN)
    monkeypatch.setenv("XHASH_CACHE", str(tmp_path / "cache"))
    return Guide(root, run.weights, free_port(), free_port())


def test_the_guides_commands_do_what_the_guide_says(workshop, tmp_path):
    from ray import serve

    from xhash_ray.runtime.endpoint import start, stop

    guide, root = workshop, workshop.root
    readme, operating = shown(README), shown(OPERATING)
    made = [command for command in readme if command.text.startswith(("xhash extract --corpus", "xhash encode  "))]
    assert len(made) == 2, "the README makes features and codes"
    for command in readme:
        if " serve " in command.text or not command.text.startswith(OWN):
            continue
        if command.text.startswith("xhash index add"):
            more_codes(root)
            Path("gone.txt").write_text("more-3\n")
        guide.run(command)
    assert generations.numbers(f"{root}/index")[-1] == 6  # build and five changes, each one commit

    later = Guide(f"{root}-later", "", guide.http, 0)
    store = fsspec.filesystem("s3")
    for name in ("features", "codes", "model", "more-codes"):
        store.copy(f"{root}/{name}", f"{later.root}/{name}", recursive=True)
    first = f"xhash index build --codes {later.root}/codes --model {later.root}/model --out {later.root}/index"
    assert main([*shlex.split(first)[1:], "--shards", "8"]) == 0

    (serving,) = [command for command in readme if "--keys keys.txt" in command.text]
    parsed = parser().parse_args(
        shlex.split(guide.put(serving.text).replace(f"{root}/index", f"{later.root}/index"))[1:]
    )
    serve.shutdown()  # one that runs would keep its ports
    start(build(VERBS["serve"], values_of(parsed), "xhash serve"))
    try:
        for command in readme:
            if command.text.startswith(("curl", "xhash query")):
                guide.run(command)
        for command in operating:
            later.run(command)
        with Client(f"http://127.0.0.1:{guide.http}", key=READ) as client:
            served = client.index()
        now = generations.current(f"{later.root}/index")
        assert (served["generation"], served["model_fingerprint"]) == (now.number, now.facts["model_fingerprint"])
        assert now.facts["change"] in ("build", "compact")
    finally:
        stop()
    assert generations.current(f"{later.root}/restored").rows == now.rows
