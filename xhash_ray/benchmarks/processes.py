"""What other processes of this machine use, by their titles. Source: proc(5)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def pids_of(title: str) -> list[int]:
    """Processes whose command line holds a text."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it may end meanwhile
            if folder.name.isdigit() and title.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return sorted(found)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, all threads, in ticks of 10 ms."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS_PER_S


def resident_bytes(pid: int | str = "self") -> int:
    """Bytes of a process in memory that are its own: pages of mapped files, which the system takes back, are not."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
