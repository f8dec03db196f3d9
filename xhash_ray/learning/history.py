"""The reports of a training on disk: a CSV for people and programs, TensorBoard event files for curves.

Both lie in the run folder, local or S3, are written whole, and are continued when a training is.
"""

from __future__ import annotations

import csv
import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xhash_ray.storage import uri as places

CSV_NAME, EVENTS_FOLDER = "epochs.csv", "tensorboard"


@dataclass
class History:
    """Epoch reports of one run.

    Attributes:
        folder: The run folder.
        rows: One report per epoch, each with `epoch` counted from 1.
        interval_s: Least time between two writes; `close` writes what is left.
    """

    folder: str
    rows: list[dict[str, float]] = field(default_factory=list)
    interval_s: float = 5.0
    written_s: float = float("-inf")

    def load(self, reports: Sequence[dict[str, float]]) -> None:
        """Continues a training's reports, which its checkpoint holds: the CSV may be older, or newer."""
        self.rows = [{"epoch": epoch + 1, **report} for epoch, report in enumerate(reports)]

    def add(self, epoch: int, report: dict[str, float]) -> None:
        """A report of an epoch counted from 0; one that is there already is replaced (a training was continued)."""
        kept = [row for row in self.rows if row["epoch"] <= epoch]
        self.rows = [*kept, {"epoch": epoch + 1, **report}]
        if time.monotonic() - self.written_s >= self.interval_s:
            self.write_csv()

    def close(self) -> None:
        """Writes everything."""
        self.write_csv()
        places.delete(self.folder, [EVENTS_FOLDER])  # curves of a training that was replaced
        for name, content in event_files(self.rows).items():
            places.write_bytes(places.join(self.folder, EVENTS_FOLDER, name), content)

    def write_csv(self) -> None:
        """Writes the CSV in one step."""
        places.write_bytes(places.join(self.folder, CSV_NAME), to_csv(self.rows).encode())
        self.written_s = time.monotonic()


def to_csv(rows: list[dict[str, float]]) -> str:
    """Reports as CSV; a number that an epoch does not have is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: format(value, ".8g") for name, value in row.items()} for row in rows)
    return text.getvalue()


def parse_csv(text: str) -> list[dict[str, float]]:
    """`to_csv` backwards."""
    rows = csv.DictReader(io.StringIO(text))
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


def event_files(rows: list[dict[str, float]]) -> dict[str, bytes]:
    """Reports as TensorBoard event files, by name: one scalar per number and epoch."""
    from tensorboardX import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        writer = SummaryWriter(folder, flush_secs=1)
        for row in rows:
            for name, value in row.items():
                if name != "epoch":
                    writer.add_scalar(name.replace(".", "/"), value, int(row["epoch"]))
        writer.close()
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
