"""`xhash bench encode`: the bare loop that encoding is measured beside, and the parts of its time.

The loop is what one writes without thinking of more: every Parquet file read whole, both matrices through the hash
functions, signs packed. It writes nothing, computes no checksum, and cannot go on where it died.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from xhash_ray.methods import create
from xhash_ray.methods.artefacts import facts_of, weights_of
from xhash_ray.methods.base import Method, Shape
from xhash_ray.options.bench import BenchEncode
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import write_artefact

SEED = 1


def untrained(options: BenchEncode, uri: str) -> Method:
    """A model with its first weights, written as a folder: speed does not ask what codes mean."""
    torch.manual_seed(SEED)
    method = create(options.method, Shape(options.bits, options.image_length, options.text_length), {})
    write_artefact(uri, facts_of(options.method, method) | {"encoder": {}}, weights_of(method), "# for speed\n")
    return method.eval()


def matrix(table: Any, name: str) -> np.ndarray:
    """A column of fixed-size float16 lists as float32 [n, d]."""
    column = table[name].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1).astype(np.float32)


@torch.inference_mode()
def bare_loop(files: Sequence[str], method: Method) -> dict[str, float]:
    """Seconds of the loop: in all, and of its parts: bytes, Parquet, conversion, product, packing."""
    seconds = dict.fromkeys(("bytes", "parquet", "float32", "product", "packing"), 0.0)
    began_s = time.perf_counter()
    for name in files:
        content = timed(seconds, "bytes", lambda name=name: places.read_bytes(name))
        table = timed(seconds, "parquet", lambda content=content: parse(content))
        for modality in ("image", "text"):
            floats = timed(seconds, "float32", lambda t=table, m=modality: torch.from_numpy(matrix(t, m)))
            outputs = timed(seconds, "product", lambda m=modality, f=floats: method.outputs(m, f))
            timed(seconds, "packing", lambda o=outputs: np.packbits((o >= 0).numpy(), axis=1, bitorder="little"))
    return {"all": time.perf_counter() - began_s, **seconds}


def parse(content: bytes) -> Any:
    """A Parquet file in memory as a table, on all threads."""
    return pq.read_table(pa.BufferReader(content), columns=["id", "image", "text"])


def timed(seconds: dict[str, float], part: str, do: Any) -> Any:
    """What a function gives; its time is added to a part."""
    began_s = time.perf_counter()
    result = do()
    seconds[part] += time.perf_counter() - began_s
    return result
