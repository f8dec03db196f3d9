"""A cluster of three nodes on one machine, an extraction on it, and somebody who kills its driver, workers and raylets.

    python -m tests.runtime.pipeline_faults FOLDER KILLS SEED

A process of its own, since it is Ray's head itself. Prints one JSON object: who was killed, how long it took, and
whether the features equal those of an undisturbed run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from ray.cluster_utils import Cluster

from xhash_ray.benchmarks.extraction import jpeg_corpus, random_weights
from xhash_ray.options.bench import BenchExtract
from xhash_ray.storage import tables

PAIRS, ROWS_PER_UNIT, NODE_CPUS = 20_000, 64, 4
PATIENCE_S = 900.0
UNITS_BETWEEN, LONG_S = 12, 30.0  # most units between two kills; a kill where none come


def command(folder: Path, out: str, corpus: str, model: str, weights: str) -> list[str]:
    """The extraction, as anybody would start it: the same words every time."""
    asked = ["extract", "--corpus", corpus, "--out", str(folder / out), "--model", model, "--pretrained", weights]
    return [
        sys.executable,
        "-m",
        "xhash_ray.cli",
        *asked,
        "--rows-per-unit",
        str(ROWS_PER_UNIT),
        "--actors",
        "2",
        "--json",
    ]


def start(words: list[str], log: Path, address: str) -> subprocess.Popen[bytes]:
    """A driver in a group of its own."""
    environment = {**os.environ, "RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"}
    with log.open("ab") as file:
        return subprocess.Popen(words, env=environment, stdout=file, stderr=file, start_new_session=True)


def table_of(uri: Path) -> pa.Table:
    """All features, sorted by id."""
    return tables.read_table(tables.open_tables(str(uri), "features")).sort_by("id")


class Killer:
    """Kills one thing after another, and starts again what does not come back by itself."""

    def __init__(self, cluster: Cluster, words: list[str], log: Path, seed: int) -> None:
        self.cluster, self.words, self.log, self.random = cluster, words, log, random.Random(seed)
        self.nodes = [self.node() for _ in range(2)]
        self.driver = start(words, log, cluster.address)
        self.killed = {"driver": 0, "worker": 0, "raylet": 0}
        self.before = 0

    def node(self) -> Any:
        """One more node."""
        return self.cluster.add_node(num_cpus=NODE_CPUS, object_store_memory=400 * 2**20)

    def kill(self) -> None:
        """One random thing."""
        what = self.random.choices(("driver", "worker", "raylet"), (1, 2, 1))[0]
        if getattr(self, f"kill_{what}")():
            self.killed[what] += 1

    def kill_driver(self) -> bool:
        """The command itself, once it has got further than the one before; it is given again."""
        if self.committed() == self.before:
            return False
        self.before = self.committed()
        os.killpg(self.driver.pid, signal.SIGKILL)
        self.driver.wait()
        self.driver = start(self.words, self.log, self.cluster.address)
        return True

    def wait(self) -> None:
        """Until a few more units are done, or it takes long; then a moment more, so that no moment is safe."""
        enough = self.committed() + self.random.randint(1, UNITS_BETWEEN)
        until_s = time.monotonic() + LONG_S
        while self.committed() < enough and time.monotonic() < until_s and not self.is_over():
            time.sleep(0.1)
        time.sleep(self.random.uniform(0.0, 1.0))

    def committed(self) -> int:
        """Units that are done."""
        return len(list(self.log.parent.glob("killed/_log/*/units/*.json")))

    def kill_worker(self) -> bool:
        """A process that does work: of a task, or an actor that holds the model."""
        victims = workers()
        if not victims:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.random.choice(victims), signal.SIGKILL)
            return True
        return False

    def kill_raylet(self) -> bool:
        """A whole node, without a word; another one comes."""
        node = self.nodes.pop(self.random.randrange(len(self.nodes)))
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(self.node())
        return True

    def is_over(self) -> bool:
        """Whether the driver has ended by itself."""
        return self.driver.poll() is not None


def workers() -> list[int]:
    """Processes of Ray Data's tasks and actors at work, by the names that Ray gives them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (folder / "cmdline").read_bytes().decode(errors="replace")
            if name.startswith("ray::Map"):
                found.append(int(folder.name))
    return found


def main(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """The whole play."""
    options = BenchExtract(pairs=PAIRS, model="micro")
    corpus, (model, weights) = jpeg_corpus(options, str(folder)), random_weights(options, str(folder))
    head = {"num_cpus": NODE_CPUS, "object_store_memory": 400 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        began_s = time.monotonic()
        calm = start(command(folder, "calm", corpus, model, weights), folder / "calm.log", cluster.address)
        calm.wait(PATIENCE_S)
        calm_s = time.monotonic() - began_s
        killer = Killer(cluster, command(folder, "killed", corpus, model, weights), folder / "killed.log", seed)
        began_s = time.monotonic()
        early = False
        while sum(killer.killed.values()) < kills and not early:
            killer.wait()
            early = killer.is_over()
            if not early:
                killer.kill()
        code = killer.driver.wait(PATIENCE_S)
        last = (folder / "killed.log").read_text().strip().splitlines()[-1]
        return {
            "killed": killer.killed,
            "ended_before_all_kills": early,
            "exit_code": code,
            "calm_s": round(calm_s, 1),
            "killed_s": round(time.monotonic() - began_s, 1),
            "result": json.loads(last) if code == 0 else last,
            "equal": code == 0 and table_of(folder / "calm").equals(table_of(folder / "killed")),
        }
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
