"""Recipes: every one parses, and the demonstration's own is what `xhash demo` does."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest
import torch

from tests.conftest import REPOSITORY
from xhash_ray import methods
from xhash_ray.config import build, read_recipe
from xhash_ray.datasets import splits
from xhash_ray.evaluation import published
from xhash_ray.methods.base import Shape
from xhash_ray.options import VERBS

RECIPES = sorted((REPOSITORY / "jobs" / "recipes").rglob("*.toml"))
OF_METHODS = [path for path in RECIPES if path.parent.name not in ("recipes", "fast")]  # <data set>/<method>.toml
TABLES = {verb.replace(" ", "-"): options for verb, options in VERBS.items()}


def options_of(path, table):
    """The options that one table of a recipe gives."""
    return build(TABLES[table], read_recipe(str(path), table, TABLES), table)


def name_of(path):
    """A recipe's name below jobs/recipes."""
    return path.relative_to(REPOSITORY / "jobs" / "recipes").as_posix()


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_every_recipe_holds_valid_options(path):
    for table in tomllib.loads(path.read_text()):
        options = options_of(path, table)
        if table == "train":
            with torch.device("meta"):  # shapes without memory: some methods have millions of weights
                methods.create(options.method, Shape(options.bits, 8, 8, classes=3), options.settings)


def test_there_is_a_recipe_for_every_method_on_every_set():
    found = {name_of(path).removesuffix(".toml") for path in OF_METHODS}
    sets = ("wiki", "mirflickr", "nuswide10", "nuswide21", "coco", "yours")
    assert found == {f"{name}/{method}" for name in sets for method in methods.available()}


@pytest.mark.parametrize("path", OF_METHODS, ids=name_of)
def test_the_tables_of_a_recipe_belong_together(path):
    train, encode, evaluate = (options_of(path, table) for table in ("train", "encode", "evaluate"))
    assert train.method == path.stem
    assert (encode.features, encode.model) == (train.features, train.out)
    assert evaluate.queries == evaluate.database == encode.out
    published.chosen(evaluate.definitions)
    if path.parent.name == "yours":
        assert "import" not in tomllib.loads(path.read_text())
    else:
        assert options_of(path, "import").out == train.features
        assert (train.where, evaluate.queries_where) == ("split=train", "split=query")


@pytest.mark.parametrize("path", [path for path in OF_METHODS if path.parent.name != "yours"], ids=name_of)
def test_a_recipe_names_the_digest_of_every_split_that_needs_no_labels(path):
    """Recomputed from the published numbers of pairs."""
    options = options_of(path, "import")
    rows = {"mirflickr": 20_015, "nuswide10": 186_577, "nuswide21": 195_834, "coco-shi": 87_081, "one-file": 122_218}
    if options.split.startswith(("random:", "last:")):
        split = splits.make_split(options.split, rows[options.layout], None, lambda: None, options.split_seed)
        assert split.digest == options.split_digest
    elif options.layout == "parquet":
        given = np.repeat(["query", "train"], [693, 2173])
        assert splits.make_split("files", len(given), given, lambda: None, 1).digest == options.split_digest
    else:
        assert options.split_digest is None


def test_every_verb_has_its_job():
    without = (
        "query",
        "exporter",
        "demo",
        "bench",
        "methods",
        "metrics",
        "plan",
    )  # they run at a desk, not on a cluster
    for verb in (verb for verb in VERBS if verb.split()[0] not in without):
        named = {"index build": "build_index", "corpus demo": "corpus_demo", "import": "import_features"}
        name = named.get(verb, "change_index" if verb.startswith("index ") else verb)
        text = (REPOSITORY / "jobs" / f"{name}.py").read_text()
        words = verb.split()[:1] if name == "change_index" else verb.split()  # that job is told the verb
        assert "main([" + ", ".join(f'"{word}"' for word in words) + ", *sys.argv[1:]])" in text
