"""What the verbs that train and judge hash functions can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xhash_ray.config import option
from xhash_ray.options.corpus import OVERWRITE


@dataclass(frozen=True)
class Train:
    """`xhash train`: learns the two hash functions."""

    features: str = option("feature file or folder")
    out: str = option("folder or URI for the model")
    method: str = option("hashing method, see `xhash methods`", "dfrh")
    bits: int = option("code length, a multiple of 8", 64)
    seed: int = option("of weights and order", 1)
    workers: int = option("training processes; 0 trains inside this one", 1)
    max_workers: int | None = option("elastic: up to so many, as the cluster has room (default: --workers)", None)
    where: str | None = option("pairs used: column=value, column!=a,b or id%10!=0", None)
    validation: str | None = option("of those pairs, the ones set aside for validation, such as id%10=0", None)
    validate_every: int = option("epochs between two validations", 10)
    select: str = option("weights kept: of the last epoch, or of the best validated", "last", choices=("last", "best"))
    stream: str = option(
        "read pairs while training, never all in memory; auto: above --memory-mb",
        "auto",
        choices=("auto", "always", "never"),
    )
    memory_mb: int = option("features that may be held in memory by every worker, in MB", 1024)
    zeros: str = option("pairs with an all-zero feature", "refuse", choices=("refuse", "keep"))
    precision: str = option("of the networks; bf16 is autocast", "fp32", choices=("fp32", "bf16"))
    checkpoint_s: float = option("seconds between checkpoints; the same command continues from the last", 60.0)
    max_failures: int = option("times that lost workers are replaced", 3)
    settings: dict[str, Any] = option("the method's settings, see `xhash methods show NAME`", {})
    overwrite: bool = option(OVERWRITE, False)


@dataclass(frozen=True)
class Methods:
    """`xhash methods`: the hashing methods that can be trained."""


@dataclass(frozen=True)
class MethodsShow:
    """`xhash methods show`: one method's paper, needs and settings with their sources."""

    name: str = option("a method", positional=True)


@dataclass(frozen=True)
class Evaluate:
    """`xhash evaluate`: how well codes (or float features) retrieve, expected over ties: MAP@all and more."""

    queries: str | None = option("code (or feature) file or folder with labels", None)
    database: str | None = option("code (or feature) file or folder with labels", None)
    runs: dict[str, Any] = option(
        "instead of those two, several runs side by side: name=URI,..., each holding queries and database", {}
    )
    queries_where: str | None = option("rows of --queries (of every run) that are queries", None)
    database_where: str | None = option("rows of --database (of every run) that are searched", None)
    directions: tuple[str, ...] = option(
        "separated by commas: image_to_text text_to_image image_to_image text_to_text, or all",
        ("image_to_text", "text_to_image"),
    )
    at: tuple[str, ...] = option("places N of precision, recall and NDCG", ("1", "10", "100", "1000"))
    definitions: tuple[str, ...] = option("published MAPs by name, see evaluation/published.py, or all", ())
    k: int = option("cut-off of the published definitions", 50)
    threads: int | None = option("cores to use in this process; default: all it may use", None)
    out: str | None = option("JSON file for the result with its curves; an older one is replaced", None)
    plots: str | None = option("folder for PNG and SVG of the curves; older ones are replaced", None)
