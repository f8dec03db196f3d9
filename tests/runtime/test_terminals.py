"""Commands that hold a terminal: they serve until they are interrupted, and take down what they put up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from ray import serve

from tests.ports import free_port
from tests.waiting import wait_until
from xhash_ray.client import Client

PROGRAMS = Path(sys.executable).parent


def answers(url: str) -> bool:
    """Whether an endpoint is ready."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def served(words: Sequence[str], url: str, log: Path, said: str) -> int:
    """Starts a command, asks what it serves, interrupts it once it has said something; its exit code."""
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        wait_until(
            lambda: answers(url), lambda: log.read_text() if process.poll() is not None else "", patience_s=300.0
        )
        with Client(url) as client:
            answer = client.search(code="00" * 4, target="text", k=3)
        assert len(answer.hits) == 3
        assert answer.complete
        wait_until(lambda: said in log.read_text())
        process.send_signal(signal.SIGINT)
        return process.wait(120)
    finally:
        process.kill()


def test_xhash_serve_ends_with_ctrl_c(run, tmp_path):
    serve.shutdown()
    port, log = free_port(), tmp_path / "log"
    words = [str(PROGRAMS / "xhash"), "serve", "--index", run.index, "--port", str(port)]
    assert served(words, f"http://127.0.0.1:{port}", log, "Ctrl-C ends it") == 0
    assert not serve.status().applications


def test_serve_run_takes_our_builder_with_arguments(run, own_serve, tmp_path):
    words = [str(PROGRAMS / "serve"), "run", "xhash_ray.runtime.serving:build_app", f"index={run.index}"]
    url = f"http://127.0.0.1:{own_serve}"
    served(words, url, tmp_path / "log", "Running import path")
    assert not answers(url), "it takes Serve along"
