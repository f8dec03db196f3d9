"""What the verbs from a corpus to codes can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xhash_ray.config import option

OVERWRITE = "replace finished results at --out"


@dataclass(frozen=True)
class CorpusDemo:
    """`xhash corpus demo`: draws the demonstration corpus."""

    out: str = option("folder or URI for the corpus")
    pairs: int = option("number of image-text pairs", 6000)
    seed: int = option("the same seed draws the same corpus", 1)
    overwrite: bool = option(OVERWRITE, False)


@dataclass(frozen=True)
class Pretrain:
    """`xhash pretrain`: trains a small CLIP from scratch on a small corpus (no network needed)."""

    corpus: str = option("corpus: Parquet, WebDataset tars, or images with a CSV/JSONL table")
    out: str = option("weights file to write, ending in .safetensors")
    model: str = option("open_clip architecture by name, or a .json file", "xhash-tiny")
    columns: dict[str, Any] = option("renamed corpus columns, role=column,... (id image image_path text labels)", {})
    where: str | None = option("pairs to train on: column=value, column!=a,b or id%10!=0", None)
    seed: int = option("of weights and order", 1)
    settings: dict[str, Any] = option("training settings, see features/pretraining.py", {})


@dataclass(frozen=True, kw_only=True)
class CorpusWork:
    """What every verb that computes features of a corpus can be told."""

    columns: dict[str, Any] = option("renamed corpus columns, role=column,... (id image image_path text labels)", {})
    identity: str = option("ids: as given, or a hash of the content", "given", choices=("given", "content"))
    duplicates: str | None = option(
        "rows that repeat an id: refuse, or keep the first; default: refuse given ids, first of equal contents",
        None,
        choices=(None, "refuse", "first"),
    )
    modalities: str = option("what is extracted", "both", choices=("both", "image", "text"))
    captions: str = option(
        "of several captions: the mean feature, the first, one drawn, or each as a pair of its own",
        "mean",
        choices=("mean", "first", "random", "each"),
    )
    seed: int = option("of captions that are drawn", 1)
    dtype: str = option("of the features", "float16", choices=("float16", "float32"))
    precision: str = option("of the model", "fp32", choices=("fp32", "bf16", "fp16"))
    compile: bool = option("compile the model first: pays on GPUs, for many pairs", False)
    actors: int | None = option("processes that hold the model; default: as many as GPUs hold, else one per core", None)
    gpus_per_actor: float = option("GPUs of each, or a part of one; used where the cluster has GPUs", 1.0)
    batch_size: int = option("pairs per forward pass", 128)
    decoder_timeout_s: float = option("seconds that decoding one image may take", 20.0)
    max_rejects: float = option("share of pairs that may be unusable before the run fails", 0.01)


@dataclass(frozen=True, kw_only=True)
class Resumable:
    """What every verb that works through millions of pairs can be told."""

    rows_per_unit: int | None = option("pairs per work unit and part file; default: by their size", None)
    extend: bool = option("the source has grown: add its new files to what is done", False)
    overwrite: bool = option(OVERWRITE, False)
    events: str | None = option("local file to append JSON events to; - for standard error", None)


@dataclass(frozen=True, kw_only=True)
class Extract(CorpusWork, Resumable):
    """`xhash extract`: CLIP features of a corpus. The same command goes on where a run died."""

    corpus: str = option("corpus: Parquet, WebDataset tars, or images with a CSV/JSONL/Parquet table")
    out: str = option("folder or URI for the features")
    model: str = option("open_clip architecture by name, or a .json file")
    pretrained: str = option("open_clip tag, or weights file or URI")


@dataclass(frozen=True)
class Import:
    """`xhash import`: a published data set in the layout it is distributed in, as features with a split."""

    layout: str = option(
        "wiki mirflickr nuswide10 nuswide21 one-file coco-shi parts npy parquet, see datasets/layouts.py",
        choices=("wiki", "mirflickr", "nuswide10", "nuswide21", "one-file", "coco-shi", "parts", "npy", "parquet"),
    )
    source: str = option("folder (or file) of the set")
    out: str = option("folder or URI for the features")
    split: str | None = option(
        "files, random:QUERY:TRAIN, last:QUERY, ..., see datasets/splits.py; default: files", None
    )
    split_seed: int = option("of what the split draws", 1)
    split_digest: str | None = option("SHA-256 (or its beginning) that the split must have", None)
    image_features: str | None = option(".npy, .mat or .h5 file for the images, in the set's order", None)
    text_features: str | None = option("the same for the texts", None)
    dtype: str = option("of the stored features", "float32", choices=("float32", "float16"))
    overwrite: bool = option(OVERWRITE, False)


@dataclass(frozen=True, kw_only=True)
class Encode(CorpusWork, Resumable):
    """`xhash encode`: features (or a corpus) to codes. The same command goes on where a run died."""

    features: str | None = option("feature file or folder", None)
    from_corpus: str | None = option("instead, a corpus: straight to codes, no features are stored", None)
    model: str = option("folder of a trained model")
    out: str = option("folder or URI for the codes")
    keep_features: bool = option("store the features with the codes, as float16: the index can rescore by them", False)
    pretrained: str | None = option("CLIP weights, where they lie elsewhere than when they were extracted with", None)


@dataclass(frozen=True)
class Verify:
    """`xhash verify`: joins the ids of corpus, features and codes: every pair once, nothing lost, files as written."""

    features: str | None = option("features to check, with the corpus they were made from", None)
    codes: str | None = option("codes to check, with the features (or corpus) they were made from", None)
    corpus: str | None = option("corpus, where it lies elsewhere than when it was extracted", None)
    checksums: bool = option("read every file again and compare its SHA-256", True)
