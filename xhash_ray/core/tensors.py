"""The same search on PyTorch tensors, so on a GPU where the codes lie on one; answers are those of `hamming.search`.

Distances come from a product of +1/-1 matrices, <a, b> = bits - 2 distance, which is what GPUs do best: in half
precision on CUDA (its sums are exact, whole numbers up to 1,024), in single precision elsewhere. Codes are taken in
pieces; of each the k smallest (distance, row) are kept as one whole number, so that ties have their order.
"""

from typing import NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from xhash_ray.core.bits import check_bits
from xhash_ray.core.topk import check_k
from xhash_ray.errors import BadInput, Mismatch

PIECE_NUMBERS = 2**26  # signs of a piece: 128 MiB in half precision
ROW_BITS = 40  # a key is distance * 2^40 + row
LAST_KEY = torch.iinfo(torch.int64).max


class TensorHits(NamedTuple):
    """As `topk.Hits`, on the device of the codes: int64 [q, min(k, n)] each, by (distance, row)."""

    distances: Int64[Tensor, "q k"]
    rows: Int64[Tensor, "q k"]


@torch.inference_mode()
def search(codes: UInt8[Tensor, "n bytes"], queries: UInt8[Tensor, "q bytes"], k: int) -> TensorHits:
    """The k codes nearest to each query, ordered by (distance, row), exact.

    Args:
        codes: uint8 [n, bits / 8] on any device.
        queries: uint8 [q, bits / 8] on the same.
        k: Hits wanted of each query; min(k, n) are returned.

    Raises:
        Mismatch: when lengths or devices differ.
        BadInput: for k below 1, or tensors that are no codes.
    """
    check(codes, queries)
    k, bits = min(check_k(k), len(codes)), codes.shape[1] * 8
    kind = torch.float16 if codes.is_cuda else torch.float32
    asked = signs(queries, kind)
    best = torch.full((len(queries), k), LAST_KEY, dtype=torch.int64, device=codes.device)
    step = max(1, k, PIECE_NUMBERS // bits)
    for start in range(0, len(codes) if len(queries) else 0, step):
        piece = codes[start : start + step]
        distances = ((bits - asked @ signs(piece, kind).T) / 2).round().to(torch.int64)
        rows = torch.arange(start, start + len(piece), device=codes.device)
        nearest = smallest((distances << ROW_BITS) + rows, k)
        best = smallest(torch.cat([best, nearest], dim=1), k)
    return TensorHits(best >> ROW_BITS, best & ((1 << ROW_BITS) - 1))


def smallest(keys: Int64[Tensor, "q n"], k: int) -> Int64[Tensor, "q m"]:
    """The k smallest of each line, ascending; all of them where there are fewer."""
    found: Tensor = keys.topk(min(k, keys.shape[1]), dim=1, largest=False, sorted=True).values
    return found


def signs(codes: UInt8[Tensor, "n bytes"], kind: torch.dtype) -> Tensor:
    """+1 and -1 for the bits of packed codes, [n, bits]."""
    places = torch.arange(8, device=codes.device, dtype=torch.uint8)
    ones = (codes[:, :, None] >> places) & 1
    return ones.to(kind).mul_(2).sub_(1).flatten(1)


def check(codes: Tensor, queries: Tensor) -> None:
    """Raises when two tensors are not codes of one length on one device."""
    for name, tensor in (("codes", codes), ("queries", queries)):
        if tensor.dtype != torch.uint8 or tensor.dim() != 2:
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise BadInput(f"Hamming search, {name}", found, "Give packed codes: uint8 [n, bits / 8]")
    if codes.shape[1] != queries.shape[1]:
        found = f"codes of {codes.shape[1] * 8} bits, queries of {queries.shape[1] * 8} bits"
        raise Mismatch("Hamming search", found, "Encode both with the same model")
    if codes.device != queries.device:
        raise Mismatch("Hamming search", f"codes on {codes.device}, queries on {queries.device}", "Move one of them")
    check_bits(codes.shape[1] * 8)
