"""Units of work through Ray Data: steps that each give work on to the next, in tasks or in actors that hold something.

Whatever travels is pickled into one row, and every row is a block of its own, so that Ray Data neither cuts nor gathers
units. Errors of this project travel the same way: Ray Data makes a text of what its tasks raise.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from xhash_ray.errors import XhashError
from xhash_ray.runtime import cluster
from xhash_ray.runtime.telemetry import report_to_ray

Unit = TypeVar("Unit")
Answer = TypeVar("Answer")

ROW = "work"


@dataclass(frozen=True)
class Step:
    """One step that all work goes through.

    Attributes:
        do: What is done with one piece of work, giving any number of further ones. Where `held`, what makes that
            function, called once in every process.
        workers: Processes that do it at once, at most.
        cpus: Logical CPUs of each.
        gpus: GPUs of each, or parts of one.
        held: Whether processes keep something large, such as a model, and so live as long as the work.
        told: Called with every answer in the process that found it, which reports to Ray.
    """

    do: Callable[..., Any]
    workers: int
    cpus: float = 1.0
    gpus: float = 0.0
    held: bool = False
    told: Callable[[Any], None] | None = None


def each_unit(
    units: Sequence[Unit], do: Callable[[Unit], Answer], told: Callable[[Any], None] | None = None
) -> Iterator[Answer]:
    """The answers, in the order in which they are ready; as many tasks at once as there are cores.

    Args:
        units: The work.
        do: What is done with each.
        told: See `Step`.

    Raises:
        XhashError: what a task raised; tasks that have not begun then never do.
    """
    return flow(units, [Step(functools.partial(alone, do=do), cluster.cores(), told=told)])


def alone(unit: Unit, do: Callable[[Unit], Answer]) -> list[Answer]:
    """The one answer that a unit gives."""
    return [do(unit)]


def flow(work: Sequence[Any], steps: Sequence[Step]) -> Iterator[Any]:
    """What comes out of the last step, in the order in which it is ready.

    Raises:
        XhashError: what a step raised; work that has not begun then never does.
    """
    if not work:
        return
    dataset = as_dataset(work)
    for step in steps:
        dataset = add_step(dataset, step, len(work))
    for row in dataset.iter_rows():
        answer = pickle.loads(row[ROW])
        if isinstance(answer, XhashError):
            raise answer
        yield answer


def as_dataset(work: Sequence[Any]) -> Dataset:
    """Work as a data set whose every row is a block, and stays one through all steps."""
    context = ray.data.DataContext.get_current()
    before, context.target_max_block_size = context.target_max_block_size, 1  # bytes
    try:
        return ray.data.from_items([{ROW: pickle.dumps(each)} for each in work], override_num_blocks=len(work))
    finally:
        context.target_max_block_size = before  # a data set keeps a copy


def add_step(dataset: Dataset, step: Step, most: int) -> Dataset:
    """One more step of a data set."""
    shared: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": step.cpus}
    if step.gpus:
        shared["num_gpus"] = step.gpus
    if step.held:
        pool = ActorPoolStrategy(size=step.workers)
        return dataset.map_batches(Holder, fn_constructor_args=(step.do, step.told), compute=pool, **shared)
    pool = TaskPoolStrategy(size=max(1, min(step.workers, most)))
    return dataset.map_batches(functools.partial(done_by, do=step.do, told=step.told), compute=pool, **shared)


class Holder:
    """An actor's part of a step: makes what it holds once."""

    def __init__(
        self, make: Callable[[], Callable[[Any], Iterable[Any]]], told: Callable[[Any], None] | None = None
    ) -> None:
        self.do, self.failed, self.told = None, None, told
        try:
            self.do = make()
        except XhashError as error:  # said with the first piece of work: an actor that cannot start is tried for ever
            self.failed = error

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """One row of work becomes any number."""
        if self.failed or self.do is None:
            yield as_row(self.failed)
        else:
            yield from done_by(batch, self.do, self.told)


def done_by(
    batch: pa.Table, do: Callable[[Any], Iterable[Any]], told: Callable[[Any], None] | None = None
) -> Iterator[pa.Table]:
    """One row of work becomes any number; an error goes on as it is."""
    if batch.num_rows == 0:  # what a step without answers leaves
        return
    work = pickle.loads(batch[ROW][0].as_buffer())
    if isinstance(work, XhashError):
        yield as_row(work)
        return
    try:
        for answer in do(work):
            if told:
                report_to_ray()
                told(answer)
            yield as_row(answer)
    except XhashError as error:
        yield as_row(error)


def as_row(value: Any) -> pa.Table:
    """Anything as a table of one row."""
    return pa.table({ROW: pa.array([pickle.dumps(value, protocol=5)], pa.large_binary())})
