"""`xhash bench extract`: the bare loop that extraction is measured beside, and the corpus for both.

The loop is open_clip's own transform and tokenizer in PyTorch's DataLoader, and the model's two calls: features stay in
memory, a bad image ends it.
"""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from xhash_ray.corpus.scenes import scene_pair
from xhash_ray.features.checkpoints import resolve_architecture
from xhash_ray.features.clip import ClipEncoder
from xhash_ray.options.bench import BenchExtract
from xhash_ray.storage import tables, writing

SEED, ROWS_PER_FILE, DRAWN = 1, 2_000, 2_000
MICRO = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": 1, "width": 16, "patch_size": 32, "head_width": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}


def jpeg_corpus(options: BenchExtract, folder: str) -> str:
    """Scenes as JPEGs, unless they are there already; a few thousand are drawn and then repeat under other ids."""
    out = f"{folder}/corpus-{options.pairs}-{options.side}"
    if tables.read_manifest(out) is not None:
        return out
    claimed = writing.claim(out, "a corpus", overwrite=True)
    writing.begin(claimed)
    drawn = [scene_pair(SEED, number) for number in range(min(DRAWN, options.pairs))]
    images, texts = [jpeg(scene.image, options.side) for scene in drawn], [scene.text for scene in drawn]
    files = []
    for part, start in enumerate(range(0, options.pairs, ROWS_PER_FILE)):
        numbers = range(start, min(start + ROWS_PER_FILE, options.pairs))
        rows = {"id": [f"{number:08d}" for number in numbers], "image": [images[n % len(images)] for n in numbers]}
        rows["text"] = [texts[n % len(texts)] for n in numbers]
        files.append(tables.write_table(claimed.part(part), pa.table(rows)))
    writing.commit(out, files, {"kind": "corpus"})
    return out


def jpeg(content: bytes, side: int) -> bytes:
    """An image as a square JPEG."""
    written = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").resize((side, side)).save(written, "JPEG", quality=90)
    return written.getvalue()


def random_weights(options: BenchExtract, folder: str) -> tuple[str, str]:
    """Architecture and weights file of a model that nobody trained: speed does not ask what features mean."""
    model = options.model
    if model == "micro":
        model = f"{folder}/xhash-micro.json"
        Path(model).parent.mkdir(parents=True, exist_ok=True)
        Path(model).write_text(json.dumps(MICRO))
    name = resolve_architecture(model)
    weights = f"{folder}/{name}.safetensors"
    if not Path(weights).exists():
        torch.manual_seed(SEED)
        made = open_clip.create_model(name)
        save_file({key: value.contiguous().clone() for key, value in made.state_dict().items()}, weights)
    return model, weights


class Pairs(Dataset):
    """The corpus in memory, decoded by open_clip's transform."""

    def __init__(self, corpus: str, transform: Any, tokenizer: Any) -> None:
        table = tables.read_table(tables.open_tables(corpus, "corpus"))
        self.images, self.texts = table["image"].to_pylist(), table["text"].to_pylist()
        self.transform, self.tokenizer = transform, tokenizer

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.transform(Image.open(io.BytesIO(self.images[row]))), self.tokenizer(self.texts[row])[0]


class Bare:
    """The loop, its model loaded once."""

    def __init__(self, options: BenchExtract, corpus: str, model: str, weights: str) -> None:
        self.options = options
        self.encoder = ClipEncoder(model, weights, options.device, options.precision, None)
        _, _, transform = open_clip.create_model_and_transforms(self.encoder.facts.model, weights)
        self.pairs = Pairs(corpus, transform, open_clip.get_tokenizer(self.encoder.facts.model))

    @torch.inference_mode()
    def run(self) -> float:
        """Pairs/s, from the first batch that is ready on: processes start before."""
        options = self.options
        torch.set_num_threads(options.threads)
        batches = iter(DataLoader(self.pairs, options.batch_size, num_workers=options.processes))
        kept, done = [self.both(*next(batches))], options.batch_size
        began_s = time.perf_counter()
        for images, tokens in batches:
            kept.append(self.both(images, tokens))
            done += len(images)
        return (done - options.batch_size) / (time.perf_counter() - began_s)

    def both(self, images: torch.Tensor, tokens: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Features of a batch."""
        encoder = self.encoder
        images = images.to(encoder.device, encoder.dtype or torch.float32)
        image = encoder.model.encode_image(images, normalize=True)
        text = encoder.model.encode_text(tokens.to(encoder.device), normalize=True)
        return image.float().cpu().numpy().astype(np.float16), text.float().cpu().numpy().astype(np.float16)
