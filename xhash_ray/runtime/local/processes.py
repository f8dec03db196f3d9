"""Processes of a local cluster: started in sessions of their own, found again by a mark, ended for certain.

Whatever a node starts (raylet, agents, workers, drivers of jobs) inherits the node's mark in its environment, so all of
it is found even where a process has left the group, and a stranger that got a dead process' number is never touched.
Some of Ray's processes write their titles ("ray::DashboardAgent") over that memory, and the mark with it: these are
found by the session that the node's first process leads.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from xhash_ray.errors import XhashError

TITLES = (b"ray::", b"ray-")
MARK = "XHASH_LOCAL_NODE"  # value: TOKEN/NAME, the cluster's random token and the node's name
GRACE_S, GONE_S = 10.0, 20.0  # for an orderly end; for the kernel to clear away what was killed
STATE, SESSION, THREADS, STARTED = 0, 3, 17, 19  # fields of /proc/PID/stat behind the command's name


def spawn(
    words: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path | None = None
) -> subprocess.Popen[bytes]:
    """Starts a process that leads a session of its own, in a folder; both its outputs are appended to the log."""
    with log.open("ab") as file:
        return subprocess.Popen(
            words,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def started_at(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine did; None where there is none, or only its remains."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a child of ours that has ended stays in the table until it is asked for
    try:
        fields = stat_of(pid)
    except OSError:
        return None
    is_over = fields[STATE] in "ZX" and int(fields[THREADS]) <= 1  # its last thread may hold ports a moment longer
    return None if is_over else int(fields[STARTED])


def stat_of(pid: int) -> list[str]:
    """What /proc/PID/stat says behind the command's name; OSError where there is no such process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def titled(leaders: Mapping[int, int]) -> list[int]:
    """Processes with one of Ray's titles in the sessions of some leaders (number, when it began).

    A leader that has ended leaves its session behind; a number that another process has by now names none of ours.
    """
    ours = {pid: began for pid, began in leaders.items() if started_at(pid) in (None, began)}

    def is_titled(folder: Path) -> bool:
        fields, title = stat_of(int(folder.name)), (folder / "cmdline").read_bytes()
        return title.startswith(TITLES) and int(fields[STARTED]) >= ours.get(int(fields[SESSION]), math.inf)

    return matching(is_titled) if ours else []


def marked(token: str, name: str | None = None) -> list[int]:
    """Processes that carry a cluster's mark, of one node or of all."""
    wanted = f"{MARK}={token}/".encode() if name is None else f"{MARK}={token}/{name}\0".encode()
    return matching(lambda folder: wanted in (folder / "environ").read_bytes() + b"\0")


def matching(is_wanted: Callable[[Path], bool]) -> list[int]:
    """Living processes by what their folders in /proc say; those that end meanwhile are left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if is_wanted(folder):
                found.append(int(folder.name))
    return [pid for pid in found if started_at(pid) is not None]


def living(processes: Mapping[int, int | None]) -> list[int]:
    """Those of some processes (number, when it began) that have not ended yet."""
    return [pid for pid, began in processes.items() if began is not None and started_at(pid) == began]


def kill(token: str, name: str | None = None, leaders: Mapping[int, int] | None = None) -> None:
    """SIGKILL to all of a node (or of the cluster), and again to what was just being born, until nothing is left.

    Args:
        token: The cluster's.
        name: The node's; None for all.
        leaders: Of the sessions (number, when it began) in which what has lost its mark is looked for.

    Raises:
        XhashError: when a process survives it, which only the kernel can cause.
    """
    until_s = time.monotonic() + GONE_S
    seen: dict[int, int | None] = {}  # one that is ending has lost its environment, and with it the mark
    while left := {*marked(token, name), *titled(leaders or {}), *living(seen)}:
        if time.monotonic() > until_s:
            found = f"processes {sorted(left)} do not end"
            raise XhashError(f"an end of local node {name or 'any'}", found, "See what the kernel holds them for")
        for pid in left:
            seen.setdefault(pid, started_at(pid))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def end(token: str, leaders: Mapping[int, int], grace_s: float = GRACE_S) -> None:
    """SIGTERM to the leaders (number, when it began), which end what they lead; SIGKILL to what they leave, or to all
    after a while."""
    leading = {pid: started_at(pid) for pid in set(marked(token)).intersection(leaders)}
    for pid in leading:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    until_s = time.monotonic() + grace_s
    while time.monotonic() < until_s and living(leading):
        time.sleep(0.1)
    kill(token, leaders=leaders)
