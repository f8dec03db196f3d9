"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.data
from ray.exceptions import AuthenticationError

from xhash_ray.errors import Unreachable

MIN_LOGICAL_CPUS = 8  # small machines over-declare: actors that hold every CPU would starve reads
CHECK = "Check RAY_ADDRESS, and RAY_AUTH_MODE and the token (RAY_AUTH_TOKEN, ~/.ray/auth_token) where it asks for one"
PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")  # never secrets: they show in dashboards


def connect() -> None:
    """Joins the cluster that RAY_ADDRESS names, or starts a local one; does nothing when connected.

    Raises:
        Unreachable: when the named cluster does not answer, or asks for another token than there is.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    quieten()
    options: dict[str, Any] = {"log_to_driver": False, "runtime_env": {"env_vars": passed_on()}}
    if not address:
        cpus = max(MIN_LOGICAL_CPUS, os.cpu_count() or 1)
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        # Ray would start a worker per logical CPU before anybody asks, which costs a small machine ten seconds; and it
        # warns of its own workers where more of them start at once than the first setting says.
        options["_system_config"] = {"worker_maximum_startup_concurrency": cpus, "prestart_worker_first_driver": False}
    try:
        with native_output_hidden():
            ray.init(logging_level="error", **options)
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        found = " ".join(str(error).split())[:200]
        raise Unreachable(f"Ray cluster {address or 'on this machine'}", found, CHECK) from None


def is_joined() -> bool:
    """Whether the cluster is somebody else's, named by RAY_ADDRESS, rather than one started here."""
    return bool(os.environ.get("RAY_ADDRESS"))


def quieten() -> None:
    """Leaves the terminal to our own lines; Ray's logs stay in its session folder."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # C++ lines about harmless retries
    for name in ("ray", "ray.data", "ray.train", "ray.serve", "ray._private.authentication"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


@contextmanager
def native_output_hidden() -> Iterator[None]:
    """Hides what C++ writes to standard error while Ray starts; failures arrive as exceptions."""
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


def passed_on() -> dict[str, str]:
    """Environment variables that workers on other nodes need."""
    return {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}


def physical_cores() -> int:
    """Cores of this machine that threads may use, whatever Ray was told."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores() -> int:
    """Tasks that can run beside each other: cores of this machine, or of the cluster that was joined."""
    return max(1, int(ray.cluster_resources().get("CPU", 1))) if is_joined() else physical_cores()


def nodes() -> int:
    """Machines that work: this one, or those of the cluster that was joined."""
    return max(1, sum(bool(node["Alive"]) for node in ray.nodes())) if is_joined() else 1


def gpus() -> int:
    """GPUs the cluster has."""
    return int(ray.cluster_resources().get("GPU", 0))


def threads_for(actors: int) -> int:
    """Threads each of several actors on this machine may use."""
    return max(1, physical_cores() // max(1, actors))


@contextmanager
def connected() -> Iterator[None]:
    """Ray for the length of a block; a cluster that was started for it ends with it."""
    was_connected = ray.is_initialized()
    connect()
    try:
        yield
    finally:
        if not was_connected:
            ray.shutdown()
