"""Encoding that goes on, grows, and does without stored features."""

from __future__ import annotations

import pyarrow as pa
import pytest

from xhash_ray import options
from xhash_ray.errors import BadOption, Mismatch, XhashError
from xhash_ray.runtime.encoding import encode
from xhash_ray.runtime.extraction import extract
from xhash_ray.runtime.verifying import verify
from xhash_ray.storage import tables


def codes_at(uri) -> pa.Table:
    return tables.read_table(tables.open_tables(str(uri), "codes"))


def test_straight_from_a_corpus_come_the_codes_that_features_give(run, tmp_path):
    out = str(tmp_path / "codes")
    extract(
        options.Extract(
            corpus=run.corpus, out=str(tmp_path / "f"), model="xhash-tiny", pretrained=run.weights, actors=1
        )
    )
    encode(options.Encode(features=str(tmp_path / "f"), model=run.model, out=str(tmp_path / "two-steps")))
    result = encode(options.Encode(from_corpus=run.corpus, model=run.model, out=out, actors=1))
    assert codes_at(out).equals(codes_at(tmp_path / "two-steps"))
    assert (result["bits"], result["input_pairs"]) == (32, result["pairs"])
    assert not list(tmp_path.glob("codes/*feature*"))
    assert verify(options.Verify(codes=out))["pairs"] == {"codes": result["pairs"]}


def test_codes_are_verified_through_features_to_the_corpus(run):
    result = verify(options.Verify(codes=run.codes))
    assert set(result["pairs"]) == {"codes", "features"}
    assert result["checked"] == [f"{run.codes} against {run.features}", f"{run.features} against {run.corpus}"]


def test_a_lost_code_and_a_changed_file_are_found(run, tmp_path):
    encode(options.Encode(features=run.features, model=run.model, out=str(tmp_path / "codes")))
    (part,) = (tmp_path / "codes").glob("part-*")
    table = tables.read_file(str(part))
    tables.write_table(str(part), table.slice(1))
    with pytest.raises(XhashError, match=r"is not what was written.*1 ids are missing in codes"):
        verify(options.Verify(codes=str(tmp_path / "codes")))


def test_the_same_command_again_finds_nothing_to_do(run):
    again = options.Encode(features=run.features, model=run.model, out=run.codes, rows_per_unit=90)
    result = encode(again)
    assert result["done_before"] == result["pairs"]
    with pytest.raises(Mismatch, match=r"finished results with other settings is there \(keep_features: False there"):
        encode(
            options.Encode(features=run.features, model=run.model, out=run.codes, rows_per_unit=90, keep_features=True)
        )


def test_features_that_have_grown_are_added(run, tmp_path):
    folder, out = tmp_path / "features", str(tmp_path / "codes")
    known = tables.read_table(tables.open_tables(run.features, "features"))
    folder.mkdir()
    tables.write_table(str(folder / "b.parquet"), known.slice(0, 100))
    encode(options.Encode(features=str(folder), model=run.model, out=out, rows_per_unit=30))
    tables.write_table(str(folder / "a.parquet"), known.slice(100, 50))
    with pytest.raises(Mismatch, match="1 new files"):
        encode(options.Encode(features=str(folder), model=run.model, out=out, rows_per_unit=30))
    result = encode(options.Encode(features=str(folder), model=run.model, out=out, rows_per_unit=30, extend=True))
    assert (result["pairs"], result["done_before"]) == (150, 100)
    assert codes_at(out)["id"].to_pylist() == known["id"].to_pylist()[:150]
    tables.write_table(str(folder / "b.parquet"), known.slice(0, 99))
    with pytest.raises(Mismatch, match=r"b\.parquet has changed"):
        encode(options.Encode(features=str(folder), model=run.model, out=out, rows_per_unit=30, extend=True))


@pytest.mark.parametrize("given", [{}, {"features": "x", "from_corpus": "y"}])
def test_one_input_has_to_be_named(run, tmp_path, given):
    with pytest.raises(BadOption, match="of --features and --from-corpus"):
        encode(options.Encode(model=run.model, out=str(tmp_path / "out"), **given))
