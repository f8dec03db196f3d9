"""Changes by an admin: each is a commit that is served at once; what cannot be done changes nothing."""

import numpy as np
import pyarrow as pa
import pytest

from tests.index.samples import codes_at, rows_of
from tests.serving.test_http import ADMIN, READ, ask, found, served  # noqa: F401 (fixtures)
from xhash_ray.errors import Mismatch
from xhash_ray.index import generations, life
from xhash_ray.options import IndexAdd, IndexCompact

HEADERS = {"Authorization": f"Bearer {ADMIN}"}


def change(client, verb: str, **body):
    """One admin call."""
    return client.post(f"/v1/admin/{verb}", json=body, headers=HEADERS)


def pair(name: str, code: str = "0102", **metadata) -> dict:
    """A pair given by its codes."""
    return {"id": name, "image_code": code, "text_code": code, "metadata": metadata}


def test_pairs_are_added_found_replaced_deleted_and_rolled_back(served):  # noqa: F811
    made = change(served, "add", pairs=[pair("new/1", number=7), {"id": "new2", "text": "0102", "image_code": "ffff"}])
    assert made.json() == {"generation": 2, "rows": 42}
    answer = ask(served, code="0102", target="text", k=42)
    assert answer["generation"] == 2
    hits = {hit["id"]: hit for hit in answer["hits"]}
    assert (hits["new/1"]["distance"], hits["new/1"]["metadata"]) == (0, {"number": 7})
    assert (hits["new2"]["distance"], hits["new2"]["metadata"]) == (0, {"number": None})
    assert change(served, "add", pairs=[pair("new2", "0000")]).status_code == 400, "it is there"
    assert change(served, "add", pairs=[pair("new2", "0000")], replace=True).json() == {"generation": 3, "rows": 42}
    assert served.get("/v1/items/new2").json()["image_code"] == "0000"
    assert change(served, "delete", ids=["new/1", "pair-3"]).json() == {"generation": 4, "rows": 40}
    assert served.get("/v1/items/pair-3").status_code == 404
    assert change(served, "delete", ids=["pair-3"]).status_code == 400
    assert change(served, "delete", ids=["pair-3"], ignore_missing=True).json()["generation"] == 4
    assert change(served, "rollback", to=1).json() == {"generation": 5, "rows": 40}
    assert served.get("/v1/items/pair-3").status_code == 200
    assert change(served, "rollback").json() == {"generation": 6, "rows": 40}
    assert generations.current(served.index).number == 6


def test_segments_that_stay_are_not_loaded_again(served):  # noqa: F811
    before = [backend.server.holder.group(1).shard.segments for backend in served.backends]
    change(served, "add", pairs=[pair("new")])
    change(served, "delete", ids=["pair-0"])
    for backend, old in zip(served.backends, before, strict=True):
        now = {segment.facts.name: segment for segment in backend.server.holder.group(3).shard.segments}
        for segment in old:
            assert now[segment.facts.name].codes["image"] is segment.codes["image"]
    assert "pair-0" not in [name for _, name in found(ask(served, code="0102", k=100))]


@pytest.mark.parametrize(
    ("verb", "body", "status", "message"),
    [
        ("add", {"pairs": []}, 422, "at least 1"),
        ("add", {"pairs": [{"id": "x", "text": "0102"}]}, 400, "0 of its image side"),
        ("add", {"pairs": [{**pair("x"), "image": "aaaa"}]}, 400, "2 of its image side"),
        ("add", {"pairs": [pair("x", "00")]}, 400, "8 bits"),
        ("add", {"pairs": [pair("x", nmber=1)]}, 400, "Did you mean 'number'"),
        ("add", {"pairs": [pair("x", number="one")]}, 400, "Give values of int32"),
        ("add", {"pairs": [pair("x", number=2**40)]}, 400, "Give values of int32"),
        ("add", {"pairs": [pair("x"), pair("x")]}, 400, "occurs twice"),
        ("add", {"pairs": [{"id": "x", "image_code": "0102", "text": " "}]}, 400, "an empty text"),
        ("delete", {"ids": ["nobody"]}, 400, "not there"),
        ("delete", {"ids": ["pair-1", "pair-1"]}, 400, "given twice"),
        ("rollback", {"to": 9}, 400, "no generation 9"),
        ("rollback", {}, 400, "it is the first"),
        ("activate", {"generation": 10**30}, 422, "less than or equal"),
    ],
)
def test_what_cannot_be_changed_is_refused_and_changes_nothing(served, verb, body, status, message):  # noqa: F811
    response = change(served, verb, **body)
    error = response.json()["error"]
    assert response.status_code == status, error
    assert message in error["found"] + error["do"]
    assert generations.numbers(served.index) == [1]
    assert ask(served, code="0102")["generation"] == 1


