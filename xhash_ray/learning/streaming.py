"""Training pairs that never fit in memory: windows of rows, read ahead in the order of the batches.

One pass takes the row groups of all files in a random order, end to end, from a random row on: a sequence of rows
that is cut into `lanes` of equal length. A global batch takes the same number of rows from every lane; within a window
(so many steps) the rows of a lane are shuffled. Every worker reads the lanes it owns and nothing else, and the batches
do not depend on how many workers there are, as long as they divide the lanes. What does not fill a batch at the end of
a pass is left out; which rows these are differs from pass to pass.

Planning (StreamPlan) is arithmetic on numbers of rows; reading is `read_window`.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from xhash_ray.learning.sources import Position, order_seed
from xhash_ray.methods.base import Batch, TrainingPairs, World
from xhash_ray.storage import tables
from xhash_ray.storage.features import check_zeros, to_features
from xhash_ray.storage.where import Where, filter_all

WINDOW_BYTES = 64 * 2**20  # a few of them are in memory; reading them one by one costs little beside training
SAMPLE_ROWS = 65_536


class RowGroup(NamedTuple):
    """Rows of one row group that count: how many, and the number of the first within the training set."""

    file: str
    group: int
    rows: int
    first: int


class Piece(NamedTuple):
    """A range of a row group's rows that count."""

    group: RowGroup
    start: int
    stop: int


class Window(NamedTuple):
    """Rows for some consecutive steps of one worker, in the order of its batches.

    Attributes:
        passes: The pass they belong to.
        first_step: The step of the first batch.
        image: float32 [n, d_i].
        text: float32 [n, d_t].
        labels: uint8 [n, classes] of zeros and ones; None for unlabelled pairs.
        rows: int64 [n], numbers within the training set.
    """

    passes: int
    first_step: int
    image: np.ndarray
    text: np.ndarray
    labels: np.ndarray | None
    rows: np.ndarray


