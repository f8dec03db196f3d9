"""Reports on disk: the CSV says what was reported, and event files say the same."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboardX.proto.event_pb2 import Event

from xhash_ray.learning.history import CSV_NAME, EVENTS_FOLDER, History, parse_csv, to_csv

NAMES = st.sampled_from(["loss", "first.error", "a,b", "validation_map", 'with "quotes"'])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.dictionaries(NAMES, NUMBERS), max_size=5))
def test_reports_survive_the_csv(reports):
    rows = [{"epoch": epoch + 1.0, **report} for epoch, report in enumerate(reports)]
    found = parse_csv(to_csv(rows))
    assert len(found) == len(rows)
    for row, wanted in zip(found, rows, strict=True):
        assert row == pytest.approx(wanted, rel=1e-7, abs=0)


def test_a_number_that_an_epoch_does_not_have_is_empty():
    text = to_csv([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "validation_map": 0.75}])
    assert text == "epoch,loss,validation_map\n1,0.5,\n2,0.25,0.75\n"


def test_an_epoch_that_is_reported_again_replaces_the_old_row_and_what_came_after(tmp_path):
    history = History(str(tmp_path))
    for epoch in range(4):
        history.add(epoch, {"loss": float(epoch)})
    history.add(1, {"loss": 9.0})
    assert history.rows == [{"epoch": 1, "loss": 0.0}, {"epoch": 2, "loss": 9.0}]


def test_reports_of_a_checkpoint_are_continued(tmp_path):
    history = History(str(tmp_path))
    history.load([{"loss": 3.0}, {"loss": 2.0}])
    history.add(2, {"loss": 1.0})
    history.close()
    assert (tmp_path / CSV_NAME).read_text() == "epoch,loss\n1,3\n2,2\n3,1\n"


@pytest.mark.parametrize(("interval_s", "written"), [(0.0, 3), (1000.0, 1)])
def test_the_csv_is_written_now_and_then_and_at_the_end(tmp_path, interval_s, written):
    history = History(str(tmp_path), interval_s=interval_s)
    for epoch in range(3):
        history.add(epoch, {"loss": 0.5})
    assert len((tmp_path / CSV_NAME).read_text().splitlines()) == 1 + written
    history.close()
    assert len((tmp_path / CSV_NAME).read_text().splitlines()) == 4


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """Every scalar of the event files in a folder, read as TensorBoard's record format lays them down."""
    found: dict[tuple[str, int], float] = {}
    for path in folder.iterdir():
        content, offset = path.read_bytes(), 0
        while offset < len(content):
            (length,) = struct.unpack_from("<Q", content, offset)
            event = Event.FromString(content[offset + 12 : offset + 12 + length])
            offset += 16 + length  # length, its checksum, the event, its checksum
            for value in event.summary.value:
                assert (value.tag, event.step) not in found
                found[value.tag, event.step] = value.simple_value
        assert offset == len(content)
    return found


def test_event_files_hold_every_number_of_every_epoch(tmp_path):
    history = History(str(tmp_path))
    history.add(0, {"loss": 0.5, "first.error": 2.0})
    history.add(1, {"loss": 0.25, "first.error": 1.0, "validation_map": 0.75})
    history.close()
    assert scalars(tmp_path / EVENTS_FOLDER) == {
        ("loss", 1): 0.5,
        ("first/error", 1): 2.0,
        ("loss", 2): 0.25,
        ("first/error", 2): 1.0,
        ("validation_map", 2): 0.75,
    }


def test_curves_of_a_training_that_was_replaced_are_gone(tmp_path):
    for loss in (0.5, 0.25):
        history = History(str(tmp_path))
        history.add(0, {"loss": loss})
        history.close()
        (path,) = (tmp_path / EVENTS_FOLDER).iterdir()
        path.rename(path.with_name(f"{path.name}.{loss}"))  # the clock may give the next one the same name
    assert scalars(tmp_path / EVENTS_FOLDER) == {("loss", 1): 0.25}
