"""Where a drill takes place: cluster, store, index and endpoint, with all that a fault needs to be done and mended."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xhash_ray.client import Client, Retry
from xhash_ray.drilling.ledger import Ledger
from xhash_ray.drilling.oracle import Oracle
from xhash_ray.drilling.pairs import draw
from xhash_ray.drilling.questions import Question, draw_questions
from xhash_ray.drilling.scenarios import FAKETIME, NETWORK, REDIS, STORE
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.options import Drill
from xhash_ray.progress import Progress
from xhash_ray.runtime.drill import clock as drill_clock
from xhash_ray.runtime.drill import store as drill_store
from xhash_ray.runtime.drill.index import DrillIndex, draw_vectors, environment_of_store
from xhash_ray.runtime.drill.serve import PROCESSES, Deployment, LocalServe, serve_config
from xhash_ray.runtime.drill.store import Gate
from xhash_ray.runtime.local import network as local_network
from xhash_ray.runtime.local.cluster import LocalCluster
from xhash_ray.runtime.local.plan import HEAD

APPLICATION, BUCKET = "xhash", "xhash-drill"
QUESTIONS, VECTORS, KEPT = 400, 60, 50
READY_S, CHANGING_S = 240.0, 120.0
CPUS = 8
PROXIES = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}  # 1, as `xhash` sets it, means no proxies


@dataclass
class Site:
    """What a drill has.

    Attributes:
        urls: Of the endpoint's entrances.
        key: Of its admin.
        oracle: That knows all generations.
        ledger: Of the load.
        index: That is served.
        questions: That are asked.
        serve: To look at and to kill.
        lacking: What scenarios may need and is not there, and why.
        cluster: Of the drill's own, None for one that was joined.
        gate: Before the store, None where there is none.
        setting: For the report: what the drill ran on.
    """

    urls: list[str]
    key: str
    oracle: Oracle
    ledger: Ledger
    index: DrillIndex
    questions: list[Question]
    serve: Deployment
    lacking: dict[str, str]
    cluster: LocalCluster | None = None
    gate: Gate | None = None
    setting: dict[str, str] = field(default_factory=dict)

    @property
    def local(self) -> LocalCluster:
        """The drill's own cluster; scenarios that need one are not run without."""
        assert self.cluster is not None
        return self.cluster

    @property
    def local_serve(self) -> LocalServe:
        """The endpoint on it."""
        assert isinstance(self.serve, LocalServe)
        return self.serve

    def urls_of_workers(self) -> dict[str, str]:
        """Entrances by the worker they lie on; none where all nodes share one."""
        workers = [name for name in self.local.nodes if name != HEAD]
        return dict(zip(workers, self.urls, strict=True)) if len(self.urls) == len(workers) else {}

    def activate(self, number: int, url: str | None = None) -> int:
        """Has a generation served; what is served then. Asked once."""
        with Client(url or self.urls[0], CHANGING_S, self.key, Retry(attempts=1)) as client:
            return int(client.activate(number)["generation"])


def lacking_here(options: Drill, namespaces: bool) -> dict[str, str]:
    """Of the things that scenarios need: what cannot be had on this machine, and why."""
    found = {REDIS: drill_store.no_redis(), STORE: drill_store.no_store(), FAKETIME: drill_clock.no_library()}
    if options.store:
        found[STORE] = "the store that was given is not the drill's to stop"
    if not namespaces:
        found |= {NETWORK: no_namespaces() or "asked for --network loopback"}
    return {name: why for name, why in found.items() if why}


def no_namespaces() -> str:
    """Why nodes cannot have network namespaces here, "" where they can."""
    try:
        local_network.check_possible()
    except BadInput as error:
        return f"no network namespaces: {error.found}"
    return ""


def use_namespaces(network: str) -> bool:
    """Whether nodes get network namespaces.

    Raises:
        BadInput: when they were asked for and cannot be had.
    """
    if network == "namespaces":
        local_network.check_possible()
    return network == "namespaces" or (network == "auto" and not no_namespaces())


