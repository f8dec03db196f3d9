"""Query, train and database rows as the papers cut them, from labels and a seed alone.

    files             what the files say; the training set is all that is not a query, or the files' own
    files:T           the files' queries, T random others for training
                      (COCO of AwakerLee/CFRH datasets.py: T = 10000)
    random:Q:T        Q random queries, T random others for training
                      (lelan-li/SSAH load_data.py, WendellGul/DCMH: 2000 and 10000 of MIRFlickr)
    last:Q, last:Q:T  the last Q rows are the queries, all others (or the first T of them) train
                      (penghu-cs/UCCH src/cmdataset.py: 2000, 2100, 5000)
    mirflickr-stratified, nuswide-stratified
                      so many queries and training rows of every label (zs-zhong/DJSRH, KaiserLew/JDSH datasets.py)

The search database of a protocol is train and database together. The authors drew without a seed, so their very
rows are lost; ours are written down: PCG64 of numpy is seeded, pairs are ordered by its raw 64-bit numbers (numpy
promises that these stay the same, but not what Generator.permutation makes of them), and a digest tells whether two
splits are one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from xhash_ray.errors import BadInput, BadOption, Mismatch, nearest

PARTS = ("query", "train", "database")
KINDS = ("files", "random", "last", "mirflickr-stratified", "nuswide-stratified")
Rows = Int64[np.ndarray, " r"]
Labels = Callable[[], Shaped[np.ndarray, "n classes"]]


@dataclass(frozen=True)
class PerLabel:
    """How a stratified protocol draws: of every label, `first` times as many of label 0, topped up to `total`."""

    query: int
    train: int
    first: int = 1
    total: int = 0


STRATIFIED = {
    "mirflickr-stratified": PerLabel(query=80, train=200, first=2, total=5000),
    "nuswide-stratified": PerLabel(query=200, train=500),
}


@dataclass(frozen=True)
class Split:
    """Row numbers of three parts that do not overlap, each ascending; together they are all rows."""

    query: Int64[np.ndarray, " q"]
    train: Int64[np.ndarray, " t"]
    database: Int64[np.ndarray, " d"]

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each part."""
        return {part: len(getattr(self, part)) for part in PARTS}

    @property
    def digest(self) -> str:
        """SHA-256 over each part's name and its row numbers as little-endian int64."""
        sha = hashlib.sha256()
        for part in PARTS:
            sha.update(part.encode() + b"\n" + getattr(self, part).astype("<i8").tobytes())
        return sha.hexdigest()

    def names(self) -> Shaped[np.ndarray, " n"]:
        """The part of every row, as text."""
        named = np.full(sum(self.counts.values()), PARTS[2], dtype="<U8")
        for part in PARTS:
            named[getattr(self, part)] = part
        return named


class Draw:
    """A stream of random orders from one seed."""

    def __init__(self, seed: int) -> None:
        self.bits = np.random.PCG64(seed)

    def shuffled(self, rows: Rows) -> Rows:
        """The rows in random order."""
        raw: np.ndarray = self.bits.random_raw(len(rows))
        return rows[np.argsort(raw, kind="stable")]


def make_split(spec: str, rows: int, given: Shaped[np.ndarray, " n"] | None, labels: Labels, seed: int) -> Split:
    """Cuts a set as `spec` says (see the head of this file).

    Args:
        spec: Such as "random:2000:10000".
        rows: n, pairs in the set.
        given: The files' own part of every row, None where they do not say.
        labels: Gives zeros and ones [n, classes]; only stratified splits ask for it.
        seed: Of what is drawn.

    Raises:
        BadOption: for a spec that is none.
        BadInput: when the set has not enough rows, or its files give no parts.
    """
    kind, *numbers = spec.split(":")
    wanted = {"files": (0, 1), "random": (2,), "last": (1, 2)}.get(kind, (0,))
    if kind not in KINDS or len(numbers) not in wanted or not all(number.isdigit() for number in numbers):
        raise BadOption(f"--split {spec}", "no such split", split_hint(kind))
    sizes = [int(number) for number in numbers]
    if sum(sizes) > rows:
        raise BadInput(f"--split {spec}", f"the set has {rows:,} pairs", "Ask for fewer, or check --source")
    if kind == "files":
        return as_given(given, sizes, seed, spec)
    if kind == "random":
        return random_split(rows, sizes[0], sizes[1], seed)
    return last_rows(rows, *sizes) if kind == "last" else stratified(labels(), STRATIFIED[kind], seed)


