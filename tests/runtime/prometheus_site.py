"""A real Prometheus with what it scrapes, on loopback: our configuration and rules, other ports and shorter times."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ray
import yaml

from tests.dashboards.reading import CONFIG, RULES
from tests.ports import free_port
from tests.runtime.conftest import end, wait_for
from xhash_ray.dashboards.prometheus import Prometheus

EXPORTER, PUSHGATEWAY, NODE, ITSELF = 9109, 9091, 9100, 9090
SCRAPE_S = 2
RAY_SCRAPE_S = 10  # its agents report so often, and what a long session's have to say (5 MB) takes seconds
UNITS_S = {"s": 1, "m": 60, "h": 3600}
FASTER = 60  # alerts wait for seconds where they wait for minutes
SHORTEST_WINDOW_S = 30  # a rate needs two reports, and Ray has one every ten seconds


class Site(NamedTuple):
    """What runs.

    Attributes:
        prometheus: To ask.
        ports: By the port that our configuration names.
        textfiles: Folder of node_exporter's textfile collector.
    """

    prometheus: Prometheus
    ports: dict[int, int]
    textfiles: Path

    def until(self, expression: str, wanted: Callable[[list[Any]], bool], timeout_s: float) -> list[Any]:
        """Asks again and again until the answer is as wanted, and returns the last one."""
        deadline_s = time.monotonic() + timeout_s
        found = self.prometheus.value(expression)
        while not wanted(found) and time.monotonic() < deadline_s:
            time.sleep(0.5)
            found = self.prometheus.value(expression)
        return found


def configuration(ports: dict[int, int], discovery: str) -> str:
    """deploy/prometheus/prometheus.yml for these ports and this service discovery file of Ray's."""
    text = CONFIG.read_text().replace("/tmp/ray/prom_metrics_service_discovery.json", discovery)
    for known, taken in ports.items():
        text = text.replace(f"localhost:{known}", f"127.0.0.1:{taken}")
    made = yaml.safe_load(text)
    del made["alerting"]
    made["global"] |= {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s", "evaluation_interval": "1s"}
    for job in made["scrape_configs"]:
        job.pop("scrape_interval", None)
        if job["job_name"] == "ray":
            job |= {"scrape_interval": f"{RAY_SCRAPE_S}s", "scrape_timeout": f"{RAY_SCRAPE_S}s"}
    return yaml.safe_dump(made)


def faster_rules(text: str, factor: int = FASTER) -> str:
    """Rules whose alerts wait a `factor` less; windows and limits shrink, too, but not below what they need."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found[2]) * UNITS_S[found[3]]
        least = 1 if found[1].startswith("for") else SHORTEST_WINDOW_S
        return f"{found[1]}{max(least, seconds // factor)}s"

    text = re.sub(r"(for: |\[|offset )(\d+)([smh])", shorter, text)
    return text.replace("> 1800", "> 60").replace("7 * 86400", str(7 * 86400 // (factor * 200)))


def discovery_file() -> str:
    """Where the head of the connected cluster writes its nodes' addresses."""
    context = ray.get_runtime_context()
    return os.path.join(context.get_temp_dir(), context.get_session_name(), "prom_metrics_service_discovery.json")


@contextlib.contextmanager
def running(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own."""
    quiet, variables = subprocess.DEVNULL, {**os.environ, **environment}
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True, env=variables)
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process)


@contextlib.contextmanager
def exporter(port: int, index: str, *artefacts: str) -> Iterator[subprocess.Popen[bytes]]:
    """`xhash exporter`, looking every second."""
    asked = ("--index", index, "--port", str(port), "--every-s", "1")
    also = ("--artefacts", ",".join(artefacts)) if artefacts else ()
    with running(sys.executable, "-m", "xhash_ray.cli", "exporter", *asked, *also) as process:
        wait_for(f"http://127.0.0.1:{port}/metrics", lambda: process.poll() is None)
        yield process


@contextlib.contextmanager
def site(folder: Path, program: Callable[[str], str], rules: Callable[[str], str] = str) -> Iterator[Site]:
    """Prometheus, Pushgateway and node_exporter; the exporter's port is left to whoever wants one.

    Args:
        folder: For their files.
        program: Finds a program, or skips.
        rules: What becomes of the rules.
    """
    ports = {port: free_port() for port in (EXPORTER, PUSHGATEWAY, NODE, ITSELF)}
    textfiles = folder / "textfiles"
    textfiles.mkdir()
    (folder / "rules.yaml").write_text(rules(RULES.read_text()))
    (folder / "prometheus.yml").write_text(configuration(ports, discovery_file()))
    listen = {port: f"--web.listen-address=127.0.0.1:{taken}" for port, taken in ports.items()}
    with contextlib.ExitStack() as stack:
        kept = (
            f"--persistence.file={folder}/pushed"  # Debian's remembers what earlier ones were told, unless told where
        )
        stack.enter_context(running(program("prometheus-pushgateway"), listen[PUSHGATEWAY], kept))
        node = (f"--collector.textfile.directory={textfiles}", "--collector.disable-defaults", "--collector.textfile")
        stack.enter_context(running(program("prometheus-node-exporter"), listen[NODE], *node))
        stored = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb")
        process = stack.enter_context(running(program("prometheus"), listen[ITSELF], *stored))
        url = f"http://127.0.0.1:{ports[ITSELF]}"
        wait_for(f"{url}/-/ready", lambda: process.poll() is None)
        yield Site(Prometheus(url), ports, textfiles)
