"""The commit log: a unit counts when its manifest is there, and the dataset lists exactly what the manifests name."""

import pyarrow as pa
import pytest

from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.storage import tables, writing
from xhash_ray.storage import uri as places
from xhash_ray.storage.unit_log import UnitFacts, UnitLog, open_log, run_of
from xhash_ray.storage.writing import REJECTS

SETTINGS = {"kind": "features", "captions": "mean", "columns": {"text": "caption"}}


def table_of(*ids: str) -> pa.Table:
    return pa.table({"id": list(ids)})


def begun(folder, settings=SETTINGS, overwrite=False) -> UnitLog:
    log = open_log(str(folder), "features", settings, overwrite)
    if not log.plans():
        log.add_plan(0, {"identity": settings})
    writing.begin(writing.Claim(log.uri, log.run))
    return log


def done(log: UnitLog, unit: int, *ids: str, rejects: tuple[str, ...] = ()) -> UnitFacts:
    aside = log.write_rejects(unit, table_of(*rejects))
    kinds = {"read: missing text": len(rejects)} if rejects else {}
    return log.commit(UnitFacts(unit, len(ids) + len(rejects), log.write_part(unit, table_of(*ids)), aside, kinds))


def test_the_same_settings_find_what_was_done(tmp_path):
    log = begun(tmp_path)
    made = [done(log, 1, "c"), done(log, 0, "a", "b", rejects=("x",))]
    again = open_log(str(tmp_path), "features", dict(reversed(SETTINGS.items())), False)
    assert again == log
    assert again.done() == {1: made[0], 0: made[1]}


def test_a_part_that_was_written_but_not_committed_does_not_count_and_is_swept_up(tmp_path):
    log = begun(tmp_path)
    lost = log.write_part(0, table_of("of a worker that died"))
    lost_rejects = log.write_rejects(0, table_of("of the same"))
    assert log.done() == {}
    log.finish([done(log, 0, "a", rejects=("x",))], {"kind": "features"})
    found = tables.open_tables(str(tmp_path), "features")
    assert tables.read_table(found)["id"].to_pylist() == ["a"]
    assert not (tmp_path / lost.name).exists()
    assert not (tmp_path / REJECTS / lost_rejects.name).exists()


def test_of_two_workers_that_did_a_unit_one_counts_and_its_file_stays(tmp_path):
    log = begun(tmp_path)
    first, second = done(log, 0, "a"), done(log, 0, "a'")
    assert second == first
    log.finish([second], {"kind": "features"})
    assert tables.read_table(tables.open_tables(str(tmp_path), "features"))["id"].to_pylist() == ["a"]


def test_a_worker_believed_dead_replaces_nothing(tmp_path):
    log = begun(tmp_path)
    counted = done(log, 0, "a")
    log.write_part(0, table_of("b"))
    content = places.read_bytes(places.join(log.uri, counted.part.name))
    assert tables.parse(content)["id"].to_pylist() == ["a"]


def test_parts_stand_in_the_order_of_their_units_and_empty_units_have_none(tmp_path):
    log = begun(tmp_path)
    units = [done(log, 2, "c"), done(log, 0, "a"), done(log, 1, rejects=("x", "y"))]
    log.finish(units, {"kind": "features"})
    assert tables.read_table(tables.open_tables(str(tmp_path), "features"))["id"].to_pylist() == ["a", "c"]
    rejects = tables.open_tables(str(tmp_path / REJECTS), "rejects")
    assert tables.read_table(rejects)["id"].to_pylist() == ["x", "y"]


def test_readers_refuse_what_is_not_finished(tmp_path):
    done(begun(tmp_path), 0, "a")
    with pytest.raises(BadInput, match="did not finish"):
        tables.open_tables(str(tmp_path), "features")


def test_other_settings_are_refused_by_name_while_unfinished_and_when_finished(tmp_path):
    log = begun(tmp_path)
    other = SETTINGS | {"captions": "first", "columns": {"text": "title"}}
    with pytest.raises(
        Mismatch, match=r"unfinished run.*captions: mean there, first here.*columns.text: caption there"
    ):
        open_log(str(tmp_path), "features", other, False)
    log.finish([done(log, 0, "a")], {"kind": "features"})
    with pytest.raises(Mismatch, match=r"finished results.*captions: mean there, first here"):
        open_log(str(tmp_path), "features", other, False)


def test_overwriting_begins_anew_and_leaves_the_old_until_it_is_done(tmp_path):
    first = begun(tmp_path)
    first.finish([done(first, 0, "old")], {"kind": "features"})
    second = begun(tmp_path, overwrite=True)
    assert second != first
    assert second.done() == {}
    made = done(second, 0, "new")
    assert tables.read_table(tables.open_tables(str(tmp_path), "features"))["id"].to_pylist() == ["old"]
    assert begun(tmp_path, overwrite=True) == second  # the same command goes on with what it began
    second.finish([made], {"kind": "features"})
    assert tables.read_table(tables.open_tables(str(tmp_path), "features"))["id"].to_pylist() == ["new"]
    assert not (tmp_path / "_log" / first.run).exists()


def test_results_without_a_log_are_not_replaced_unasked(tmp_path):
    claimed = writing.claim(str(tmp_path), "features", False)
    writing.commit(str(tmp_path), [tables.write_table(claimed.part(0), table_of("a"))], {"kind": "features"})
    with pytest.raises(BadInput, match="finished results are there"):
        open_log(str(tmp_path), "features", SETTINGS, False)
    assert open_log(str(tmp_path), "features", SETTINGS, True).run == f"{run_of(SETTINGS)}-0"


def test_rejects_of_an_overwritten_run_are_no_dataset_any_more(tmp_path):
    first = begun(tmp_path)
    first.finish([done(first, 0, "a", rejects=("x",))], {"kind": "features"})
    second = begun(tmp_path, overwrite=True)
    second.finish([done(second, 0, "a")], {"kind": "features"})
    assert not list((tmp_path / REJECTS).glob("*"))


def test_two_runs_cannot_plan_differently(tmp_path):
    log = begun(tmp_path)
    log.add_plan(0, {"identity": SETTINGS})
    with pytest.raises(Mismatch, match="another run is planning"):
        log.add_plan(0, {"identity": {"kind": "else"}})
