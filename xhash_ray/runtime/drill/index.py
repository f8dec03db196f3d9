"""The index of a drill: generations written as users write them, and told to the oracle before anybody sees them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from xhash_ray import methods
from xhash_ray.core import bits as packed
from xhash_ray.drilling.oracle import Oracle, Truth
from xhash_ray.drilling.pairs import Pairs, as_table, joined, without
from xhash_ray.index import generations, life
from xhash_ray.index.build import assemble, partition
from xhash_ray.index.segments import segment_name, write_segment
from xhash_ray.methods.artefacts import facts_of, weights_of
from xhash_ray.methods.base import Shape
from xhash_ray.options import IndexRollback
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import write_artefact

METHOD, LENGTH, HIDDEN = "jdsh", 16, 16
MARGIN = 1e-3  # of a hash output from zero: no order of additions may decide a bit


class Model(NamedTuple):
    """A hash function of the drill.

    Attributes:
        name: Of its folder below the index.
        fingerprint: Of the artefact.
        vector_codes: What it makes of every vector that is asked with.
    """

    name: str
    fingerprint: str
    vector_codes: dict[tuple[float, ...], bytes]


class DrillIndex:
    """An index whose every generation is known.

    Args:
        uri: Its folder, empty so far.
        bits: Code length.
        shards: Of it.
        oracle: That is told.
        vectors: That will be asked with.
        seed: Of the models.
    """

    def __init__(
        self, uri: str, bits: int, shards: int, oracle: Oracle, vectors: Sequence[tuple[float, ...]], seed: int
    ) -> None:
        self.uri, self.bits, self.shards, self.oracle = uri, bits, shards, oracle
        self.models = [self.write_model(f"models/{name}", vectors, seed + 1 + name) for name in range(2)]
        self.states: dict[int, tuple[Pairs, Model]] = {}

    def write_model(self, name: str, vectors: Sequence[tuple[float, ...]], seed: int) -> Model:
        """An untrained model: whether codes are good ones is not what is rehearsed."""
        torch.manual_seed(seed)
        method = methods.create(METHOD, Shape(self.bits, LENGTH, LENGTH), {"hidden": HIDDEN})
        facts = {**facts_of(METHOD, method), "encoder": None}
        made = write_artefact(f"{self.uri}/{name}", facts, weights_of(method), "")
        with torch.inference_mode():
            outputs = method.outputs("image", torch.tensor(vectors)).float().numpy()
        sure = np.abs(outputs).min(axis=1) > MARGIN
        codes = {vector: code.tobytes() for vector, code in zip(vectors, packed.pack(outputs), strict=True)}
        known = {vector: codes[vector] for vector, good in zip(vectors, sure, strict=True) if good}
        return Model(name, made.fingerprint, known)

    @property
    def vectors(self) -> list[tuple[float, ...]]:
        """Those whose codes are beyond doubt for every model."""
        return [each for each in self.models[0].vector_codes if all(each in it.vector_codes for it in self.models)]

    @property
    def number(self) -> int:
        """Of the last generation, the refused ones among them."""
        return max(self.states, default=0)

    @property
    def pairs(self) -> Pairs:
        """Of the last generation."""
        return self.states[self.number][0]

    @contextlib.contextmanager
    def expecting(self, pairs: Pairs, model: Model | None = None, right: bool = True) -> Iterator[int]:
        """Tells the oracle what the next generation will be; its number. The block makes it.

        Args:
            pairs: That it holds.
            model: Of it; the last generation's by default.
            right: Whether it may be served at all.
        """
        made = (pairs, model or self.states[self.number][1])
        number = self.number + 1
        if right:
            self.oracle.learn(number, Truth(pairs, self.shards, made[1].fingerprint, made[1].vector_codes))
        self.states[number] = made
        try:
            yield number
        except BaseException:
            del self.states[number]  # it was not made
            raise

    def create(self, pairs: Pairs) -> int:
        """The first generation."""
        model = self.models[0]
        facts = {"bits": self.bits, "method": METHOD, "encoder": None, "shards": self.shards}
        facts |= {"model": model.name, "model_fingerprint": model.fingerprint}
        with self.expecting(pairs, model) as number:
            segments = [
                write_segment(self.uri, segment_name("d1100000", shard, self.shards), shard, 1, assemble([part]))
                for shard, part in enumerate(partition(as_table(pairs), self.shards))
            ]
            generations.commit(self.uri, None, "build", segments, [], len(pairs), facts)
        return number

    def put(self, more: Pairs, right: bool = True) -> int:
        """Adds pairs, in place of those whose id is there."""
        with self.expecting(joined(self.pairs, more), right=right) as number:
            life.put_rows(generations.current(self.uri), as_table(more), "upsert")
        return number

    def delete(self, ids: Sequence[str]) -> int:
        """Deletes pairs."""
        with self.expecting(without(self.pairs, ids)) as number:
            life.delete_ids(generations.current(self.uri), ids)
        return number

    def change_model(self) -> int:
        """The same codes, another model: the same vector is another query from now on."""
        pairs, model = self.states[self.number]
        other = self.models[1] if model is self.models[0] else self.models[0]
        with self.expecting(pairs, other) as number:
            base = generations.current(self.uri)
            facts = {**base.facts, "model": other.name, "model_fingerprint": other.fingerprint}
            generations.commit(self.uri, base, "build", base.segments, base.tombstones, base.rows, facts)
        return number

    def roll_back(self, to: int) -> int:
        """An older generation's content once more."""
        with self.expecting(*self.states[to]) as number:
            life.rollback(IndexRollback(index=self.uri, to=to))
        return number

    def corrupt(self, number: int, column: str) -> str:
        """Flips a bit of a column in a segment that a generation added; the segment's name."""
        made = generations.read(self.uri, number)
        facts = max((each for each in made.segments if each.since == number), key=lambda each: each.rows)
        place = places.join(self.uri, facts.name)
        places.write_bytes(place, flipped(places.read_bytes(place), column))
        return facts.name


def flipped(content: bytes, column: str) -> bytes:
    """An Arrow file with one bit of a column's first values another."""
    whole = pa.py_buffer(content)
    chunk = pa.ipc.open_file(pa.BufferReader(whole)).read_all()[column].chunk(0)
    data = chunk.buffers()[-1]
    changed = bytearray(content)
    changed[data.address - whole.address + min(11, data.size - 1)] ^= 1
    return bytes(changed)


def draw_vectors(count: int, seed: int) -> list[tuple[float, ...]]:
    """Features to ask with, float32 values."""
    drawn = np.random.default_rng(seed).normal(size=(count, LENGTH)).astype(np.float32)
    return [tuple(float(value) for value in row) for row in drawn]


def environment_of_store(url: str) -> Mapping[str, str]:
    """What a process needs to use the drill's own S3 server."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "drill",
        "AWS_SECRET_ACCESS_KEY": "drill",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
