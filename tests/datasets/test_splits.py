"""Splits: sizes, no overlap, the same rows for the same seed on every machine and for ever."""

from __future__ import annotations

import numpy as np
import pytest

from xhash_ray.datasets.splits import PARTS, STRATIFIED, PerLabel, Split, check_digest, make_split, stratified
from xhash_ray.errors import BadInput, BadOption, Mismatch

# Digests of the splits that depend on nothing but the published numbers of pairs; recipes name the same.
PUBLISHED = [
    ("random:2000:10000", 20_015, "484a950fed3f3667"),
    ("random:2100:10500", 186_577, "98b2b876cd053808"),
    ("random:2100:10500", 195_834, "c36e20e64e521aba"),
    ("random:5000:10000", 87_081, "5996eb39a30bec50"),
    ("last:2000", 20_015, "eafb45f4b6e34077"),
    ("last:2100", 186_577, "8bbca6bf4517bf25"),
    ("last:2100", 195_834, "3105134155908b02"),
    ("last:5000", 122_218, "d2c488fc21aef83a"),
]


def no_labels():
    """For splits that must not ask."""
    raise AssertionError("labels were asked for")


def labels_like_mirflickr(rows: int = 20_015, classes: int = 24, seed: int = 1) -> np.ndarray:
    """Several labels per row, the rarest with some 150 rows."""
    rng = np.random.default_rng(seed)
    shares = np.geomspace(0.3, 0.008, classes)
    return (rng.random((rows, classes)) < shares).astype(np.uint8)


def cut(spec: str, rows: int, given=None, labels=no_labels, seed: int = 1) -> Split:
    """A split, found to be one: no row twice, none left out, ascending."""
    split = make_split(spec, rows, given, labels, seed)
    together = np.concatenate([getattr(split, part) for part in PARTS])
    assert np.array_equal(np.sort(together), np.arange(rows))
    assert all((np.diff(getattr(split, part)) > 0).all() for part in PARTS)
    assert {part: int((split.names() == part).sum()) for part in PARTS} == split.counts
    return split


@pytest.mark.parametrize(("spec", "rows", "digest"), PUBLISHED)
def test_published_sizes_give_the_digests_of_the_recipes(spec, rows, digest):
    split = cut(spec, rows)
    assert split.digest.startswith(digest)
    query = int(spec.split(":")[1])
    train = int(spec.split(":")[2]) if spec.startswith("random") else rows - query
    assert split.counts == {"query": query, "train": train, "database": rows - query - train}


def test_a_seed_decides_what_is_drawn():
    assert cut("random:10:20", 100).digest == cut("random:10:20", 100).digest
    assert cut("random:10:20", 100).digest != cut("random:10:20", 100, seed=2).digest
    assert cut("last:10", 100).digest == cut("last:10", 100, seed=2).digest


def test_golden_rows():
    split = cut("random:3:4", 12)
    assert (split.query.tolist(), split.train.tolist()) == ([2, 4, 9], [0, 5, 7, 11])


def test_last_rows():
    split = cut("last:3:4", 12)
    assert (split.query.tolist(), split.train.tolist()) == ([9, 10, 11], [0, 1, 2, 3])


def test_mirflickr_stratified():
    labels = labels_like_mirflickr()
    split = cut("mirflickr-stratified", len(labels), labels=lambda: labels)
    assert split.counts == {"query": 2000, "train": 5000, "database": 13_015}
    assert split.digest != cut("mirflickr-stratified", len(labels), labels=lambda: labels, seed=2).digest


def test_nuswide_stratified():
    labels = labels_like_mirflickr(150_000, 10)
    split = cut("nuswide-stratified", len(labels), labels=lambda: labels)
    assert split.counts == {"query": 2000, "train": 5000, "database": 143_000}


def by_the_authors(labels: np.ndarray, per: PerLabel, order) -> tuple[set[int], set[int]]:
    """The protocol as a loop over row numbers, told in their code's order of steps."""
    query: list[int] = []
    train: list[int] = []
    for label in range(labels.shape[1]):
        times = per.first if label == 0 else 1
        free = [row for row in order(np.flatnonzero(labels[:, label])) if row not in query and row not in train]
        query += free[: times * per.query]
        train += free[times * per.query : times * per.query + times * per.train]
    rest = order(np.array([row for row in range(len(labels)) if row not in query and row not in train]))
    return set(query), set(train + list(rest[: max(0, per.total - len(train))]))


@pytest.mark.parametrize("per", [PerLabel(3, 5), PerLabel(2, 4, first=2, total=60), PerLabel(50, 50)])
def test_stratified_is_the_loop(per):
    labels = labels_like_mirflickr(120, 6)
    bits = np.random.PCG64(7)
    query, train = by_the_authors(labels, per, lambda rows: rows[np.argsort(bits.random_raw(len(rows)), kind="stable")])
    split = stratified(labels, per, 7)
    assert (set(split.query.tolist()), set(split.train.tolist())) == (query, train)


def test_published_protocols_add_up():
    mirflickr, nuswide = STRATIFIED["mirflickr-stratified"], STRATIFIED["nuswide-stratified"]
    assert (mirflickr.first * mirflickr.query + 23 * mirflickr.query, 10 * nuswide.query) == (2000, 2000)
    assert (mirflickr.total, 10 * nuswide.train) == (5000, 5000)


def test_the_files_own_split():
    given = np.array(["query", "train", "database", "query"])
    assert cut("files", 4, given).names().tolist() == given.tolist()
    without_train = np.array(["query", "database", "database"])
    assert cut("files", 3, without_train).names().tolist() == ["query", "train", "train"]
    drawn = cut("files:1", 4, given)
    assert (drawn.query.tolist(), len(drawn.train), len(drawn.database)) == ([0, 3], 1, 1)
    with pytest.raises(BadInput, match=r"do not say which pairs are queries\. Write one of files, files:TRAIN"):
        cut("files", 4)


@pytest.mark.parametrize(
    "spec", ["ramdom:1:2", "random", "random:1", "random:a:b", "last", "last:1:2:3", "files:-1", ""]
)
def test_other_specs_are_refused(spec):
    with pytest.raises(BadOption, match="random:QUERY:TRAIN"):
        cut(spec, 10)


def test_more_than_there_is_is_refused():
    with pytest.raises(BadInput, match="the set has 10 pairs"):
        cut("random:5:6", 10)


def test_a_digest_is_compared():
    split = cut("random:3:4", 12)
    check_digest(split, None, "random:3:4")
    check_digest(split, split.digest[:10].upper(), "random:3:4")
    with pytest.raises(Mismatch, match=rf"digest {split.digest} \(3 query, 4 train, 5 database\)"):
        check_digest(split, "00" * 32, "random:3:4")


def test_a_digest_tells_which_part_a_row_is_in():
    rows = [np.arange(2, dtype=np.int64), np.arange(2, 4, dtype=np.int64), np.arange(4, 4, dtype=np.int64)]
    assert Split(*rows).digest != Split(rows[0], rows[2], rows[1]).digest != Split(rows[1], rows[0], rows[2]).digest
