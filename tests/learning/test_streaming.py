"""Streams: every batch holds the rows it should, whoever reads them and wherever it starts; nothing stays behind."""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.learning.conftest import FILES, Rows, made_rows, write_features
from xhash_ray.core.shards import id_hash
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.learning import streaming
from xhash_ray.learning.data import open_training_data
from xhash_ray.learning.sources import Position
from xhash_ray.learning.streaming import (
    RowGroup,
    Streamed,
    StreamPlan,
    Window,
    lanes_for,
    multi_hot,
    read_window,
    window_steps_for,
    windows_from,
)
from xhash_ray.methods.base import Batch, World
from xhash_ray.storage.features import from_matrix


class Worker(World):
    """One of several workers, without the others."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


class Case(NamedTuple):
    """A plan and a pass of it."""

    plan: StreamPlan
    number: int


def plan_of(sizes: list[int], batch_size: int, lanes: int = 1, window_steps: int = 2, seed: int = 3) -> StreamPlan:
    """A plan over row groups of some sizes, in files that do not exist."""
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    groups = tuple(RowGroup("file", group, rows, starts[group]) for group, rows in enumerate(sizes))
    return StreamPlan(groups, (), batch_size, seed, lanes, window_steps)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Plans small enough to look at every row, with fewer rows than a batch now and then."""
    lanes = draw(st.sampled_from([1, 2, 3, 4, 6]))
    sizes = draw(st.lists(st.integers(1, 25), min_size=1, max_size=6))
    batch_size = lanes * draw(st.integers(1, 4))
    plan = plan_of(sizes, batch_size, lanes, draw(st.integers(1, 5)), draw(st.integers(-3, 99)))
    return Case(plan, draw(st.integers(0, 5)))


def numbered_group(group: RowGroup, plan: StreamPlan) -> tuple[np.ndarray, np.ndarray, None]:
    """A row group whose features are the row's number, as image, and its negative, as text."""
    numbers = np.arange(group.first, group.first + group.rows, dtype=np.float32)[:, None]
    return numbers, -numbers, None


def windows_in_place(plan: StreamPlan, world: World) -> streaming.WindowReader:
    """Windows without a thread, of row groups that are made up."""

    def read(start: Position, passes: int) -> Iterator[Window]:
        lanes = plan.own_lanes(world.rank, world.size)
        with mock.patch.object(streaming, "read_group", numbered_group):
            yield from (
                read_window(plan, number, window, lanes) for number, window in windows_from(plan, start, passes)
            )

    return read


def batches_of(plan: StreamPlan, start: Position, passes: int, world: World | None = None) -> list[Batch]:
    """A worker's batches of made-up row groups."""
    world = world or World()
    return list(Streamed(plan, world, windows_in_place(plan, world)).batches(start, passes))


def rows_of(batches: list[Batch]) -> list[list[int]]:
    """Row numbers of batches."""
    return [batch.rows.tolist() for batch in batches]


def pass_of(case: Case) -> list[list[int]]:
    """Row numbers of the batches of one pass."""
    return rows_of(batches_of(case.plan, Position(case.number), case.number + 1))


@settings(deadline=None, max_examples=60)
@given(cases())
def test_every_lane_reads_equally_many_rows(case):
    plan, order = case.plan, case.plan.order(case.number)
    for window in range(plan.windows):
        wanted = len(plan.steps_of(window)) * plan.batch_size // plan.lanes
        for lane in range(plan.lanes):
            pieces = plan.pieces(order, lane, window)
            assert sum(piece.stop - piece.start for piece in pieces) == wanted
            assert all(0 <= piece.start < piece.stop <= piece.group.rows for piece in pieces)


@settings(deadline=None, max_examples=60)
@given(cases())
def test_a_pass_takes_each_row_at_most_once_in_full_batches(case):
    batches = pass_of(case)
    taken = [row for batch in batches for row in batch]
    assert len(batches) == case.plan.steps == case.plan.total // case.plan.batch_size
    assert {len(batch) for batch in batches} <= {case.plan.batch_size}
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(range(case.plan.total))


