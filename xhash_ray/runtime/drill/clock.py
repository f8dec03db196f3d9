"""A node whose clocks are wrong: libfaketime under all of its processes.

Monotonic clocks are ahead by as much: libfaketime 0.9.10 takes the wall's offset off every absolute sleep, so that one
on a monotonic clock left alone fails (EINVAL), which is every `time.sleep` of Python 3.11. Nothing compares monotonic
clocks of different nodes, and durations are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from xhash_ray.runtime.local.cluster import LocalCluster

PLACES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/lib64", "/usr/local/lib")
ALIVE_S = 90.0
LIBRARY = "faketime/libfaketimeMT.so.1"


def library() -> str | None:
    """Where libfaketime lies, None where it does not."""
    return next((str(path) for folder in PLACES if (path := Path(folder) / LIBRARY).exists()), None)


def no_library() -> str:
    """Why clocks cannot be set here, "" where they can."""
    return "" if library() else "no libfaketime: install the package of that name"


def skewed(seconds: float) -> Mapping[str, str]:
    """The environment of processes whose clock is so much ahead."""
    return {
        "LD_PRELOAD": library() or "",
        "FAKETIME": f"{seconds:+g}s",
        "FAKETIME_NO_CACHE": "0",
    }


def restart_with(cluster: LocalCluster, name: str, environment: Mapping[str, str]) -> None:
    """A node anew, with further variables that only it gets.

    Raises:
        XhashError: when it does not come up with them.
    """
    shared = cluster.settings
    cluster.kill(name)
    cluster.wait_dead(name)
    cluster.settings = replace(shared, environment={**shared.environment, **environment})
    try:
        cluster.restart(name, wait=False)
    finally:
        cluster.settings = shared
        cluster.write_state()
    cluster.wait_alive([name], ALIVE_S)
