"""The server to be beaten: FastAPI and faiss IndexBinaryFlat in one process. `python -m ... CODES.npy PORT THREADS`."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI


def plain_app(codes: np.ndarray, threads: int) -> FastAPI:
    """Searches like everybody writes it first."""
    faiss: Any = importlib.import_module("faiss")
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(codes)
    app = FastAPI()

    @app.post("/v1/search")
    def search(body: dict[str, Any]) -> dict[str, Any]:
        query = np.frombuffer(bytes.fromhex(body["code"]), np.uint8)[None]
        distances, rows = index.search(query, body["k"])
        found = zip(distances[0].tolist(), rows[0].tolist(), strict=True)
        return {"hits": [{"id": str(row), "distance": distance} for distance, row in found]}

    @app.post("/v1/search/batch")
    def search_batch(body: dict[str, Any]) -> dict[str, Any]:
        asked = body["queries"]
        queries = np.frombuffer(bytes.fromhex("".join(each["code"] for each in asked)), np.uint8)
        distances, rows = index.search(queries.reshape(len(asked), -1), asked[0]["k"])
        return {
            "answers": [
                {"hits": [{"id": str(row), "distance": d} for d, row in zip(ds, rs, strict=True)]}
                for ds, rs in zip(distances.tolist(), rows.tolist(), strict=True)
            ]
        }

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    uvicorn.run(plain_app(np.load(sys.argv[1]), int(sys.argv[3])), port=int(sys.argv[2]), log_level="error")
