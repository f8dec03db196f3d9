"""Recipes: every one parses, and the demonstration's own is what `xhash demo` does."""

from __future__ import annotations

import tomllib

import pytest

from tests.conftest import REPOSITORY
from xhash_ray import methods
from xhash_ray.config import build, read_recipe
from xhash_ray.options import VERBS

RECIPES = sorted((REPOSITORY / "jobs" / "recipes").glob("*.toml"))
TABLES = {verb.replace(" ", "-"): options for verb, options in VERBS.items()}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_recipe_holds_valid_options(path):
    for table in tomllib.loads(path.read_text()):
        options = build(TABLES[table], read_recipe(str(path), table, TABLES), table)
        if table == "train":
            method = methods.load(options.method)
            build(method.settings_type, options.settings, options.method)


def test_every_verb_has_its_job():
    without = ("query", "demo", "bench", "methods")  # they run at a desk, not on a cluster
    for verb in (verb for verb in VERBS if verb.split()[0] not in without):
        name = {"index build": "build_index", "corpus demo": "corpus_demo", "import": "import_features"}.get(verb, verb)
        text = (REPOSITORY / "jobs" / f"{name}.py").read_text()
        assert "main([" + ", ".join(f'"{word}"' for word in verb.split()) + ", *sys.argv[1:]])" in text