@contextlib.contextmanager
def local_site(options: Drill, folder: Path, progress: Progress) -> Iterator[Site]:
    """A cluster of the drill's own, and everything on it; all of it ends with the block."""
    namespaces = use_namespaces(options.network)
    lacking = lacking_here(options, namespaces)
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(drill_store.address_for_nodes(namespaces))
        uri, gate, variables = stack.enter_context(index_place(options, folder, host, STORE not in lacking))
        redis_url = None if REDIS in lacking else stack.enter_context(drill_store.redis(host, folder))
        environment = {**variables, **PROXIES, "XHASH_CACHE": str(folder / "cache")}
        cluster = stack.enter_context(
            LocalCluster.start(
                str(folder / "cluster"), options.workers, CPUS, namespaces, redis_url, environment, head_cpus=0
            )
        )
        progress.say(f"{len(cluster.nodes)} nodes, {'namespaces' if namespaces else 'all on loopback'}; index in {uri}")
        key, oracle = secrets.token_hex(16), Oracle()
        index, questions = made_index(options, uri, oracle)
        serve, urls = deployed(cluster, uri, keys_file(folder, key), namespaces)
        setting = {
            "cluster": f"a head and {options.workers} workers as raylets of one machine, "
            + ("each in a network namespace" if namespaces else "all on 127.0.0.1"),
            "endpoint": f"{PROCESSES} groups of {options.shards} shards, encoder, gateway: two copies each",
            "index": f"{options.pairs:,} pairs of {options.bits} bits, {'S3 (moto)' if gate else uri}",
            "state of the head": "Redis" if redis_url else "lost with it",
        }
        yield Site(urls, key, oracle, Ledger(), index, questions, serve, lacking, cluster, gate, setting)


@contextlib.contextmanager
def index_place(
    options: Drill, folder: Path, host: str, own_store: bool
) -> Iterator[tuple[str, Gate | None, Mapping[str, str]]]:
    """Where the index lies, the gate before it, and what nodes must know to reach it."""
    name = f"drill-{secrets.token_hex(4)}"
    if options.store:
        kept = {each: value for each, value in os.environ.items() if each.startswith("AWS_")}
        try:
            yield f"{options.store.rstrip('/')}/{name}", None, kept
        finally:
            places.delete(places.normalise(options.store), [name])
        return
    if not own_store:
        yield str(folder / name), None, {}
        return
    with drill_store.store(host, folder) as gate:
        variables = environment_of_store(gate.url)
        before = {each: os.environ.get(each) for each in variables}
        os.environ.update(variables)
        try:
            drill_store.make_bucket(gate.url, BUCKET)
            yield f"s3://{BUCKET}/{name}", gate, variables
        finally:
            for each, value in before.items():
                os.environ.pop(each) if value is None else os.environ.__setitem__(each, value)


def made_index(options: Drill, uri: str, oracle: Oracle) -> tuple[DrillIndex, list[Question]]:
    """The first generation, and what will be asked."""
    vectors = draw_vectors(VECTORS * -(-options.bits // 64), options.seed)  # the more bits, the fewer beyond doubt
    index = DrillIndex(uri, options.bits, options.shards, oracle, vectors, options.seed)
    pairs = draw(options.pairs, options.bits, options.seed)
    index.create(pairs)
    questions = draw_questions(pairs, pairs.ids[:KEPT], index.vectors, QUESTIONS, options.seed + 1)
    return index, questions


def keys_file(folder: Path, key: str) -> str:
    """A file with the admin's key, which only its owner reads."""
    path = folder / "keys"
    path.touch(mode=0o600)
    path.write_text(f"admin {key}\n")
    return str(path)


def deployed(cluster: LocalCluster, uri: str, keys: str, namespaces: bool) -> tuple[LocalServe, list[str]]:
    """The endpoint, up and whole, and its entrances: workers' proxies, or the port that all share."""
    serve = LocalServe(cluster, APPLICATION)
    host = "0.0.0.0" if namespaces else "127.0.0.1"
    port = 8000 if namespaces else drill_store.free_port()
    args = {"index": uri, "processes": PROCESSES, "replicas": 2, "gateways": 2, "encoders": 2, "encoder_threads": 1}
    serve.deploy(serve_config(APPLICATION, {**args, "keys": keys}, host, port))
    if not wait(serve.is_whole, READY_S):
        raise XhashError("the drilled endpoint", f"not up after {READY_S:.0f} s: {serve.said()}", "See Serve's logs")
    workers = [node.address for node in cluster.nodes.values() if node.name != HEAD]
    return serve, [f"http://{address}:{port}" for address in (workers if namespaces else ["127.0.0.1"])]


def wait(condition: Callable[[], bool], timeout_s: float, pause_s: float = 0.5) -> bool:
    """Whether a condition came true in time."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        if condition():
            return True
        time.sleep(pause_s)
    return False
