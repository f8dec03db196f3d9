"""Changes of the index that is served, by its admin: each is one commit of the index (index/life.py), then activated.

A change takes pairs as content, vectors or codes, never as a place: no request names a path of this machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from xhash_ray.errors import BadInput, Conflict, XhashError, nearest
from xhash_ray.index import generations, life
from xhash_ray.options import IndexRollback
from xhash_ray.serving.answers import Query
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.requests import Modality, SearchRequest
from xhash_ray.serving.router import Served
from xhash_ray.storage.codes import FEATURE_COLUMNS, from_array
from xhash_ray.storage.features import to_half

MAX_CHANGED = 1024
MAX_GENERATION = 10**8 - 1
ENCODING_S = 120.0
MODALITIES: tuple[Modality, ...] = get_args(Modality)


class ActivateRequest(BaseModel):
    """Which generation to serve."""

    model_config = ConfigDict(extra="forbid")

    generation: int | None = Field(None, ge=1, le=MAX_GENERATION, description="the current one unless said")


class RollbackRequest(BaseModel):
    """Which generation's content becomes the index's current one again."""

    model_config = ConfigDict(extra="forbid")

    to: int | None = Field(None, ge=1, le=MAX_GENERATION, description="the one before the current one unless said")


class DeleteRequest(BaseModel):
    """Which pairs go."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(min_length=1, max_length=MAX_CHANGED)
    ignore_missing: bool = Field(False, description="whether ids that are not there are let pass")


class NewPair(BaseModel):
    """A pair to store: of either modality exactly one of content, vector and code."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=1_000)
    image: str | None = Field(None, description="an encoded file in base64")
    image_vector: list[float] | None = Field(None, max_length=65_536)
    image_code: str | None = Field(None, description="hexadecimal")
    text: str | None = Field(None, max_length=2_000)
    text_vector: list[float] | None = Field(None, max_length=65_536)
    text_code: str | None = Field(None, description="hexadecimal")
    metadata: dict[str, Any] = Field(default_factory=dict, description="of the index's columns; others are refused")

    def query(self, modality: Modality) -> SearchRequest:
        """One side of the pair, as if it were searched with.

        Raises:
            BadInput: unless there is exactly one.
        """
        given = {kind: getattr(self, f"{modality}_{kind}") for kind in ("vector", "code")}
        given |= {modality: getattr(self, modality)}
        given = {kind: value for kind, value in given.items() if value is not None}
        if len(given) != 1:
            do = f"Give exactly one of {modality}, {modality}_vector, {modality}_code"
            raise BadInput(f"the pair '{self.id[:200]}'", f"{len(given)} of its {modality} side", do)
        return SearchRequest(source=modality, **given)


class AddRequest(BaseModel):
    """Pairs to store."""

    model_config = ConfigDict(extra="forbid")

    pairs: list[NewPair] = Field(min_length=1, max_length=MAX_CHANGED)
    replace: bool = Field(False, description="whether pairs that are there are replaced; otherwise they are refused")


class ChangeAnswer(BaseModel):
    """What is served after a change."""

    generation: int
    rows: int


async def add(gateway: Gateway, request: AddRequest) -> Served:
    """Stores pairs, encoded by the model that is served, then serves them.

    Raises:
        BadInput: for a pair that is there already, or twice, or cannot become a row.
        Conflict: when another writer was first, or the index has another model by now.
    """
    async with gateway.changing:
        served, deadline_s = gateway.router.ready(), time.monotonic() + ENCODING_S
        queries: dict[str, Sequence[Query]] = {
            modality: await asyncio.gather(
                *(gateway.query_of(pair.query(modality), served, deadline_s) for pair in request.pairs)
            )
            for modality in MODALITIES
        }
        base = await asyncio.to_thread(generations.current, served.generation.uri)
        if base.facts["model_fingerprint"] != served.generation.facts["model_fingerprint"]:
            found = f"generation {base.number} of the index is of another model than the one served"
            raise Conflict("adding pairs", found, "Activate it, then add")
        rows = rows_of(request.pairs, queries, served.schema)
        await asyncio.to_thread(life.put_rows, base, rows, "upsert" if request.replace else "add")
        return await served_now(gateway)


async def delete(gateway: Gateway, request: DeleteRequest) -> Served:
    """Deletes pairs, then serves what is left. Errors as of `life.delete`."""
    async with gateway.changing:
        base = await asyncio.to_thread(generations.current, gateway.router.ready().generation.uri)
        await asyncio.to_thread(life.delete_ids, base, request.ids, request.ignore_missing)
        return await served_now(gateway)


async def rollback(gateway: Gateway, request: RollbackRequest) -> Served:
    """Makes an older generation's content current, then serves it. Errors as of `life.rollback`."""
    async with gateway.changing:
        uri = gateway.router.ready().generation.uri
        await asyncio.to_thread(life.rollback, IndexRollback(index=uri, to=request.to))
        return await served_now(gateway)