def split_hint(kind: str) -> str:
    """What can be written instead."""
    forms = "files, files:TRAIN, random:QUERY:TRAIN, last:QUERY, last:QUERY:TRAIN, " + ", ".join(STRATIFIED)
    return f"Write one of {forms}" if kind in KINDS else nearest(kind, KINDS) + f". Write one of {forms}"


def to_split(query: Bool[np.ndarray, " n"], train: Bool[np.ndarray, " n"]) -> Split:
    """The parts from two masks; what is in neither is database."""
    masks = (query, train & ~query, ~query & ~train)
    return Split(*(np.flatnonzero(mask).astype(np.int64) for mask in masks))


def mask(rows: int, chosen: Rows) -> Bool[np.ndarray, " n"]:
    """True at the chosen rows."""
    marked = np.zeros(rows, dtype=bool)
    marked[chosen] = True
    return marked


def as_given(given: Shaped[np.ndarray, " n"] | None, sizes: list[int], seed: int, spec: str) -> Split:
    """The files' own queries, and their training rows or a random choice of the others."""
    if given is None or not (given == "query").any():
        raise BadInput(f"--split {spec}", "the files do not say which pairs are queries", split_hint("files"))
    query = given == "query"
    if sizes:
        others = np.flatnonzero(~query).astype(np.int64)
        return to_split(query, mask(len(given), Draw(seed).shuffled(others)[: sizes[0]]))
    train = given == "train"
    return to_split(query, train if train.any() else ~query)


def random_split(rows: int, query: int, train: int, seed: int) -> Split:
    """One random order: first the queries, then the training rows, which the database includes."""
    order = Draw(seed).shuffled(np.arange(rows, dtype=np.int64))
    return to_split(mask(rows, order[:query]), mask(rows, order[query : query + train]))


def last_rows(rows: int, query: int, train: int | None = None) -> Split:
    """The last rows are the queries; all others train, or the first of them."""
    order = np.arange(rows, dtype=np.int64)
    others = rows - query
    return to_split(order >= others, order < (others if train is None else train))


def stratified(labels: Shaped[np.ndarray, "n classes"], per: PerLabel, seed: int) -> Split:
    """Of each label in turn, rows not taken yet: queries, then training rows; then any others up to the total.

    A label with too few rows left gives fewer, as in the authors' code.
    """
    draw, n = Draw(seed), len(labels)
    query, train = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    for label in range(labels.shape[1]):
        times = per.first if label == 0 else 1
        rows = draw.shuffled(np.flatnonzero(labels[:, label]).astype(np.int64))
        free = rows[~(query | train)[rows]]
        query[free[: times * per.query]] = True
        train[free[times * per.query : times * (per.query + per.train)]] = True
    missing = per.total - int(train.sum())
    if missing > 0:
        rest = draw.shuffled(np.flatnonzero(~(query | train)).astype(np.int64))
        train[rest[:missing]] = True
    return to_split(query, train)


def check_digest(split: Split, wanted: str | None, spec: str) -> None:
    """Raises Mismatch when a recipe names another digest (or the beginning of another one)."""
    if wanted and not split.digest.startswith(wanted.lower()):
        counts = ", ".join(f"{count:,} {part}" for part, count in split.counts.items())
        found = f"digest {split.digest} ({counts})"
        do = "Check that --source is the set of the recipe and --split-seed its seed, or leave --split-digest out"
        raise Mismatch(f"--split {spec} with digest {wanted}", found, do)
