"""Plans: every row in one unit, the same cut on every machine, old units untouched when a corpus grows."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xhash_ray.corpus.sources import Part
from xhash_ray.errors import Mismatch
from xhash_ray.pipeline.codes import CodePlan, plan_codes, plan_from_json
from xhash_ray.pipeline.loading import part_tasks
from xhash_ray.pipeline.plan import (
    Plan,
    check_metadata,
    compare,
    cut,
    extended_classes,
    from_json,
    joined,
    rows_for,
)


def parts_of(*rows: int, first: int = 0) -> list[Part]:
    return [Part(first + i, f"file-{first + i}", f"v{first + i}", (0,), 0, count) for i, count in enumerate(rows)]


def plan_of(parts: list[Part], units) -> Plan:
    schema = pa.schema([("split", pa.string()), ("year", pa.int64())])
    return Plan({"kind": "features"}, tuple(parts), tuple(units), ("a", "b"), schema, {0: [1, 2]})


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(1, 20), st.integers(0, 5))
def test_every_row_is_in_one_unit_and_units_are_about_equal(rows, size, first):
    units = cut(parts_of(*rows), size, first)
    assert [unit.number for unit in units] == list(range(first, first + len(units)))
    covered = [(unit.part, row) for unit in units for row in range(unit.start, unit.stop)]
    assert covered == [(part, row) for part, count in enumerate(rows) for row in range(count)]
    for part in range(len(rows)):
        lengths = [unit.pairs for unit in units if unit.part == part]
        assert all(length <= size for length in lengths)
        assert not lengths or max(lengths) - min(lengths) <= 1


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 3), st.integers(0, 30)), max_size=8), st.integers(1, 20)
)
def test_code_units_are_full_but_for_the_last_and_span_files(groups, size):
    units = plan_codes(groups, size)
    assert all(unit.pairs == size for unit in units[:-1])
    covered = [
        (piece.source, piece.group, row)
        for unit in units
        for piece in unit.pieces
        for row in range(piece.start, piece.stop)
    ]
    assert covered == [(source, group, row) for source, group, count in groups for row in range(count)]


def test_plans_survive_being_stored():
    plan = plan_of(parts_of(7, 3), cut(parts_of(7, 3), 4))
    assert from_json(json.loads(json.dumps(plan.as_json()))) == plan
    made = CodePlan({"kind": "codes"}, {"x": "v"}, tuple(plan_codes([("x", 0, 5), ("y", 1, 4)], 4)))
    assert plan_from_json(json.loads(json.dumps(made.as_json()))) == made


def test_units_hold_as_many_rows_as_their_images_leave_room_for():
    assert rows_for((3, 64, 64)) == rows_for(None) == 1024
    assert rows_for((3, 336, 336)) * 3 * 336 * 336 <= 192 * 2**20
    assert rows_for((3, 100_000, 100_000)) == 1


def test_a_corpus_that_has_grown_adds_units_after_the_old():
    old = plan_of(parts_of(5, 5), cut(parts_of(5, 5), 3))
    now = [*parts_of(4, first=9), *parts_of(5, 5)]  # the new file sorts before the old
    new = compare(old, now, "corpus")
    assert [(part.number, part.source) for part in new] == [(2, "file-9")]
    more = plan_of(new, cut(new, 3, 1 + old.units[-1].number))
    both = joined([old, more])
    assert both.units[: len(old.units)] == old.units
    assert both.pairs == 14


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (parts_of(5), "file-1 is gone"),
        ([parts_of(5)[0], Part(1, "file-1", "v2", (0,), 0, 5)], r"file-1 has changed \(it was v1, it is v2\)"),
    ],
)
def test_a_changed_corpus_is_refused_by_file(now, message):
    with pytest.raises(Mismatch, match=message):
        compare(plan_of(parts_of(5, 5), []), now, "corpus")


def test_labels_keep_their_numbers_and_columns_their_types():
    assert extended_classes(("b", "d"), {"a", "b", "c"}) == ("b", "d", "a", "c")
    before = pa.schema([("split", pa.string()), ("year", pa.int64())])
    check_metadata(before, pa.schema([("split", pa.int64())]), "corpus")  # text holds anything
    with pytest.raises(Mismatch, match="column 'year' is double in the new files and int64"):
        check_metadata(before, pa.schema([("year", pa.float64())]), "corpus")
    with pytest.raises(Mismatch, match="column 'place' is string in the new files and absent"):
        check_metadata(before, pa.schema([("place", pa.string())]), "corpus")


def test_only_parts_with_something_left_are_read():
    plan = plan_of(parts_of(6, 3), cut(parts_of(6, 3), 3))
    (task,) = part_tasks(plan, {0, 2})
    assert (task.part.number, [unit.number for unit in task.units], task.duplicates) == (0, [1], {1, 2})
    assert part_tasks(plan, {0, 1, 2}) == []