async def served_now(gateway: Gateway) -> Served:
    """Serves what was committed.

    Raises:
        XhashError: when it cannot be loaded; that it is committed all the same is said.
    """
    try:
        return await gateway.serve(None)
    except XhashError as error:
        do = "The change is made: do not repeat it, but POST /v1/admin/activate when that is mended"
        raise XhashError("serving the change", str(error), do) from None


def rows_of(pairs: Sequence[NewPair], queries: Mapping[str, Sequence[Query]], schema: pa.Schema) -> pa.Table:
    """Pairs as rows of the index.

    Args:
        pairs: As they were sent.
        queries: What became of each pair's image and text, by modality.
        schema: Of the index's metadata, the id among it, and its features where it stores them.

    Raises:
        BadInput: for an unknown column, a value it cannot hold, or a pair without the features that the index stores.
    """
    columns: dict[str, pa.Array] = {"id": pa.array([pair.id for pair in pairs], pa.string())}
    for modality, known in queries.items():
        codes = np.frombuffer(b"".join(query.code for query in known), np.uint8).reshape(len(pairs), -1)
        columns[f"{modality}_code"] = from_array(codes)
    for field in schema:
        if field.name in FEATURE_COLUMNS:
            columns[field.name] = features_of(pairs, queries[field.name.removesuffix("_feature")], field)
        elif field.name != "id":
            columns[field.name] = metadata_of(pairs, field)
    check_columns(pairs, [name for name in schema.names if name not in {"id", *FEATURE_COLUMNS}])
    return pa.table(columns)


def check_columns(pairs: Sequence[NewPair], known: Sequence[str]) -> None:
    """Raises BadInput for metadata that the index has no column for."""
    for pair in pairs:
        for name in pair.metadata:
            if name not in known:
                do = nearest(name, known) if known else "Leave it out"
                raise BadInput(f"metadata of the pair '{pair.id[:200]}'", f"no column '{name[:200]}'", do)


def metadata_of(pairs: Sequence[NewPair], field: pa.Field) -> pa.Array:
    """One column of metadata; what a pair does not say is missing."""
    try:
        return pa.array([pair.metadata.get(field.name) for pair in pairs], field.type)
    except (ValueError, TypeError, NotImplementedError, OverflowError) as error:  # Arrow's own derive from these
        found = str(error).splitlines()[0][:200]
        raise BadInput(f"metadata '{field.name}'", found, f"Give values of {field.type}") from None


def features_of(pairs: Sequence[NewPair], known: Sequence[Query], field: pa.Field) -> pa.Array:
    """One column of features."""
    rows = []
    for pair, query in zip(pairs, known, strict=True):
        if query.feature is None:
            found = "only a code, and the index stores features"
            raise BadInput(f"the pair '{pair.id[:200]}'", found, "Send its content or its vectors")
        rows.append(to_half(np.frombuffer(query.feature, np.float32), f"the pair '{pair.id[:200]}'"))
    return pa.array(list(np.stack(rows)), field.type)
