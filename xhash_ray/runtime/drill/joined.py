"""A drill on somebody else's cluster: an application of its own beside theirs, with an index of its own.

Only its own replicas are ever killed, and only its own index is changed; both are gone afterwards. Nodes, the head and
the store are nobody's to break there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import ray
from ray import serve

from xhash_ray.drilling.ledger import Ledger
from xhash_ray.drilling.oracle import Oracle
from xhash_ray.drilling.scenarios import FAKETIME, LOCAL, NETWORK, REDIS, STORE
from xhash_ray.errors import BadInput
from xhash_ray.options import Drill
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.drill.serve import PROCESSES, REPLICAS
from xhash_ray.runtime.drill.site import Site, keys_file, made_index
from xhash_ray.runtime.serving import ServeArgs, build_app
from xhash_ray.storage import uri as places

APPLICATION = "xhash-drill"
NOT_OURS = "it is not the drill's to break on a cluster that was joined"


class JoinedServe:
    """The drill's application on the cluster that this process has joined."""

    def kill(self, deployment: str, most: int = REPLICAS) -> int:
        """See `drill_serve.Deployment`."""
        prefix = f"SERVE_REPLICA::{APPLICATION}#{deployment}#"
        names = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]
        chosen = [name for name in names if name.startswith(prefix)][:most]
        for name in chosen:
            with contextlib.suppress(ValueError):  # it has ended meanwhile
                ray.kill(ray.get_actor(name, namespace="serve"), no_restart=True)
        return len(chosen)

    def is_whole(self) -> bool:
        """See `drill_serve.Deployment`."""
        application = serve.status().applications.get(APPLICATION)
        if application is None or application.status != "RUNNING":
            return False
        running = [each.replica_states.get("RUNNING", 0) for each in application.deployments.values()]
        return all(count == REPLICAS for count in running)


@contextlib.contextmanager
def joined_site(options: Drill, address: str, folder: Path, progress: Progress) -> Iterator[Site]:
    """The drill's application on a cluster, from its deployment to its end.

    Raises:
        BadInput: without a place for the index that all nodes reach, or a file of keys without a key.
        Unreachable: when the cluster does not answer.
    """
    if options.store is None:
        do = "Name a folder or s3:// prefix that all nodes reach with --store"
        raise BadInput(f"a drill on the cluster {address}", "no place for its index", do)
    keys, key = keys_of(options, folder)
    os.environ["RAY_ADDRESS"] = address
    name, oracle = f"drill-{secrets.token_hex(4)}", Oracle()
    store = places.normalise(options.store)
    with contextlib.ExitStack() as stack:
        stack.callback(places.delete, store, [name])
        index, questions = made_index(options, places.join(store, name), oracle)
        stack.enter_context(cluster.connected())
        args = {"index": index.uri, "processes": PROCESSES, "replicas": 2, "gateways": 2, "encoders": 2, "keys": keys}
        start_serve(options.url)
        try:
            serve.run(build_app(ServeArgs.model_validate(args)), name=APPLICATION, route_prefix=f"/{APPLICATION}")
            progress.say(f"application {APPLICATION} on {address}; index in {index.uri}")
            setting = {
                "cluster": f"{cluster.nodes()} nodes, joined",
                "endpoint": f"{PROCESSES} groups of {options.shards} shards, encoder, gateway: two copies each",
                "index": f"{options.pairs:,} pairs of {options.bits} bits",
            }
            lacking = dict.fromkeys((LOCAL, REDIS, STORE, NETWORK, FAKETIME), NOT_OURS)
            url = f"{options.url.rstrip('/')}/{APPLICATION}"
            yield Site([url], key, oracle, Ledger(), index, questions, JoinedServe(), lacking, setting=setting)
        finally:
            serve.delete(APPLICATION)


def keys_of(options: Drill, folder: Path) -> tuple[str, str]:
    """The file of keys that gateways read, and an admin's key: ours where nodes share this machine's disk.

    Raises:
        BadInput: for a file without the key.
    """
    if options.keys is None:
        key = secrets.token_hex(16)
        return keys_file(folder, key), key
    if not os.environ.get("XHASH_KEY"):
        raise BadInput(f"--keys {options.keys}", "no XHASH_KEY", "Set it to an admin's key of that file")
    return options.keys, os.environ["XHASH_KEY"]


def start_serve(url: str) -> None:
    """Starts Serve where it does not run yet, its proxies where they are to be asked."""
    parts = urlsplit(url)
    serve.start(http_options={"host": parts.hostname or "127.0.0.1", "port": parts.port or 8000})
