"""Windows through Ray Data are the windows that were planned, whole and in order, and failures come as they were."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.learning.conftest import FILES, made_rows, write_features
from xhash_ray.errors import BadInput
from xhash_ray.learning.checkpoint import Checkpoints
from xhash_ray.learning.data import open_training_data
from xhash_ray.learning.sources import Position
from xhash_ray.learning.streaming import StreamPlan, Window, read_window, windows_from
from xhash_ray.methods.base import World
from xhash_ray.runtime import streaming
from xhash_ray.runtime.streaming import OrderedWindows, position_of, shard_windows, to_table, to_window

ROWS = sum(count for count, _ in FILES)


def plan_of(folder: Path, bad_row: int | None = None) -> StreamPlan:
    """A stream in two lanes, two steps a window, of files with a row that is no number."""
    rows = made_rows(ROWS)
    if bad_row is not None:
        rows.image[bad_row] = np.nan
    plan = open_training_data(write_features(folder / "features", rows), "split!=query", None).plan(16, 5, [1, 2])
    return dataclasses.replace(plan, window_steps=2)


def windows_of_worker(
    plan: StreamPlan, folder: Path, rank: int, size: int, monkeypatch: pytest.MonkeyPatch, passes: int = 2
) -> list[Window]:
    """What one of several workers is given, from the last checkpoint in a folder on."""
    config = OrderedWindows(plan, passes, Checkpoints(str(folder / "run"), {}, World()))
    shards = config.configure({"train": None}, size)
    monkeypatch.setattr(streaming.ray.train, "get_dataset_shard", shards[rank].__getitem__)
    return list(shard_windows(Position(), passes))


def assert_same(found: list[Window], wanted: list[Window]) -> None:
    """Equal windows in equal order."""
    assert [window[:2] for window in found] == [window[:2] for window in wanted]
    for window, other in zip(found, wanted, strict=True):
        for array, expected in zip(window[2:], other[2:], strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(("rank", "size"), [(0, 1), (1, 2)])
def test_every_worker_is_given_the_windows_of_its_lanes_in_order(ray_cluster, tmp_path, rank, size, monkeypatch):
    plan = plan_of(tmp_path)
    wanted = [read_window(plan, *place, plan.own_lanes(rank, size)) for place in windows_from(plan, Position(), 2)]
    assert len(wanted) == 4
    assert_same(windows_of_worker(plan, tmp_path, rank, size, monkeypatch), wanted)


def test_windows_begin_with_the_one_that_the_last_checkpoint_is_in(ray_cluster, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state-000001-00000003.safetensors").write_bytes(b"")
    plan = plan_of(tmp_path)
    found = windows_of_worker(plan, tmp_path, 0, 1, monkeypatch)
    assert [window[:2] for window in found] == [(1, 2)]


def test_a_window_larger_than_a_block_stays_whole(ray_cluster, tmp_path, monkeypatch):
    from ray.data import DataContext

    plan = plan_of(tmp_path)
    wanted = [read_window(plan, *place, plan.own_lanes(0, 1)) for place in windows_from(plan, Position(), 2)]
    monkeypatch.setattr(DataContext.get_current(), "target_max_block_size", to_table(wanted[0]).nbytes // 4)
    assert_same(windows_of_worker(plan, tmp_path, 0, 1, monkeypatch), wanted)


def test_a_row_that_is_no_number_stops_the_stream_naming_file_and_id(ray_cluster, tmp_path, monkeypatch):
    plan = plan_of(tmp_path, bad_row=40)
    with pytest.raises(BadInput, match=r"part-1\.parquet: image feature of id 'pair-40' is missing, NaN") as raised:
        windows_of_worker(plan, tmp_path, 0, 1, monkeypatch)
    assert type(raised.value) is BadInput


def test_nothing_is_left_to_read_after_the_last_pass(ray_cluster, tmp_path, monkeypatch):
    plan = plan_of(tmp_path)
    assert windows_of_worker(plan, tmp_path, 0, 1, monkeypatch, passes=0) == []


@pytest.mark.parametrize("labelled", [False, True])
def test_a_window_survives_being_a_table(labelled):
    generator = np.random.default_rng(1)
    image, text = (generator.standard_normal((6, length)).astype(np.float32) for length in (3, 2))
    labels = generator.integers(0, 2, (6, 4)).astype(np.uint8) if labelled else None
    window = Window(3, 7, image, text, labels, np.arange(6))
    found = to_window(to_table(window))
    assert (found.passes, found.first_step) == (3, 7)
    for array, expected in zip(found[2:], window[2:], strict=True):
        assert (array is None) == (expected is None)
        np.testing.assert_array_equal(array, expected)


def test_the_position_of_a_checkpoint_is_its_name():
    assert position_of("state-000012-00000345.safetensors") == Position(12, 345)
    assert position_of(None) == Position()
