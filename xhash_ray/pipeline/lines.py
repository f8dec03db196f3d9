"""A run of units as lines on standard error."""

from __future__ import annotations

import os
import sys

from xhash_ray.pipeline.watching import LIMITING, Snapshot, Watch
from xhash_ray.pipeline.words import duration, rate, share, size
from xhash_ray.progress import Progress

WIDTH = 160
# What a line has, from the fullest to the barest: the first that fits is said.
LAYOUTS = (
    ("done", "now", "overall", "left", "rejected", "read", "busy"),
    ("done", "now", "left", "rejected", "reading", "busy"),
    ("done", "now", "left", "rejected", "busy"),
    ("done", "now", "overall", "left", "rejected", "limit"),
    ("done", "now", "left", "rejected", "limit"),
    ("done", "now", "left", "rejected"),
    ("done", "left"),
)


def line(snapshot: Snapshot, width: int = WIDTH) -> str:
    """One line, at most `width` characters long; what matters least is left out of it first.

    Such as `[extract] 12,288 of 20,000 pairs (61%), 1,204/s now, 7 s left, 31 rejected, 48 MB/s read; busy: read 12%,
    prepare 97%, embed 88%, write 3%: limited by prepare`.
    """
    parts = parts_of(snapshot)
    texts = ("".join(parts[name] for name in layout) for layout in LAYOUTS)
    return next((text for text in texts if len(text) <= width), parts["done"][:width])


def parts_of(snapshot: Snapshot) -> dict[str, str]:
    """Everything a line may say, by the names that LAYOUTS uses; what is not known is empty."""
    left, most = snapshot.left_s, snapshot.bottleneck
    of_total = f" of {snapshot.total:,} pairs ({share(snapshot.done / snapshot.total)})" if snapshot.total else " pairs"
    speed = f"{size(snapshot.bytes_read_per_s)}/s"
    stages = ", ".join(f"{name} {value:.0%}" for name, value in snapshot.utilisation.items())
    limited = most is not None and most.utilisation >= LIMITING
    return {
        "done": f"[{snapshot.verb}] {snapshot.done:,}{of_total}",
        "now": f", {rate(snapshot.pairs_per_s)}/s now",
        "overall": f", {rate(snapshot.pairs_per_s_overall)}/s overall",
        "left": f", {duration(left)} left" if left is not None else "",
        "rejected": f", {snapshot.rejected:,} rejected" if snapshot.rejected else "",
        "read": f", {size(snapshot.bytes_read)} read ({speed})" if snapshot.bytes_read else "",
        "reading": f", {speed} read" if snapshot.bytes_read else "",
        "busy": f"; busy: {stages}{f': limited by {most.stage}' if most and limited else ''}" if most else "",
        "limit": f"; limited by {most.stage} ({most.utilisation:.0%} busy)" if most and limited else "",
    }


class WatchProgress(Progress):
    """Lines about a watched run, at most one every few seconds.

    Args:
        watch: The run.
        interval_s: Least time between two lines, by the watch's clock.
        width: Columns that a line may take; None for those of the terminal.
    """

    def __init__(self, watch: Watch, interval_s: float = 2.0, width: int | None = None) -> None:
        super().__init__(watch.verb, watch.total, interval_s=interval_s)
        self.watch, self.width = watch, width
        self.said_s = watch.started_s

    def update(self, at_once: bool = False) -> Snapshot | None:
        """Says where the run is if it is time, or at once; call it after every unit and while waiting.

        Returns:
            The moment that was said, for whoever else wants to record it; None when it was not time.
        """
        now_s = self.watch.clock()
        if not at_once and now_s - self.said_s < self.interval_s:
            return None
        self.said_s = now_s
        snapshot = self.watch.snapshot()
        print(line(snapshot, self.width or columns()), file=sys.stderr, flush=True)
        return snapshot


def columns() -> int:
    """Width of the terminal that standard error goes to; WIDTH where it goes to none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH
    except (OSError, ValueError):  # a file or a pipe; a test's capture
        return WIDTH
