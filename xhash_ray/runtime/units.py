"""Units of work through Ray Data: each is one call of a function in a task, whose answer comes back when it is done.

Units and answers travel pickled, and so do errors of this project: Ray Data makes a text of what its tasks raise.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import pyarrow as pa
import ray.data
from ray.data import TaskPoolStrategy

from xhash_ray.errors import XhashError
from xhash_ray.runtime import cluster

Unit = TypeVar("Unit")
Answer = TypeVar("Answer")


def each_unit(units: Sequence[Unit], do: Callable[[Unit], Answer]) -> Iterator[Answer]:
    """The answers, in the order in which they are ready; as many tasks at once as there are cores.

    Raises:
        XhashError: what a task raised; tasks that have not begun then never do.
    """
    if not units:
        return
    rows = [{"unit": pickle.dumps(unit)} for unit in units]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        functools.partial(do_one, do=do),
        batch_size=1,
        batch_format="pyarrow",
        compute=TaskPoolStrategy(size=min(len(rows), cluster.cores())),
    )
    for row in dataset.iter_rows():
        answer = pickle.loads(row["answer"])
        if isinstance(answer, XhashError):
            raise answer
        yield answer


def do_one(batch: pa.Table, do: Callable[[Unit], Answer]) -> pa.Table:
    """One unit, in a task."""
    try:
        answer: Answer | XhashError = do(pickle.loads(batch["unit"][0].as_py()))
    except XhashError as error:
        answer = error
    return pa.table({"answer": [pickle.dumps(answer)]})
