"""Extraction from and to an object store that fails in every way: it completes with the same result, or stops with the
reason and goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.faulty_store import FaultyStore
from tests.store_faults import Fault
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places

pytestmark = pytest.mark.faults

EVERY_WAY = (
    Fault("slow", probability=0.1, seconds=0.5),
    Fault("trickle", probability=0.15, on="GET", seconds=0.3),
    Fault("reset", probability=0.05),
    Fault("reset-halfway", probability=0.05, on="GET"),
    Fault("truncated", probability=0.05, on="GET"),
    Fault("slowdown", probability=0.08),
    Fault("internal", probability=0.03),
    Fault("lost", probability=0.05, on="PUT"),
    Fault("stored", probability=0.05, on="PUT"),
    Fault("stale-listing", seconds=3.0),
)


@pytest.fixture(scope="module")
def store(s3_endpoint) -> Iterator[FaultyStore]:
    """A proxy before the S3 server."""
    with FaultyStore(s3_endpoint, seed=7) as running:
        yield running


@pytest.fixture(scope="module")
def corpus(run) -> str:
    """The corpus of the other tests, on S3."""
    for name in tables.open_tables(run.corpus, "corpus").files:
        places.write_bytes(f"s3://xhash/faulty/corpus/{places.name_of(name)}", places.read_bytes(name))
    return "s3://xhash/faulty/corpus"


def extracted(run, head, url, corpus, out, *more) -> tuple[int, str, dict]:
    """The command as anybody gives it: exit code, last line of standard error, result."""
    asked = ["extract", "--corpus", corpus, "--out", out, "--model", "xhash-tiny", "--pretrained", run.weights]
    asked += ["--actors", "1", "--rows-per-unit", "16", "--endpoint-url", url, "--json", *more]
    environment = {**os.environ, "RAY_ADDRESS": head.address, "RAY_AUTH_MODE": "disabled"}
    ended = subprocess.run(
        [sys.executable, "-m", "xhash_ray.cli", *asked], env=environment, capture_output=True, text=True, timeout=500
    )
    result = json.loads(ended.stdout.splitlines()[-1]) if ended.returncode == 0 else {}
    return ended.returncode, ended.stderr.splitlines()[-1], result


def features_at(uri):
    """All features, sorted by id."""
    return tables.read_table(tables.open_tables(uri, "features")).sort_by("id")


def test_a_store_that_fails_in_every_way_changes_nothing(run, head, s3_endpoint, store, corpus):
    code, said, _ = extracted(run, head, s3_endpoint, corpus, "s3://xhash/faulty/calm")
    assert code == 0, said
    store.set(*EVERY_WAY)
    code, said, result = extracted(run, head, store.url, corpus, "s3://xhash/faulty/out")
    injected = dict(store.injected)
    store.set()
    assert code == 0, said
    assert {fault.kind for fault in EVERY_WAY} <= set(injected), injected
    assert result["pairs"] == result["input_pairs"]
    assert features_at("s3://xhash/faulty/out").equals(features_at("s3://xhash/faulty/calm"))


def test_credentials_that_expire_stop_it_with_the_reason_and_it_goes_on(run, head, s3_endpoint, store, corpus):
    store.set(Fault("expired", on="PUT", key="units/", skip=5))
    code, said, _ = extracted(run, head, store.url, corpus, "s3://xhash/faulty/expired")
    store.set()
    assert code == 2, said
    assert "expired" in said.lower()
    code, said, result = extracted(run, head, store.url, corpus, "s3://xhash/faulty/expired")
    assert code == 0, said
    assert 0 < result["done_before"] < result["pairs"]
    assert features_at("s3://xhash/faulty/expired").equals(features_at("s3://xhash/faulty/calm"))