@dataclass(frozen=True)
class StreamPlan:
    """Which rows are needed when: a function of the seed alone.

    Attributes:
        groups: Row groups with rows that count.
        conditions: What decides which rows count.
        batch_size: Pairs in a global batch, a multiple of `lanes`.
        seed: Of the order.
        lanes: Equal parts that every batch takes from; workers must divide them.
        window_steps: Steps whose rows are read and shuffled together.
        classes: Number of label classes, 0 for unlabelled pairs.
        zeros: "refuse" or "keep" rows with an all-zero feature.
    """

    groups: tuple[RowGroup, ...]
    conditions: tuple[Where, ...]
    batch_size: int
    seed: int
    lanes: int
    window_steps: int
    classes: int = 0
    zeros: str = "refuse"

    @property
    def total(self) -> int:
        """Pairs in the training set."""
        return sum(group.rows for group in self.groups)

    @property
    def rows_per_lane_step(self) -> int:
        """Rows that one batch takes from one lane."""
        return self.batch_size // self.lanes

    @property
    def steps(self) -> int:
        """Batches of one pass."""
        return self.total // self.lanes // self.rows_per_lane_step

    @property
    def windows(self) -> int:
        """Windows of one pass."""
        return -(-self.steps // self.window_steps)

    def steps_of(self, window: int) -> range:
        """The steps of one window."""
        return range(window * self.window_steps, min((window + 1) * self.window_steps, self.steps))

    def order(self, number: int) -> list[Piece]:
        """All rows in the order of one pass, from a random row of the first group on and around to it.

        Without the turn, a training set of one row group would leave out the same rows in every pass.
        """
        generator = torch.Generator().manual_seed(order_seed(self.seed, number))
        first, *others = (self.groups[index] for index in torch.randperm(len(self.groups), generator=generator))
        turn = int(torch.randint(first.rows, (), generator=generator))
        whole = [Piece(group, 0, group.rows) for group in others]
        return [Piece(first, turn, first.rows), *whole, *([Piece(first, 0, turn)] if turn else [])]

    def pieces(self, order: Sequence[Piece], lane: int, window: int) -> list[Piece]:
        """What one lane reads for one window."""
        starts = [0, *itertools.accumulate(piece.stop - piece.start for piece in order)]
        steps = self.steps_of(window)
        first = lane * self.steps * self.rows_per_lane_step + steps.start * self.rows_per_lane_step
        last = first + len(steps) * self.rows_per_lane_step
        found = []
        index = bisect.bisect_right(starts, first) - 1
        while first < last:
            stop = min(last, starts[index + 1])
            if stop > first:
                offset = order[index].start - starts[index]
                found.append(Piece(order[index].group, first + offset, stop + offset))
            first, index = stop, index + 1
        return found

    def own_lanes(self, rank: int, size: int) -> range:
        """The lanes of one of several workers."""
        share = self.lanes // size
        return range(rank * share, (rank + 1) * share)

    def shuffled(self, number: int, lane: int, window: int) -> np.ndarray:
        """The order of one lane's rows within one window: int64 [rows]."""
        rows = len(self.steps_of(window)) * self.rows_per_lane_step
        return np.random.default_rng((self.seed % 2**64, number, lane, window)).permutation(rows)


def lanes_for(workers: Sequence[int], batch_size: int) -> int:
    """The fewest lanes that every number of workers divides; 1 for a single process."""
    return int(np.lcm.reduce([max(1, count) for count in workers])) if batch_size else 1


def window_steps_for(batch_size: int, row_bytes: int, window_bytes: int = WINDOW_BYTES) -> int:
    """Steps whose rows take about `window_bytes`, at least one."""
    return max(1, window_bytes // max(1, row_bytes * batch_size))


def read_window(plan: StreamPlan, number: int, window: int, lanes: range) -> Window:
    """The rows of some lanes for one window of one pass, in the order of the batches.

    Raises:
        BadInput: for features that are missing, NaN, infinite or all zero, naming file and id.
    """
    order = plan.order(number)
    pieces = [plan.pieces(order, lane, window) for lane in lanes]
    image, text, labels, rows = read_pieces([piece for lane in pieces for piece in lane], plan)
    each = len(plan.steps_of(window)) * plan.rows_per_lane_step
    index = np.stack([place * each + plan.shuffled(number, lane, window) for place, lane in enumerate(lanes)])
    steps = index.reshape(len(lanes), -1, plan.rows_per_lane_step).transpose(1, 0, 2).reshape(-1)
    first_step = plan.steps_of(window).start
    return Window(number, first_step, image[steps], text[steps], None if labels is None else labels[steps], rows[steps])


def read_pieces(
    pieces: Sequence[Piece], plan: StreamPlan
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """Image features, text features, labels and row numbers of some pieces, in their order; each group is read once."""
    read: dict[tuple[str, int], tuple[np.ndarray, np.ndarray, np.ndarray | None]] = {}
    parts = []
    for group, start, stop in pieces:
        key = (group.file, group.group)
        if key not in read:
            read[key] = read_group(group, plan)
        image, text, labels = read[key]
        part = slice(start, stop)
        numbers = np.arange(group.first + start, group.first + stop)
        parts.append((image[part], text[part], None if labels is None else labels[part], numbers))
    images, texts, label_parts, rows = zip(*parts, strict=True)
    labels = np.concatenate(label_parts) if plan.classes else None
    return np.concatenate(images), np.concatenate(texts), labels, np.concatenate(rows)


def read_group(group: RowGroup, plan: StreamPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Image features, text features and labels of the rows of one group that count."""
    table = filter_all(next(tables.iter_row_groups(group.file, [group.group])), plan.conditions)
    features = to_features(table, group.file)
    check_zeros(features, group.file, plan.zeros)
    return features.image, features.text, multi_hot(features.labels, plan.classes)


def multi_hot(labels: Sequence[Sequence[int]] | None, classes: int) -> np.ndarray | None:
    """Lists of label numbers as uint8 [n, classes] of zeros and ones."""
    if labels is None or not classes:
        return None
    matrix = np.zeros((len(labels), classes), np.uint8)
    for row, numbers in enumerate(labels):
        matrix[row, numbers] = 1
    return matrix


WindowReader = Callable[[Position, int], Iterator[Window]]


@dataclass(frozen=True)
class Streamed:
    """Training pairs as a stream of windows.

    Attributes:
        plan: Their order.
        world: Who shares the batches; the number of workers divides the plan's lanes.
        reader: Gives this worker's windows from the one that holds a position on; `read_ahead` by default.
    """

    plan: StreamPlan
    world: World
    reader: WindowReader | None = None

    @property
    def steps(self) -> int:
        """Batches of one pass."""
        return self.plan.steps

    @property
    def batch_size(self) -> int:
        """Pairs in a global batch."""
        return self.plan.batch_size

    def known(self) -> TrainingPairs:
        """A seeded sample of few row groups: SAMPLE_ROWS pairs where there are as many."""
        return self.sample

    @functools.cached_property
    def sample(self) -> TrainingPairs:
        """What `known` gives, read once."""
        chosen, wanted = [], SAMPLE_ROWS
        for group, start, stop in self.plan.order(-1):
            if wanted > 0:
                chosen.append(Piece(group, start, min(stop, start + wanted)))
                wanted -= stop - start
        image, text, labels, _ = read_pieces(chosen, self.plan)
        hot = None if labels is None else torch.from_numpy(labels).float()
        return TrainingPairs(torch.from_numpy(image), torch.from_numpy(text), hot, self.plan.total)

    def batches(self, start: Position, passes: int) -> Iterator[Batch]:
        """This worker's share of every batch from a position on."""
        size = self.plan.batch_size // self.world.size
        reader = self.reader or self.read_ahead
        for window in reader(start, passes):
            for offset in range(0, len(window.rows), size):
                step = window.first_step + offset // size
                if (window.passes, step) >= start:
                    yield cut(window, offset, offset + size)

    def read_ahead(self, start: Position, passes: int) -> Iterator[Window]:
        """Windows of this worker, the next one read by a thread while the current one is used.

        Whoever stops early waits for the window that is being read, and no thread is left.
        """
        lanes = self.plan.own_lanes(self.world.rank, self.world.size)
        with ThreadPoolExecutor(1, thread_name_prefix="window") as pool:
            places = windows_from(self.plan, start, passes)
            reading = (pool.submit(read_window, self.plan, number, window, lanes) for number, window in places)
            current = next(reading, None)
            while current is not None:
                window = current.result()
                current = next(reading, None)
                yield window


def windows_from(plan: StreamPlan, start: Position, passes: int) -> Iterator[tuple[int, int]]:
    """(pass, window) of everything from a position to the end of the last pass."""
    for number in range(start.passes, passes):
        first = start.steps // plan.window_steps if number == start.passes else 0
        yield from ((number, window) for window in range(first, plan.windows))


def cut(window: Window, start: int, stop: int) -> Batch:
    """Some rows of a window as a batch of its own memory (windows may be read-only)."""
    part = slice(start, stop)
    labels = None if window.labels is None else torch.from_numpy(window.labels[part].astype(np.float32))
    image, text, rows = (torch.from_numpy(np.array(array[part])) for array in (window.image, window.text, window.rows))
    return Batch(image, text, labels, rows)
