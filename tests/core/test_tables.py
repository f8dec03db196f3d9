"""Tables give what the definition gives; the planner chooses what is cheaper and says why."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.test_hamming import KINDS, clustered_codes, random_codes
from xhash_ray.core import tables as room
from xhash_ray.core.hamming import search_reference
from xhash_ray.core.planning import PLANS, Plan, Searcher, prepare, scan_seconds
from xhash_ray.core.tables import build_tables, search_tables, substrings
from xhash_ray.errors import BadInput, BadOption, Mismatch


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 600),
    width=st.sampled_from([1, 2, 3, 8, 9, 16, 20]),
    k=st.integers(1, 40),
)
def test_tables_find_what_the_definition_finds(kind, seed, n, width, k):
    rng = np.random.default_rng(seed)
    codes = kind(rng, n, width)
    queries = np.concatenate([random_codes(rng, 2, width), codes[:2] ^ np.uint8(1)])
    hits, slow = search_tables(build_tables(codes), queries, k, threads=2), search_reference(codes, queries, k)
    np.testing.assert_array_equal(hits.distances, slow.distances)
    np.testing.assert_array_equal(hits.rows, slow.rows)


def test_tables_alone_suffice_where_neighbours_are_near(monkeypatch):
    monkeypatch.setattr(room, "search", lambda *_, **__: pytest.fail("scanned"))
    rng = np.random.default_rng(1)
    codes = clustered_codes(rng, 5000, 8)
    hits, slow = search_tables(build_tables(codes), codes[:10], 20), search_reference(codes, codes[:10], 20)
    np.testing.assert_array_equal(hits.rows, slow.rows)


def test_a_search_that_meets_too_many_codes_is_scanned(monkeypatch):
    scanned = []
    monkeypatch.setattr(room, "LEAST_WORK", 1)
    monkeypatch.setattr(room, "search", lambda *given, **how: scanned.append(1) or search_reference(*given, **how))
    rng = np.random.default_rng(2)
    codes, queries = random_codes(rng, 3000, 8), random_codes(rng, 3, 8)
    hits, slow = search_tables(build_tables(codes), queries, 10), search_reference(codes, queries, 10)
    assert scanned == [1]
    np.testing.assert_array_equal(hits.rows, slow.rows)


@pytest.mark.parametrize(("bits", "codes"), [(8, 1), (64, 10**4), (64, 10**9), (128, 10**7), (1024, 100)])
def test_substrings_cover_every_bit_once_and_have_about_log2_n(bits, codes):
    cuts = substrings(bits, codes)
    lengths = np.diff(cuts)
    assert (cuts[0], cuts[-1]) == (0, bits)
    assert lengths.max() - lengths.min() <= 1
    assert lengths.max() <= min(room.LONGEST_BITS, max(8, np.log2(codes)))


def test_every_row_is_in_every_table_once():
    codes = clustered_codes(np.random.default_rng(3), 2000, 8)
    tables = build_tables(codes)
    for rows, starts in zip(tables.rows, tables.starts, strict=True):
        assert sorted(rows.tolist()) == list(range(2000))
        assert (np.diff(starts) >= 0).all()
    assert build_tables(random_codes(np.random.default_rng(3), 2000, 8)).skew() < tables.skew()


def test_what_cannot_be_tables_is_refused():
    codes = np.zeros((3, 8), np.uint8)
    with pytest.raises(BadInput, match="0 codes"):
        build_tables(codes[:0])
    with pytest.raises(Mismatch, match="queries of 128 bits"):
        search_tables(build_tables(codes), np.zeros((1, 16), np.uint8), 1)
    with pytest.raises(BadInput, match="k = 0"):
        search_tables(build_tables(codes), codes, 0)


def test_all_plans_give_the_same_list():
    rng = np.random.default_rng(4)
    codes = clustered_codes(rng, 4000, 8)
    searcher, queries = prepare(codes, device="cpu"), codes[::500] ^ np.uint8(3)
    answers = [searcher.search(queries, 15, plan=plan) for plan in PLANS]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.rows, answers[0].rows)
        np.testing.assert_array_equal(answer.distances, answers[0].distances)


def test_the_cheaper_plan_is_chosen_and_explained():
    codes = np.zeros((10_000_000, 8), np.uint8)
    tables = build_tables(clustered_codes(np.random.default_rng(5), 300, 8))
    cheap, dear = Searcher(codes, tables, {10: 100.0}), Searcher(codes, tables, {10: float("inf")})
    chosen = cheap.plan(10, 1, threads=1)
    assert (chosen.name, set(chosen.seconds)) == ("tables", {"scan", "tables"})
    assert "10,000,000 codes of 64 bits" in chosen.why
    assert cheap.plan(11, 1, threads=1).name == "scan", "nothing is known of larger k"
    assert dear.plan(10, 1).name == "scan"
    assert "too many codes" in dear.plan(10, 1).why
    assert cheap.plan(10, 1, masked=True).why == "scan: only it knows a mask"
    alone = Plan("scan", {"scan": scan_seconds(codes.shape, 1, 2)}, "scan: there are no tables and no device")
    assert Searcher(codes).plan(10, 1, threads=2) == alone


def test_a_device_is_chosen_where_it_was_measured_to_be_faster():
    codes = np.zeros((10_000_000, 8), np.uint8)
    fast = Searcher(codes, on_device=torch.from_numpy(codes), device_s=(1e-4, 1e-6))
    chosen = fast.plan(10, 64, threads=1)
    assert chosen.name == "device"
    assert chosen.seconds["device"] == pytest.approx(1.63e-4)
    assert "device 0.16 ms" in chosen.why
    assert replace(fast, device_s=(10.0, 1.0)).plan(10, 64).name == "scan"
    one, more = prepare(codes[:1000], tables=False, device="cpu").device_s
    assert one > 0 <= more


def test_measured_work_grows_with_k_and_with_disorder():
    rng = np.random.default_rng(6)
    near, far = prepare(clustered_codes(rng, 20_000, 8)), prepare(random_codes(rng, 20_000, 8))
    assert near.work[1] <= near.work[10] <= near.work[1000]
    assert far.work[10] > far.work[1] > 0


def test_a_batch_is_cheaper_by_the_query_than_one():
    assert scan_seconds((10**8, 8), 64, 2) < 64 * scan_seconds((10**8, 8), 1, 2) / 4


@pytest.mark.parametrize(
    ("plan", "found"), [("scna", "Did you mean 'scan'"), ("tables", "there is none"), ("device", "there is none")]
)
def test_a_plan_that_cannot_be_is_refused(plan, found):
    codes = np.zeros((3, 8), np.uint8)
    with pytest.raises(BadOption, match=found):
        Searcher(codes).search(codes, 1, plan=plan)
    with pytest.raises(BadOption, match="a mask was given"):
        prepare(codes).search(codes, 1, plan="tables", mask=np.ones(3, bool))