@pytest.mark.parametrize("verb", ["add", "delete", "rollback", "activate"])
def test_only_admins_change(served, verb):  # noqa: F811
    for key, status in ((READ, 403), ("none" * 5, 401)):
        response = served.post(f"/v1/admin/{verb}", json={}, headers={"Authorization": f"Bearer {key}"})
        assert response.status_code == status


def test_another_writer_in_between_is_said(served, tmp_path, model, monkeypatch):  # noqa: F811
    codes = codes_at(tmp_path / "more", rows_of(40, 60, 1), model.fingerprint)
    put = life.put_rows

    def overtaken(base, rows, what):
        monkeypatch.setattr(life, "put_rows", put)
        life.add(IndexAdd(index=served.index, codes=codes))
        return put(base, rows, what)

    monkeypatch.setattr(life, "put_rows", overtaken)
    assert change(served, "add", pairs=[pair("new")]).status_code == 409
    assert change(served, "add", pairs=[pair("new")]).json() == {"generation": 3, "rows": 61}


def test_an_index_with_other_columns_added_can_be_compacted(served, tmp_path, model):  # noqa: F811
    rows = rows_of(40, 45, 1).append_column("colour", [["red"] * 5]).select([4, 3, 2, 0, 1])
    life.add(IndexAdd(index=served.index, codes=codes_at(tmp_path / "more", rows, model.fingerprint)))
    assert change(served, "add", pairs=[pair("new")]).json()["rows"] == 46
    life.compact(IndexCompact(index=served.index))
    assert change(served, "activate").json()["rows"] == 46
    found_red = found(ask(served, code="0102", k=100, filter="colour = 'red'"))
    assert len(found_red) == 5


@pytest.mark.parametrize(("numbers", "fits"), [(pa.int64(), True), (pa.string(), False)])
def test_a_column_of_another_type_is_joined_or_refused(served, tmp_path, model, numbers, fits):  # noqa: F811
    rows = rows_of(40, 45, 1)
    other = pa.array([each.as_py() for each in rows["number"]], pa.int64()).cast(numbers)
    codes = codes_at(tmp_path / "more", rows.set_column(3, "number", other), model.fingerprint)
    if not fits:
        with pytest.raises(Mismatch, match="column 'number' is string, in the index int32"):
            life.add(IndexAdd(index=served.index, codes=codes))
        assert generations.numbers(served.index) == [1]
        return
    life.add(IndexAdd(index=served.index, codes=codes))
    for _ in range(2):
        assert change(served, "activate").json()["rows"] == 45
        assert len(ask(served, code="0102", k=100, filter="number >= 0")["hits"]) == 45
        life.compact(IndexCompact(index=served.index))


def test_what_is_committed_and_not_served_is_said(served):  # noqa: F811
    served.backends[1].lost = True
    error = change(served, "add", pairs=[pair("new")])
    assert error.status_code == 500
    assert "do not repeat it" in error.json()["error"]["do"]
    served.backends[1].lost = False
    assert change(served, "activate").json() == {"generation": 2, "rows": 41}


def test_filters_see_rows_that_came_without_a_column(served):  # noqa: F811
    change(served, "add", pairs=[pair("new")])
    names = [name for _, name in found(ask(served, code="0102", k=100, filter="exists(number)"))]
    assert "new" not in names
    assert np.isin(["pair-1"], names).all()
