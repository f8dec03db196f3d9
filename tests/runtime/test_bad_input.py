"""What cannot be used is said at once, before any model is loaded and anything is written."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from xhash_ray import options
from xhash_ray.errors import BadInput, Mismatch, Unreachable, XhashError
from xhash_ray.runtime import extraction
from xhash_ray.runtime.encoding import encode
from xhash_ray.storage import tables

SOON_S = 120.0  # that no model is loaded is seen otherwise; a store that is not asked for minutes, by this


@pytest.fixture
def no_model(monkeypatch):
    """Fails whoever loads one."""

    def load(*args, **kwargs):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("xhash_ray.features.clip.ClipEncoder", load)


def refused(kind, message, **given) -> float:
    """Seconds until an extraction is refused."""
    asked = {
        "corpus": "s3://xhash/corpus",
        "out": "s3://xhash/out",
        "model": "ViT-B-32",
        "pretrained": "openai",
        **given,
    }
    began_s = time.monotonic()
    with pytest.raises(kind, match=message):
        extraction.extract(options.Extract(**asked))
    return time.monotonic() - began_s


@pytest.fixture
def small_corpus(tmp_path) -> str:
    """Three rows that nobody will read."""
    tables.write_table(str(tmp_path / "corpus" / "a.parquet"), pa.table({"id": ["a"], "text": ["t"], "image": [b"x"]}))
    return str(tmp_path / "corpus")


def test_a_corpus_in_a_bucket_that_is_not_there(s3_endpoint, no_model, tmp_path):
    assert refused(BadInput, "no such file, folder or bucket", corpus="s3://nobody/x", out=str(tmp_path / "o")) < SOON_S


def test_results_to_a_bucket_that_is_not_there(s3_endpoint, no_model, small_corpus):
    assert refused(XhashError, "s3://nobody/out.*bucket", corpus=small_corpus, out="s3://nobody/out") < SOON_S


def test_an_endpoint_that_nobody_listens_at(s3_endpoint, no_model, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert refused(XhashError, "(?i)connect", corpus="s3://xhash/corpus", out=str(tmp_path / "out")) < SOON_S


def test_files_that_differ_in_schema(no_model, small_corpus, tmp_path):
    other = pa.table({"id": [1], "text": ["t"], "image": [b"x"]})
    tables.write_table(f"{small_corpus}/b.parquet", other)
    said = r"column 'id' is string in .*a\.parquet and int64 in .*b\.parquet"
    assert refused(Mismatch, said, corpus=small_corpus, out=str(tmp_path / "out")) < SOON_S


def test_a_folder_that_holds_another_runs_features(run, no_model, small_corpus):
    assert refused(Mismatch, "finished results with other settings", corpus=small_corpus, out=run.features) < SOON_S


def test_a_folder_that_holds_something_else(run, no_model, small_corpus):
    assert refused(BadInput, "finished results are there", corpus=small_corpus, out=run.corpus) < SOON_S


def test_codes_are_not_written_among_features(run):
    with pytest.raises(Mismatch, match="finished results with other settings is there"):
        encode(options.Encode(features=run.features, model=run.model, out=run.features))


def test_units_without_rows(no_model, small_corpus, tmp_path):
    refused(BadInput, "--rows-per-unit: 0", corpus=small_corpus, out=str(tmp_path / "out"), rows_per_unit=0)


def test_a_cluster_that_asks_for_another_token(monkeypatch):
    from ray.exceptions import AuthenticationError

    from xhash_ray.runtime import cluster

    def refuse(**_: object) -> None:
        raise AuthenticationError("no authentication token was found")

    monkeypatch.setattr(cluster.ray, "init", refuse)
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    with pytest.raises(Unreachable, match=r"no authentication token was found.*RAY_AUTH_TOKEN"):
        cluster.connect()
