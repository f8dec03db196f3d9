"""What a pair costs before the model, on one core: microseconds for each step by itself, then for all of them.

Run by hand, from the repository: taskset -c 0 .venv/bin/python -m tests.features.measure CORPUS [PAIRS]

CORPUS is a folder of Parquet files with `image` and `text`. Figures are processor time, of this process and the
decoder's together, and each is the best of ROUNDS: machines are shared, and the least is what was disturbed least.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow.parquet as pq
from PIL import Image

from tests.features.pictures import encoded
from xhash_ray.features.batches import prepare
from xhash_ray.features.decoding import Decoder
from xhash_ray.features.framing import Framing
from xhash_ray.features.tokens import Tokens
from xhash_ray.storage.pictures import open_picture

ROUNDS = 7
UNIT = 1024  # pairs prepared at once, as extraction does


def processor_s(process: int) -> float:
    """Processor time that a process has had; the clock is that of clock_getcpuclockid()."""
    return time.clock_gettime((~process << 3) | 2)


def best_us(work: Callable[[], Any], pairs: int, process: int = 0) -> float:
    """Microseconds a pair, of this process or of another one that works for it."""
    taken = []
    for _ in range(ROUNDS):
        began_s = processor_s(process or os.getpid())
        work()
        taken.append(processor_s(process or os.getpid()) - began_s)
    return min(taken) / pairs * 1e6


def loaded(picture: Image.Image) -> Image.Image:
    """With its pixels."""
    picture.load()
    return picture


def stages(images: Sequence[bytes], texts: Sequence[str], size: int) -> dict[str, float]:
    """Every step by itself in this process, then all through the decoder; what the parent spends is transfer."""
    framing, count = Framing({"size": size}), len(images)
    pictures = [loaded(open_picture(content)) for content in images]
    framed = [framing(picture) for picture in pictures]
    tokens = Tokens(open_clip.get_tokenizer("ViT-B-32"))
    opened = best_us(lambda: [open_picture(content) for content in images], count)
    found = {
        "open": opened,
        "decode": best_us(lambda: [loaded(open_picture(content)) for content in images], count) - opened,
        "frame": best_us(lambda: [framing(picture) for picture in pictures], count),
        "to bytes": best_us(lambda: [picture.tobytes() for picture in framed], count),
        "tokens, new captions": best_us(lambda: (tokens.remembered.cache_clear(), tokens(texts)), count),
    }
    with Decoder({"size": size}) as decoder:
        decoder.decode(images[:1])

        def everything() -> None:
            tokens.remembered.cache_clear()
            for i in range(0, count, UNIT):
                prepare(images[i : i + UNIT], [[text] for text in texts[i : i + UNIT]], decoder, tokens)

        found["all, in the decoder"] = best_us(everything, count, decoder.started().process.pid)
        found["all, in its parent"] = best_us(everything, count)
    return found


def main() -> None:
    """Prints a table."""
    files = sorted(Path(sys.argv[1]).glob("*.parquet"))
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 2048
    table = pq.ParquetDataset(files).read(["image", "text"]).slice(0, pairs)
    images, texts = table["image"].to_pylist(), table["text"].to_pylist()
    small = [
        encoded(Image.open(io.BytesIO(content)).convert("RGB").resize((64, 64)), "JPEG", quality=90)
        for content in images
    ]
    plain = open_clip.get_tokenizer("ViT-B-32")
    print(f"{len(images)} pairs; open_clip's tokenizer: {best_us(lambda: plain(texts), len(texts)):.1f} us a caption")
    for name, contents, size in (
        ("64 x 64 for 64", small, 64),
        ("photos for 64", images, 64),
        ("photos for 224", images, 224),
    ):
        found = stages(contents, texts, size)
        both = found["all, in the decoder"] + found["all, in its parent"]
        shape, length = Image.open(io.BytesIO(contents[0])).size, np.mean([len(each) for each in contents])
        print(f"{name}: {shape[0]} x {shape[1]}, {length:,.0f} bytes; {1e6 / both:,.0f} pairs/s")
        print("    " + ", ".join(f"{step} {us:.1f}" for step, us in found.items()))


if __name__ == "__main__":
    main()
