"""A cluster of three nodes on one machine, an endpoint on it, and somebody who kills its parts while it is asked.

    python -m tests.runtime.faults FOLDER

A process of its own, since it is Ray's head itself. Prints one JSON object: what every phase saw. Every answer is
compared with a plain scan of the generation that it names.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import serve
from ray.cluster_utils import Cluster

from tests.ports import free_port
from xhash_ray import methods
from xhash_ray.client import Answer, Client, Retry
from xhash_ray.core.hamming import search_reference
from xhash_ray.errors import XhashError
from xhash_ray.index import generations
from xhash_ray.index.shard import load_shards
from xhash_ray.methods.artefacts import facts_of, to_method, weights_of
from xhash_ray.methods.base import Shape
from xhash_ray.runtime.serve_benchmark import served_index
from xhash_ray.runtime.serving import ServeArgs, build_app
from xhash_ray.serving.listening import Ports
from xhash_ray.storage.artefact import read_artefact, write_artefact

CODES, SHARDS, K = 20_000, 4, 20
VECTOR = [0.3, -1.0, 0.2, 0.8, -0.1, 0.5, -0.7, 0.4]
ADMIN = "admin-key-of-tests"
RECOVERY_S = 90.0


class Expected:
    """What a plain scan answers to VECTOR, by generation."""

    def __init__(self, uri: str) -> None:
        self.uri, self.known = uri, dict[int, list[tuple[int, str]]]()

    def of(self, number: int) -> list[tuple[int, str]]:
        """(distance, id) of the first K."""
        if number not in self.known:
            made = generations.read(self.uri, number)
            method = to_method(read_artefact(made.model_uri))
            code = method.encode("image", torch.tensor([VECTOR]))
            everything = load_shards(made, range(made.shards))
            found = []
            for segment in everything.segments:
                hits = search_reference(segment.codes["text"], code, K, mask=segment.live)
                names = segment.ids.of(hits.rows[0])
                found += list(zip(hits.distances[0].tolist(), names, strict=True))
            self.known[number] = sorted(found)[:K]
        return self.known[number]


class Asker:
    """Searches without a pause until it is stopped."""

    def __init__(self, url: str, expected: Expected) -> None:
        self.url, self.expected, self.stopped = url, expected, threading.Event()
        self.seen: list[tuple[float, Answer | str]] = []
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        """One search after the other; errors are written down."""
        with Client(self.url, key=ADMIN, retry=Retry(attempts=1)) as client:
            while not self.stopped.is_set():
                try:
                    answer: Answer | str = client.search(vector=VECTOR, source="image", k=K, timeout_s=1.0)
                except XhashError as error:
                    answer = str(error)
                    time.sleep(0.05)
                self.seen.append((time.monotonic(), answer))

    def since(self, started_s: float) -> list[tuple[float, Answer | str]]:
        """What was seen from a moment on."""
        return [(at_s, answer) for at_s, answer in self.seen if at_s >= started_s]


def phase(asker: Asker, kill: Callable[[], object], steady_s: float = 3.0) -> dict[str, Any]:
    """Kills something, waits until answers have been complete for a while, and tells what was seen meanwhile."""
    started_s = time.monotonic()
    kill()
    bad_s = started_s
    while time.monotonic() - started_s < RECOVERY_S:
        time.sleep(0.2)
        bad = [at for at, answer in asker.since(started_s) if isinstance(answer, str) or not answer.complete]
        bad_s = max([started_s, *bad])
        good = [at for at, answer in asker.since(bad_s) if not isinstance(answer, str) and answer.complete]
        if good and good[-1] - max(bad_s, started_s) > steady_s:
            break
    seen = [answer for _, answer in asker.since(started_s)]
    answers = [answer for answer in seen if isinstance(answer, Answer)]
    return {
        "full_service_after_s": round(bad_s - started_s, 2),
        "recovered": bool(answers) and answers[-1].complete,
        "answers": len(answers),
        "incomplete": sum(not answer.complete for answer in answers),
        "errors": sorted({error for error in seen if isinstance(error, str)})[:5],
        "refused": sum(isinstance(error, str) for error in seen),
        "wrong": sum(not is_right(answer, asker.expected) for answer in answers),
        "generations": sorted({answer.generation for answer in answers}),
    }


def is_right(answer: Answer, expected: Expected) -> bool:
    """Whether an answer is that of a plain scan, as far as it claims to be."""
    full = expected.of(answer.generation)
    found = [(hit.distance, hit.id) for hit in answer.hits]
    sure = K if answer.complete else answer.certain
    return found[:sure] == full[:sure] and (answer.complete or bool(answer.missing_shards))


def kill(part: str) -> None:
    """Kills one replica of a deployment, or Serve's controller, as a crash does."""
    names = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]
    mine = next(name for name in names if part in name)
    ray.kill(ray.get_actor(mine, namespace="serve"), no_restart="CONTROLLER" not in part)


def another_model(uri: str) -> int:
    """Commits a generation of the same codes whose model is another."""
    base = generations.current(uri)
    torch.manual_seed(9)
    method = methods.create("jdsh", Shape(base.bits, 8, 8), {"hidden": 8})
    made = write_artefact(
        f"{uri}/models/another", {**facts_of("jdsh", method), "encoder": None}, weights_of(method), ""
    )
    facts = {**base.facts, "model": "models/another", "model_fingerprint": made.fingerprint}
    return generations.commit(uri, base, "build", base.segments, base.tombstones, base.rows, facts).number


def main(folder: Path) -> dict[str, Any]:
    """All phases."""
    index, keys = folder / "index", folder / "keys"
    keys.write_text(f"admin {ADMIN}\n")
    codes = np.random.default_rng(4).integers(0, 256, (CODES, 8), dtype=np.uint8)
    served_index(index, codes, SHARDS)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    port = free_port()
    serve.start(http_options={"port": free_port()})
    ports = Ports(http=port)
    copies = {"processes": 2, "replicas": 2, "encoders": 2, "encoder_threads": 1}
    args = ServeArgs(index=str(index), keys=str(keys), ports=ports, **copies)
    serve.run(build_app(args), name="xhash", route_prefix="/")
    asker = Asker(f"http://127.0.0.1:{port}", Expected(str(index)))
    client = Client(asker.url, key=ADMIN, timeout_s=60)
    other = another_model(str(index))
    added = [{"id": f"new-{n}", "image_code": "00" * 8, "text_code": "00" * 8} for n in range(20)]
    phases = {
        "another model": lambda: client.activate(other),
        "pairs added": lambda: client.add(added),
        "rolled back": lambda: client.rollback(1),
        "replica": lambda: kill("shards-1"),
        "node": lambda: cluster.remove_node(nodes[0], allow_graceful=False),
        "encoder": lambda: kill("EncoderDeployment"),
        "controller": lambda: kill("SERVE_CONTROLLER_ACTOR"),
        "gateway": lambda: kill("GatewayDeployment"),
    }
    found = {name: phase(asker, work) for name, work in phases.items()}
    asker.stopped.set()
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