@settings(deadline=None, max_examples=60)
@given(cases())
def test_features_are_those_of_their_row_numbers_whatever_the_window(case):
    for batch in batches_of(case.plan, Position(case.number), case.number + 1):
        assert batch.image[:, 0].tolist() == batch.rows.tolist()
        assert (-batch.text[:, 0]).tolist() == batch.rows.tolist()


@settings(deadline=None, max_examples=60)
@given(cases(), st.data())
def test_workers_batches_put_together_are_those_of_one_process(case, data):
    workers = data.draw(st.sampled_from([count for count in range(1, 7) if case.plan.lanes % count == 0]))
    start, passes = Position(case.number), case.number + 1
    each = [rows_of(batches_of(case.plan, start, passes, Worker(rank, workers))) for rank in range(workers)]
    together = [[row for part in parts for row in part] for parts in zip(*each, strict=True)]
    assert together == pass_of(case)


@settings(deadline=None, max_examples=60)
@given(cases(), st.data())
def test_batches_from_any_position_are_the_rest_of_all_batches(case, data):
    plan = case.plan
    start = Position(data.draw(st.integers(0, 3)), data.draw(st.integers(0, max(plan.steps - 1, 0))))
    everything = rows_of(batches_of(plan, Position(), 3))
    assert rows_of(batches_of(plan, start, 3)) == everything[start.passes * plan.steps + start.steps :]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(1, 4))
def test_workers_own_every_lane_once(size, share):
    plan = plan_of([50], size * share, size * share)
    owned = [lane for rank in range(size) for lane in plan.own_lanes(rank, size)]
    assert owned == list(range(plan.lanes))


def test_the_order_is_a_function_of_seed_and_pass():
    def order(seed: int, number: int) -> tuple[int, ...]:
        batches = pass_of(Case(plan_of([20, 30, 50], 10, 2, 3, seed), number))
        return tuple(row for batch in batches for row in batch)

    assert order(1, 0) == order(1, 0)
    assert len({order(seed, number) for seed in range(3) for number in range(3)}) == 9


def test_rows_of_a_window_are_shuffled():
    (batch,) = pass_of(Case(plan_of([64], 64, window_steps=1), 0))
    steps = np.diff(batch) % 64
    assert (steps == 1).mean() < 0.2  # 1/64 by chance


@pytest.mark.parametrize("sizes", [[11], [7, 4], [3, 3, 3, 2]])
def test_every_row_is_taken_in_some_pass(sizes):
    """11 rows in batches of 4: three are left out of every pass, others each time."""
    plan = plan_of(sizes, 4)
    left_out = [frozenset(range(11)) - {row for batch in pass_of(Case(plan, n)) for row in batch} for n in range(40)]
    assert {len(rows) for rows in left_out} == {3}
    assert len(set(left_out)) > 3
    assert not frozenset.intersection(*left_out)
    assert frozenset.union(*left_out) == set(range(11))


@pytest.mark.parametrize("seed", [-1, 20_260_728, 2**63 - 1])
def test_any_seed_gives_an_order(seed):
    assert len(pass_of(Case(plan_of([20], 4, seed=seed), 2))) == 5


@pytest.mark.parametrize(("workers", "lanes"), [([1], 1), ([0], 1), ([2], 2), ([1, 2, 3, 4], 12), (range(2, 5), 12)])
def test_every_number_of_workers_divides_the_lanes(workers, lanes):
    assert lanes_for(workers, 32) == lanes


@pytest.mark.parametrize(("batch_size", "row_bytes", "steps"), [(32, 4096, 512), (1, 1, 2**26), (4096, 2**20, 1)])
def test_a_window_takes_the_steps_whose_rows_fit(batch_size, row_bytes, steps):
    assert window_steps_for(batch_size, row_bytes) == steps


