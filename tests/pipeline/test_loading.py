"""Parts are read once, units come out whole, and a store that breaks off is asked again from where it was."""

import pytest

from tests.pipeline.sources import InMemory, pair, reject
from xhash_ray.corpus.pairs import Pair
from xhash_ray.errors import Mismatch
from xhash_ray.pipeline.loading import PartTask, load
from xhash_ray.pipeline.plan import cut

ROWS = [pair(f"p{i}", i) if i % 4 else reject(f"p{i}", i) for i in range(10)]


def task_of(source, size=3, wanted=None, duplicates=()):
    (part,) = source.parts(size)
    units = [unit for unit in cut([part], size) if wanted is None or unit.number in wanted]
    return PartTask(part, tuple(units), frozenset(duplicates))


def ids_of(found):
    return [[row.id for row in sorted([*each.pairs, *each.rejects], key=lambda row: row.row)] for each in found]


def test_every_row_is_a_pair_or_a_reject_of_its_unit():
    source = InMemory(ROWS)
    found = list(load(task_of(source), source))
    assert ids_of(found) == [["p0", "p1", "p2"], ["p3", "p4", "p5"], ["p6", "p7"], ["p8", "p9"]]
    assert all(isinstance(row, Pair) for each in found for row in each.pairs)
    size_bytes = sum(len(row.image) + len(row.texts[0]) for row in ROWS if isinstance(row, Pair))
    assert sum(each.bytes_read for each in found) == size_bytes
    assert source.readings == 1


def test_units_that_are_done_are_passed_over():
    source = InMemory(ROWS)
    assert ids_of(load(task_of(source, wanted={1, 3}), source)) == [["p3", "p4", "p5"], ["p8", "p9"]]


def test_a_row_that_repeats_an_id_is_a_reject_that_says_so():
    source = InMemory(ROWS)
    found = next(iter(load(task_of(source, duplicates=(1,)), source)))
    assert [row.id for row in found.pairs] == ["p2"]
    assert [(row.id, row.row, row.stage, row.kind) for row in found.rejects] == [
        ("p0", 0, "read", "missing text"),
        ("p1", 1, "identity", "duplicate id"),
    ]


@pytest.mark.parametrize("breaks", [{1: 0}, {1: 4, 2: 2, 3: 9}])
def test_a_store_that_breaks_off_gives_the_same_rows(breaks):
    source = InMemory(ROWS, fails=breaks)
    assert ids_of(load(task_of(source), source)) == ids_of(load(task_of(InMemory(ROWS)), InMemory(ROWS)))
    assert source.readings == 1 + len(breaks)


def test_a_file_that_lost_rows_meanwhile_is_an_error_and_not_fewer_pairs():
    source = InMemory(ROWS)
    task = task_of(source)
    source.rows = (ROWS[:4],)
    with pytest.raises(Mismatch, match="4 rows, 10 were planned"):
        list(load(task, source))
