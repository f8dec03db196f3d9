"""A local cluster from the command line: `python -m xhash_ray.runtime.local.cli start|stop|status|kill|restart|...`.

Standard output carries only what can be used further: the exports of `start`, the table of `status`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from xhash_ray.errors import BadInput, XhashError
from xhash_ray.runtime.local.cluster import LocalCluster

PORT, DASHBOARD_PORT = 6379, 8265  # Ray's own defaults: where people look
WORDS = {"alive": "alive", "dead": "runs, but the head does not believe it alive", "ended": "ended"}


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(self.prog, message, f"See `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what is asked; returns the exit code."""
    try:
        asked = parser().parse_args(arguments)
        return int(asked.function(asked))
    except XhashError as error:
        print(f"xhash: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("xhash: interrupted", file=sys.stderr)
        return 1


def parser() -> Parser:
    """All verbs."""
    top = Parser(prog="cluster/local.sh", description="A Ray cluster of several nodes on this machine.")
    verbs = top.add_subparsers(required=True, metavar="VERB", parser_class=Parser)
    begin = verbs.add_parser("start", help="head and workers; prints what to export")
    begin.add_argument("--workers", type=int, default=3, help="nodes beside the head, 0 for the head alone (3)")
    begin.add_argument("--cpus", type=int, default=8, help="logical CPUs per node, more than there are is fine (8)")
    begin.add_argument("--object-store-mb", type=int, default=500, help="shared memory per node, MiB (500)")
    begin.add_argument("--port", type=int, default=PORT, help=f"the cluster's port ({PORT})")
    begin.add_argument("--dashboard-port", type=int, default=DASHBOARD_PORT, help=f"({DASHBOARD_PORT})")
    begin.add_argument("--auth", default="token", help="token or disabled (token)")
    begin.add_argument("--redis", metavar="HOST:PORT", help="keeps the head's state: restart head works")
    begin.add_argument("--durable", action="store_true", help="keeps the head's state on disk instead")
    begin.add_argument("--namespaces", action="store_true", help="an address per node; root only")
    begin.set_defaults(function=start)
    verbs.add_parser("stop", help="ends all of it, by process").set_defaults(function=stop)
    verbs.add_parser("status", help="the nodes; exit code 1 unless all are alive").set_defaults(function=status)
    for verb, text in (("kill", "SIGKILL to all of a node"), ("restart", "brings a dead node back")):
        named = verbs.add_parser(verb, help=text)
        named.add_argument("name")
        named.set_defaults(function=on_node, verb=verb)
    slowed = verbs.add_parser("delay", help="slows a node's network down (--namespaces)")
    slowed.add_argument("name")
    slowed.add_argument("ms", type=float, help="milliseconds each way")
    slowed.add_argument("--loss-percent", type=float, default=0.0)
    slowed.set_defaults(function=delay)
    narrow = verbs.add_parser("throttle", help="makes a node's network narrow (--namespaces)")
    narrow.add_argument("name")
    narrow.add_argument("kbit_per_s", type=float, metavar="KBIT_PER_S")
    narrow.set_defaults(function=throttle)
    for verb, text in (("partition", "cuts a node off (--namespaces)"), ("heal", "ends all of these")):
        named = verbs.add_parser(verb, help=text)
        named.add_argument("name")
        named.set_defaults(function=on_node, verb=verb)
    for each in verbs.choices.values():
        each.add_argument("--folder", default=default_folder(), help="state and logs of the cluster")
    return top


def default_folder() -> str:
    """Where a person's local cluster keeps its state."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return str(Path(base) / "xhash-ray" / "cluster")


def start(asked: argparse.Namespace) -> int:
    """Starts a cluster and prints what points to it."""
    made = LocalCluster.start(
        asked.folder,
        workers=asked.workers,
        cpus=asked.cpus,
        namespaces=asked.namespaces,
        redis_url=asked.redis,
        object_store_mb=asked.object_store_mb,
        durable=asked.durable,
        auth=asked.auth,
        port=asked.port,
        dashboard_port=asked.dashboard_port,
    )
    print(f"{len(made.nodes)} nodes alive; logs in {made.folder} and {made.temp_dir}", file=sys.stderr)
    variables = {
        "RAY_AUTH_MODE": made.settings.auth,
        "RAY_ADDRESS": made.address,
        "RAY_API_SERVER_ADDRESS": made.dashboard,  # of `ray job`
        "RAY_DASHBOARD_ADDRESS": made.dashboard,  # of `serve`
    }
    print("export", *(f"{name}={value}" for name, value in variables.items()), flush=True)
    return 0


def stop(asked: argparse.Namespace) -> int:
    """Ends the cluster."""
    LocalCluster.attach(asked.folder).stop()
    return 0


def status(asked: argparse.Namespace) -> int:
    """Prints a line per node; 0 when all are alive."""
    cluster = LocalCluster.attach(asked.folder)
    alive = cluster.alive()
    states = {
        name: "ended" if not cluster.is_running(name) else "alive" if name in alive else "dead"
        for name in cluster.nodes
    }
    for name, node in cluster.nodes.items():
        place = f"{node.address:<15} pid {node.pid:<8} {node.cpus:>3} CPUs  metrics :{node.metrics_port}"
        print(f"{name:<10} {place}  {WORDS[states[name]]}", flush=True)
    return 0 if set(states.values()) == {"alive"} else 1


def on_node(asked: argparse.Namespace) -> int:
    """kill, restart, partition, heal."""
    getattr(LocalCluster.attach(asked.folder), asked.verb)(asked.name)
    return 0


def delay(asked: argparse.Namespace) -> int:
    """Slows a node's network down."""
    LocalCluster.attach(asked.folder).delay(asked.name, asked.ms, asked.loss_percent)
    return 0


def throttle(asked: argparse.Namespace) -> int:
    """Makes a node's network narrow."""
    LocalCluster.attach(asked.folder).throttle(asked.name, asked.kbit_per_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