def test_label_lists_become_zeros_and_ones():
    assert multi_hot([[0, 2], [], [1]], 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert multi_hot(None, 3) is None
    assert multi_hot([[]], 0) is None


def kept(rows: Rows, where: str | None, validation: str | None) -> np.ndarray:
    """The conditions of the next test, written down a second time."""
    hashes = id_hash(rows.ids.tolist())
    keep = np.ones(len(rows.ids), bool)
    if where == "split!=query":
        keep &= rows.split != "query"
    if where == "id%10!=0":
        keep &= hashes % np.uint64(10) != 0
    if validation == "id%5=0":
        keep &= hashes % np.uint64(5) != 0
    return keep


@pytest.mark.parametrize("where", [None, "split!=query", "id%10!=0"])
@pytest.mark.parametrize("validation", [None, "id%5=0"])
@pytest.mark.parametrize("window_steps", [1, 3, 100])
def test_files_are_read_as_a_naive_reader_reads_them(features, all_rows, where, validation, window_steps):
    expected = all_rows.chosen(kept(all_rows, where, validation))
    plan = dataclasses.replace(
        open_training_data(features, where, validation).plan(8, 5, [1, 2]), window_steps=window_steps
    )
    taken = []
    for batch in Streamed(plan, World()).batches(Position(), 2):
        rows = batch.rows.numpy()
        np.testing.assert_array_equal(batch.image, expected.image[rows])
        np.testing.assert_array_equal(batch.text, expected.text[rows])
        np.testing.assert_array_equal(batch.labels, expected.labels[rows])
        taken += rows.tolist()
    assert plan.total == len(expected.ids)
    assert len(taken) == 2 * (plan.total // 8) * 8


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_unlabelled_features_of_either_width_are_streamed(tmp_path, kind):
    rows = made_rows(20)
    rows = rows._replace(image=rows.image.astype(kind), text=rows.text.astype(kind))
    data = open_training_data(write_features(tmp_path, rows, [(20, 6)], labelled=False), None, None)
    for batch in Streamed(data.plan(5, 1, [1]), World()).batches(Position(), 1):
        assert batch.labels is None
        np.testing.assert_array_equal(batch.image, rows.image[batch.rows].astype(np.float32))


def test_the_sample_is_bounded_seeded_and_of_the_training_rows(features, all_rows, monkeypatch):
    plan = open_training_data(features, "split!=query", None).plan(8, 5, [1])
    expected = {tuple(row) for row in all_rows.image[all_rows.split != "query"].tolist()}
    whole = Streamed(plan, World()).known()
    assert {tuple(row) for row in whole.image.tolist()} == expected
    assert whole.total == len(expected)
    monkeypatch.setattr(streaming, "SAMPLE_ROWS", 33)
    first, second = Streamed(plan, World()).known(), Streamed(plan, Worker(1, 2)).known()
    assert len(first.image) == len(first.text) == len(first.labels) == 33
    assert first.total == len(expected)
    assert {tuple(row) for row in first.image.tolist()} < expected
    np.testing.assert_array_equal(first.image, second.image)


def spoilt(folder: Path, column: str, value: float) -> str:
    """Features in which one row of the second file is no row of numbers, or of zeros."""
    rows = made_rows(sum(count for count, _ in FILES))
    getattr(rows, column)[FILES[0][0] + 21] = value
    return write_features(folder, rows)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("column", ["image", "text"])
def test_a_row_that_cannot_be_used_stops_the_stream_naming_file_and_id(tmp_path, column, value):
    data = open_training_data(spoilt(tmp_path, column, value), None, None)
    words = "is all zeros" if value == 0 else "is missing, NaN or infinite"
    with pytest.raises(BadInput, match=rf"part-1\.parquet: {column} feature of id 'pair-38' {words}"):
        list(Streamed(data.plan(8, 5, [1]), World()).batches(Position(), 1))


def test_zero_rows_are_streamed_where_they_are_kept(tmp_path):
    data = open_training_data(spoilt(tmp_path, "image", 0.0), None, None, "keep")
    batches = list(Streamed(data.plan(8, 5, [1]), World()).batches(Position(), 1))
    assert len(batches) == 10


def test_a_file_that_goes_away_stops_the_stream(tmp_path):
    data = open_training_data(write_features(tmp_path, made_rows(40), [(20, 20), (20, 20)]), None, None)
    plan = dataclasses.replace(data.plan(4, 5, [1]), window_steps=1)
    batches = Streamed(plan, World()).batches(Position(), 1)
    next(batches)
    for path in tmp_path.glob("*.parquet"):
        path.unlink()
    with pytest.raises(BadInput, match="no such file"):
        list(batches)


def test_what_fails_while_reading_ahead_is_raised_when_its_turn_comes(monkeypatch):
    plan = plan_of([40], 4, window_steps=1)
    failing = XhashError("reading", "a broken disk", "Mend it")

    def read(plan: StreamPlan, number: int, window: int, lanes: range) -> Window:
        if window == 3:
            raise failing
        return made_window(number, window)

    monkeypatch.setattr(streaming, "read_window", read)
    batches = Streamed(plan, World()).batches(Position(), 1)
    assert [next(batches).rows[0].item() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(XhashError, match="a broken disk"):
        next(batches)


def made_window(number: int, window: int) -> Window:
    """A window of one batch of four rows."""
    return Window(number, window, np.zeros((4, 2)), np.zeros((4, 2)), None, np.full(4, window))


def test_the_next_window_is_read_while_this_one_is_used(monkeypatch):
    asked = [threading.Event() for _ in range(10)]

    def read(plan: StreamPlan, number: int, window: int, lanes: range) -> Window:
        asked[window].set()
        return made_window(number, window)

    monkeypatch.setattr(streaming, "read_window", read)
    batches = Streamed(plan_of([40], 4, window_steps=1), World()).batches(Position(), 1)
    next(batches)
    assert asked[1].wait(120)
    assert not asked[3].is_set()


def test_few_windows_are_in_memory_at_once(monkeypatch):
    alive: list[weakref.ref[np.ndarray]] = []

    def read(plan: StreamPlan, number: int, window: int, lanes: range) -> Window:
        found = made_window(number, window)
        alive.append(weakref.ref(found.image))
        return found

    monkeypatch.setattr(streaming, "read_window", read)
    batches = Streamed(plan_of([400], 4, window_steps=1), World()).batches(Position(), 1)
    most = max(sum(reference() is not None for reference in alive) for _ in batches)
    assert len(alive) == 100
    assert most <= 3


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_stream_that_is_left_early_leaves_no_thread(features, taken):
    before = set(threading.enumerate())
    plan = dataclasses.replace(open_training_data(features, None, None).plan(8, 5, [1]), window_steps=1)
    batches = Streamed(plan, World()).batches(Position(), 50)
    for _ in range(taken):
        next(batches)
    batches.close()
    assert set(threading.enumerate()) <= before


def test_a_stream_that_ends_leaves_no_thread(features):
    before = set(threading.enumerate())
    plan = open_training_data(features, None, None).plan(8, 5, [1])
    assert len(list(Streamed(plan, World()).batches(Position(), 2))) == 20
    assert set(threading.enumerate()) <= before


def test_rows_without_a_list_of_labels_have_none_of_them(tmp_path):
    table = pa.table(
        {
            "id": ["a", "b", "c"],
            "image": from_matrix(np.ones((3, 2), np.float32)),
            "text": from_matrix(np.ones((3, 2), np.float32)),
            "labels": pa.array([[1], None, []], pa.list_(pa.int32())),
        }
    )
    pq.write_table(table, tmp_path / "part.parquet")
    (batch,) = Streamed(open_training_data(str(tmp_path), None, None).plan(3, 1, [1]), World()).batches(Position(), 1)
    assert batch.labels[batch.rows.argsort()].tolist() == [[0, 1], [0, 0], [0, 0]]
