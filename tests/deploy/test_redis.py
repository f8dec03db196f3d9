"""Redis as the manifest starts it: with a password that no argument shows, and a file for what it is told."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest


@pytest.fixture
def started(one, program, tmp_path):
    """A Redis that runs the manifest's command, in a folder and on a port of this test; (process, port)."""
    program("redis-server")
    (container,) = one("base", "StatefulSet")["spec"]["template"]["spec"]["containers"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (script,) = container["args"]
    assert "dir /data\n" in script
    here = script.replace("dir /data\n", f"dir {tmp_path}\nport {port}\nbind 127.0.0.1\n")
    environment = {**os.environ, container["env"][0]["name"]: "a secret word"}
    process = subprocess.Popen([*container["command"], here], env=environment, stdout=subprocess.DEVNULL)
    yield process, port
    process.terminate()
    process.wait(600)


def ask(port, *words, **variables):
    """What redis-cli answers."""
    environment = {name: value for name, value in os.environ.items() if name != "REDISCLI_AUTH"} | variables
    command = ["redis-cli", "-p", str(port), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600).stdout.strip()


def test_it_asks_for_the_password_and_keeps_what_it_is_told(started, one, tmp_path):
    process, port = started
    word = {"REDISCLI_AUTH": "a secret word"}
    deadline_s = time.monotonic() + 600
    while ask(port, "ping", **word) != "PONG":
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert "NOAUTH" in ask(port, "ping")
    assert ask(port, "set", "a", "1", **word) == "OK"
    assert list(tmp_path.glob("appendonlydir/*.aof"))
    shown = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()  # the shell has become Redis
    assert shown.startswith("redis-server")
    assert "secret" not in shown
