"""Ray Serve: one deployment per shard, an encoder for queries, a gateway that fans out and merges.

`build_app` is an application builder: `serve run xhash_ray.runtime.serving:build_app index=URI` works too.
"""

import asyncio
import time
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from ray import serve
from ray.serve.handle import DeploymentHandle

from xhash_ray.errors import BadInput, XhashError
from xhash_ray.index import generations
from xhash_ray.index.shard import Hit, Shard, load_shard, merge_hits
from xhash_ray.runtime import telemetry
from xhash_ray.runtime.api import FoundPair, SearchAnswer, SearchRequest, decode_code, decode_image
from xhash_ray.runtime.query_encoder import QueryEncoder
from xhash_ray.storage import uri as places

HIDDEN = {"encoder", "segments", "tombstones"}  # long, and of use to nobody who searches

api = FastAPI(title="xhash-ray", description="Exact Hamming search across modalities")


@api.exception_handler(XhashError)
async def say_error(request: Request, error: XhashError) -> JSONResponse:
    """Errors of this project as JSON: 400 for what the caller can mend, 500 otherwise."""
    content = {"error": {"asked": error.asked, "found": error.found, "do": error.do}}
    return JSONResponse(content, status_code=400 if isinstance(error, BadInput) else 500)


class ServeArgs(BaseModel):
    """Arguments of the application."""

    index: str
    pretrained: str | None = None
    replicas: int = 1
    encoder_threads: int = 2


def build_app(args: ServeArgs) -> serve.Application:
    """The application for one index.

    Raises:
        BadInput: when there is no index.
    """
    shard, encoder, gateway = deployments()
    served = generations.current(places.normalise(args.index))
    shards = [
        shard.options(name=f"shard-{number}", num_replicas=args.replicas).bind(served.uri, served.number, number)
        for number in range(served.shards)
    ]
    bound_encoder = encoder.bind(served.model_uri, args.pretrained, args.encoder_threads)
    return gateway.bind(served.facts, bound_encoder, *shards)


def deployments() -> tuple[Any, Any, Any]:
    """Shard, encoder and gateway as what their decorators made of them (type checkers still see plain classes)."""
    return ShardDeployment, EncoderDeployment, Gateway


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.25})
class ShardDeployment:
    """One shard in memory."""

    def __init__(self, uri: str, generation: int, number: int) -> None:
        self.shard: Shard = load_shard(generations.read(uri, generation), number)

    def search(self, code: bytes, target: str, k: int) -> list[Hit]:
        """The k nearest to one code."""
        return self.shard.search(np.frombuffer(code, np.uint8)[None], target, k)[0]

    def rows(self, numbers: list[int]) -> list[dict[str, Any]]:
        """Metadata of some rows."""
        return self.shard.rows(numbers)

    def code_of(self, identity: str, modality: str) -> bytes | None:
        """The stored code of an id, None when it is not here."""
        row = self.shard.find(identity)
        return None if row is None else self.shard.code(row, modality).tobytes()


@serve.deployment(max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
class EncoderDeployment:
    """Queries to codes."""

    def __init__(self, model_uri: str, pretrained: str | None, threads: int) -> None:
        self.encoder = QueryEncoder(model_uri, pretrained, threads)

    def encode(self, kind: str, content: Any, modality: str) -> bytes | XhashError:
        """The code of a text, an image or a feature, or the error that says why there is none.

        Errors travel as values: raised ones would arrive wrapped in Ray's.
        """
        try:
            if kind == "vector":
                return self.encoder.vector(modality, content)
            return self.encoder.text(content) if kind == "text" else self.encoder.image(content)
        except XhashError as error:
            return error


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.25})
@serve.ingress(api)
class Gateway:
    """The HTTP endpoint: encodes the query, asks every shard, merges by (distance, id)."""

    def __init__(self, facts: dict[str, Any], encoder: DeploymentHandle, *shards: DeploymentHandle) -> None:
        self.facts, self.encoder, self.shards = facts, encoder, shards
        self.metrics = telemetry.RayMetrics()

    @api.post("/v1/search")
    async def search(self, request: SearchRequest) -> SearchAnswer:
        """The k stored pairs nearest to a query."""
        started_s = time.perf_counter()
        try:
            code = await self.code_of(request)
        except BadInput:
            self.metrics.refused()
            raise
        encoded_s = time.perf_counter()
        target = request.searched()
        parts = await asyncio.gather(*(shard.search.remote(code, target, request.k) for shard in self.shards))
        hits = merge_hits(parts, request.k)
        scanned_s = time.perf_counter()
        found = await self.with_metadata(hits)
        seconds = {
            "encode": encoded_s - started_s,
            "scan": scanned_s - encoded_s,
            "total": time.perf_counter() - started_s,
        }
        self.metrics.searched(request.kind(), seconds)
        return SearchAnswer(
            hits=found,
            kth_distance=hits[-1].distance if hits else None,
            target=target,
            bits=self.facts["bits"],
            model_fingerprint=self.facts["model_fingerprint"],
            shards=len(self.shards),
            timings_ms={part: round(value * 1e3, 3) for part, value in seconds.items()},
        )

    @api.get("/v1/index")
    async def index(self) -> dict[str, Any]:
        """What is served."""
        return {name: value for name, value in self.facts.items() if name not in HIDDEN}

    @api.get("/healthz")
    async def healthz(self) -> dict[str, str]:
        """Answers as soon as the gateway runs, which it does after all shards and the encoder."""
        return {"status": "ok"}

    async def code_of(self, request: SearchRequest) -> bytes:
        """The packed code of a query."""
        kind = request.kind()
        if kind == "code":
            return decode_code(request.code or "", self.facts["bits"])
        if kind == "id":
            return await self.stored_code(request.id or "", request.modality())
        content: Any = decode_image(request.image) if request.image is not None else request.text or request.vector
        encoded = await self.encoder.encode.remote(kind, "" if content is None else content, request.modality())
        if isinstance(encoded, XhashError):
            raise encoded
        return bytes(encoded)

    async def stored_code(self, identity: str, modality: str) -> bytes:
        """The code of a stored pair.

        Raises:
            BadInput: for an id that no shard holds.
        """
        found = await asyncio.gather(*(shard.code_of.remote(identity, modality) for shard in self.shards))
        code = next((code for code in found if code is not None), None)
        if code is None:
            raise BadInput(f"the pair '{identity}'", "not in this index", "Check the id")
        return bytes(code)

    async def with_metadata(self, hits: list[Hit]) -> list[FoundPair]:
        """Hits with their rows' metadata, fetched from the shards that hold them."""
        by_shard: dict[int, list[int]] = {}
        for hit in hits:
            by_shard.setdefault(hit.shard, []).append(hit.row)
        answers = await asyncio.gather(*(self.shards[n].rows.remote(rows) for n, rows in by_shard.items()))
        rows = {
            (number, row): metadata
            for (number, numbers), answer in zip(by_shard.items(), answers, strict=True)
            for row, metadata in zip(numbers, answer, strict=True)
        }
        return [FoundPair(id=h.id, distance=h.distance, metadata=rows[h.shard, h.row]) for h in hits]
