"""Windows of training pairs through Ray Data: read by its tasks, each worker its own, in the order of the batches.

Ray Train would deal blocks out to whoever asks first; here the order decides the result. So the data set that Train is
given is a plan, and `OrderedWindows` makes of it one data set per worker for however many workers there are now.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import ray.train

from xhash_ray.errors import XhashError
from xhash_ray.learning.checkpoint import NAME, Checkpoints
from xhash_ray.learning.sources import Position
from xhash_ray.learning.streaming import StreamPlan, Window, read_window, windows_from
from xhash_ray.storage.features import from_matrix

READING_TASKS = 2  # per worker
AHEAD = 1  # windows that wait for a worker
FAILURE = "failure"  # column of what a reading task raised
CPUS_PER_TASK = 0.5  # a window is read far faster than it is trained on


class OrderedWindows(ray.train.DataConfig):
    """Gives every worker the windows of its lanes, from the last checkpoint on.

    Args:
        plan: The order of the pairs.
        passes: Passes of the whole training.
        checkpoints: Where the training is continued from.
    """

    def __init__(self, plan: StreamPlan, passes: int, checkpoints: Checkpoints) -> None:
        super().__init__(datasets_to_split=[])
        self.plan, self.passes, self.checkpoints = plan, passes, checkpoints

    def configure(
        self,
        datasets: dict[str, Any],
        world_size: int,
        worker_handles: Any = None,
        worker_node_ids: Any = None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """One iterator per worker. Source: ray.train.DataConfig.configure, made to be overridden."""
        start = position_of(self.checkpoints.latest())
        waiting = list(windows_from(self.plan, start, self.passes))
        plan = ray.put(self.plan)
        return [
            {name: windows_of(plan, waiting, self.plan.own_lanes(rank, world_size)).iterator() for name in datasets}
            for rank in range(world_size)
        ]


def position_of(name: str | None) -> Position:
    """The position that a checkpoint's name tells."""
    match = NAME.match(name) if name else None
    return Position(int(match[1]), int(match[2])) if match else Position()


def windows_of(plan: Any, waiting: list[tuple[int, int]], lanes: range) -> ray.data.Dataset:
    """A data set with one block per window, in order."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.target_max_block_size = None  # a window is one block, however large: parts of it would be taken for windows
    items = [{"passes": passes, "window": window} for passes, window in waiting] or [{"passes": -1, "window": 0}]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    return dataset.map_batches(
        WindowTask(plan, lanes),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.TaskPoolStrategy(size=min(READING_TASKS, len(items))),
        num_cpus=CPUS_PER_TASK,
    )


class WindowTask:
    """Reads one window as an Arrow table."""

    def __init__(self, plan: Any, lanes: range) -> None:
        self.plan, self.lanes = plan, lanes

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One row that names a window becomes the window's rows.

        Errors of this project travel as data: Ray Data makes a text of what its tasks raise.
        """
        asked = batch.to_pylist()[0]
        try:
            return to_table(read_window(ray.get(self.plan), asked["passes"], asked["window"], self.lanes))
        except XhashError as error:
            return pa.table({FAILURE: [pickle.dumps(error)]})


def to_table(window: Window) -> pa.Table:
    """A window as a table; pass and first step are repeated in every row."""
    columns = {
        "passes": pa.array(np.full(len(window.rows), window.passes)),
        "first_step": pa.array(np.full(len(window.rows), window.first_step)),
        "image": from_matrix(window.image),
        "text": from_matrix(window.text),
        "rows": pa.array(window.rows),
    }
    if window.labels is not None:
        columns["labels"] = from_matrix(window.labels)
    return pa.table(columns)


def to_window(table: pa.Table) -> Window:
    """`to_table` backwards, without copying."""
    whole = table.combine_chunks()

    def matrix(name: str) -> np.ndarray:
        column = whole[name].chunk(0)
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)

    labels = matrix("labels") if "labels" in whole.column_names else None
    rows = whole["rows"].to_numpy(zero_copy_only=False)
    passes, first_step = whole["passes"][0].as_py(), whole["first_step"][0].as_py()
    return Window(passes, first_step, matrix("image"), matrix("text"), labels, rows)


def shard_windows(start: Position, passes: int) -> Iterator[Window]:
    """This worker's windows, as `Streamed` wants them."""
    if start.passes >= passes:  # a data set cannot be empty: there is one, but nothing to read
        return
    shard = ray.train.get_dataset_shard("train")
    for table in shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=AHEAD):
        if FAILURE in table.column_names:
            raise pickle.loads(table[FAILURE][0].as_py())
        yield to_window(table)
