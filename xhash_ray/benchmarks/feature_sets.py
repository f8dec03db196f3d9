"""Feature sets as benchmarks: queries, training pairs, and the two databases that a method is judged on.

Published protocols put the training pairs into the database, which rewards memorising them. So there are two columns:

    published   the database with the training pairs, as in the papers
    unseen      a database without them: the pairs that are no training pairs, where the set has such; otherwise the
                method is trained on one half of the training pairs (by a stable hash of the id), the other is searched
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xhash_ray.core.shards import id_hash
from xhash_ray.errors import BadInput
from xhash_ray.evaluation.relevance import label_matrix
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.features import Features, load_features, open_features
from xhash_ray.storage.where import parse_where

QUERY_NAMES, TRAIN_NAMES, REST_NAMES = ("query", "test"), ("train",), ("database",)
HELD_OUT = "id%10=0"
DATABASES = ("published", "unseen")


@dataclass(frozen=True)
class Part:
    """Some pairs: float32 features [n, d], multi-hot float32 labels [n, classes], ids."""

    image: np.ndarray
    text: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.image)

    def rows(self, chosen: np.ndarray) -> Part:
        """The rows where a mask is true."""
        ids = tuple(name for name, keep in zip(self.ids, chosen, strict=True) if keep)
        return Part(self.image[chosen], self.text[chosen], self.labels[chosen], ids)

    def digest(self) -> str:
        """16 hexadecimal digits that name these pairs."""
        state = hashlib.sha256(repr(self.ids).encode())
        for array in (self.image, self.text, self.labels):
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()[:16]


@dataclass(frozen=True)
class Protocol:
    """One column of a table: what is trained on, what is searched, by which queries."""

    queries: Part
    train: Part
    database: Part


@dataclass(frozen=True)
class FeatureSets:
    """A feature set cut into queries, training pairs and others.

    Attributes:
        queries: Never trained on, never in a database.
        train: Training pairs.
        rest: Pairs of the database that are no training pairs; may be empty.
        how: How the set was cut, in words.
    """

    queries: Part
    train: Part
    rest: Part
    how: str

    def protocol(self, name: str) -> Protocol:
        """The column "published" or "unseen" (see the head of this file)."""
        if name == "published":
            return Protocol(self.queries, self.train, joined(self.train, self.rest))
        if len(self.rest):
            return Protocol(self.queries, self.train, self.rest)
        half = id_hash(list(self.train.ids)) % np.uint64(2) == 0
        return Protocol(self.queries, self.train.rows(half), self.train.rows(~half))

    def trains_alike(self) -> bool:
        """Whether both columns come from one training."""
        return len(self.rest) > 0


def joined(first: Part, second: Part) -> Part:
    """The pairs of both."""
    if not len(second):
        return first
    image, text, labels = (
        np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("image", "text", "labels")
    )
    return Part(image, text, labels, (*first.ids, *second.ids))


def open_feature_sets(uri: str) -> FeatureSets:
    """Finds out how a folder is cut and loads it.

    Raises:
        BadInput: for features without labels, or a folder of no known form.
    """
    place = places.normalise(uri)
    if tables.read_manifest(place) is None and not place.endswith((".parquet", ".pq")):
        files = {
            places.name_of(name).rpartition(".")[0]: name for name in places.list_files(place, (".parquet", ".pq"))
        }
        if any(name in files for name in QUERY_NAMES) and any(name in files for name in TRAIN_NAMES):
            return from_files(files, place)
    return from_column(place)


def from_files(files: dict[str, str], place: str) -> FeatureSets:
    """One file per part: query (or test), train, database."""
    loaded = [first_of(files, names) for names in (QUERY_NAMES, TRAIN_NAMES, REST_NAMES)]
    sets = to_parts([load_features(name) if name else None for name in loaded], place)
    known = set(sets[1].ids)
    rest = sets[2].rows(np.array([name not in known for name in sets[2].ids], dtype=bool)) if len(sets[2]) else sets[2]
    names = ", ".join(places.name_of(name) for name in loaded if name)
    return FeatureSets(sets[0], sets[1], rest, f"files {names}")


def first_of(files: dict[str, str], names: Sequence[str]) -> str | None:
    """The first of some names that is there."""
    return next((files[name] for name in names if name in files), None)


def from_column(place: str) -> FeatureSets:
    """One feature set with a `split` column, or without one: every tenth id is a query, all others are trained on."""
    found = open_features(place)
    if "split" in found.tables.schema.names:
        conditions = ["split=query,test", "split=train", "split=database"]
        parts = [load_if_any(place, condition) for condition in conditions]
        how = "column split"
    else:
        parts = [load_if_any(place, HELD_OUT), load_if_any(place, HELD_OUT.replace("=", "!=")), None]
        how = f"queries: {HELD_OUT}, training pairs: all others"
    return FeatureSets(*to_parts(parts, place), how)


def load_if_any(place: str, condition: str) -> Features | None:
    """The rows of a condition, None where there are none."""
    try:
        return load_features(place, parse_where(condition))
    except BadInput as error:
        if error.found != "no rows":
            raise
        return None


def to_parts(loaded: Sequence[Features | None], place: str) -> tuple[Part, Part, Part]:
    """Loaded features as parts that number their classes alike."""
    queries, train, rest = loaded
    if queries is None or train is None:
        lacking = "query" if queries is None else "training"
        raise BadInput(f"features at {place}", f"no {lacking} pairs", "Name them in a `split` column: query, train")
    if any(part is not None and part.labels is None for part in loaded):
        raise BadInput(f"features at {place}", "no labels", "MAP needs a `labels` column of label numbers")
    numbers = (number for part in loaded if part for row in part.labels or [] for number in row)
    classes = 1 + max(numbers, default=0)
    return to_part(queries, classes), to_part(train, classes), to_part(rest, classes, train)


def to_part(features: Features | None, classes: int, like: Features | None = None) -> Part:
    """Features as a part; nothing gives an empty one with the lengths of another."""
    if features is None:
        assert like is not None
        image, text = (np.zeros((0, getattr(like, name).shape[1]), np.float32) for name in ("image", "text"))
        return Part(image, text, np.zeros((0, classes), np.float32), ())
    labels = label_matrix(features.labels or [], classes)
    return Part(features.image, features.text, labels, tuple(features.ids))
