"""Options from recipes, overrides and flags: types, precedence, errors that name the nearest known key."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.config import build, expand, help_of, is_required, literal, option, override, read_recipe
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.options import VERBS


@dataclass(frozen=True)
class Example:
    """One option of every type."""

    path: str = option("where it lies")
    bits: int = option("code length", 64)
    share: float = option("of the pairs", 0.5)
    overwrite: bool = option("replace", False)
    where: str | None = option("which rows", None)
    actors: int | None = option("processes", None)
    names: tuple[str, ...] = option("several", ())
    settings: dict[str, Any] = option("a table", {})
    dtype: str = option("of the features", "float16", choices=("float16", "float32"))


def made(**values: Any) -> Example:
    """The options from loose values."""
    return build(Example, {"path": "x", **values}, "xhash example")


def recipe(folder, text: str) -> str:
    """A recipe file."""
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    return str(folder / "recipe.toml")


def test_defaults_fill_what_is_not_given():
    assert made() == Example("x", 64, 0.5, False, None, None, (), {}, "float16")


@pytest.mark.parametrize(
    ("name", "value", "typed"),
    [
        ("bits", "32", 32),
        ("bits", 32, 32),
        ("bits", 32.0, 32),
        ("bits", "1e6", 1_000_000),
        ("bits", "1_000", 1000),
        ("bits", "-8", -8),
        ("share", "1e-3", 0.001),
        ("share", 1, 1.0),
        ("overwrite", "true", True),
        ("overwrite", "No", False),
        ("overwrite", "1", True),
        ("overwrite", "off", False),
        ("overwrite", True, True),
        ("where", "split=train", "split=train"),
        ("where", None, None),
        ("where", "none", None),
        ("actors", "none", None),
        ("actors", "4", 4),
        ("names", "a,b", ("a", "b")),
        ("names", ["a", "b"], ("a", "b")),
        ("settings", "a=1,b=x=y", {"a": "1", "b": "x=y"}),
        ("settings", {"a": 1}, {"a": 1}),
        ("settings", "", {}),
        ("dtype", "float32", "float32"),
        ("path", "none", "none"),
    ],
)
def test_loose_values_become_typed(name, value, typed):
    found = getattr(made(**{name: value}), name)
    assert found == typed
    assert type(found) is type(typed)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("bits", "many", "int"),
        ("bits", "1.5", "int"),
        ("bits", 1.5, "int"),
        ("bits", True, "int"),
        ("bits", "inf", "int"),
        ("bits", float("nan"), "int"),
        ("bits", [1], "int"),
        ("actors", "few", "int"),
        ("share", "half", "float"),
        ("overwrite", "perhaps", "bool"),
        ("overwrite", 2, "bool"),
        ("settings", "a", "dict"),
        ("settings", 5, "dict"),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_option(name, value, kind):
    with pytest.raises(BadOption, match=f"xhash example --{name}: .* is not of type {kind}"):
        made(**{name: value})


@settings(deadline=None, max_examples=50)
@given(st.integers(-(10**15), 10**15))
def test_whole_numbers_survive_as_text(number):
    assert made(bits=str(number)).bits == number


@pytest.mark.parametrize("number", [2**53 + 1, 10**18 + 1])
def test_large_whole_numbers_survive_as_text(number):
    assert made(bits=str(number)).bits == number


@pytest.mark.parametrize(("given_name", "nearest"), [("bit", "bits"), ("overwite", "overwrite"), ("pth", "path")])
def test_an_unknown_option_names_the_nearest(given_name, nearest):
    with pytest.raises(BadOption, match=f"unknown option '{given_name}'.*Did you mean '{nearest}'"):
        made(**{given_name: 1})


def test_a_missing_option_says_how_to_give_it():
    with pytest.raises(BadOption, match=r"'path' is missing\. Give --path \(where it lies\)"):
        build(Example, {}, "xhash example")


def test_a_value_that_is_no_choice_names_the_choices():
    with pytest.raises(BadOption, match=r"dtype = 'float61'.*Did you mean 'float16'.*float16, float32"):
        made(dtype="float61")


def test_tables_of_two_options_are_not_the_same_object():
    made().settings["a"] = 1
    assert made().settings == {}


@pytest.mark.parametrize(("verb", "kind"), VERBS.items())
def test_every_verbs_options_are_described_and_keep_their_defaults(verb, kind):
    fields = [field for field in dataclasses.fields(kind) if is_required(field)]
    required = {field.name: field.metadata.get("choices", ("1",))[0] for field in fields}
    options = build(kind, required, f"xhash {verb}")
    again = build(kind, dataclasses.asdict(options), f"xhash {verb}")
    assert again == options
    assert all(help_of(field) != field.name for field in dataclasses.fields(kind))


RECIPE = """
[train]
bits = 32
features = "${XHASH_TEST_PLACE:-/elsewhere}/features"
[train.settings]
epochs = 3
name = "${XHASH_TEST_PLACE:-}"
list = ["${XHASH_TEST_PLACE:-x}", 2]
[encode]
bits = 8
"""


def test_a_recipe_gives_one_verbs_table(tmp_path, monkeypatch):
    monkeypatch.delenv("XHASH_TEST_PLACE", raising=False)
    assert read_recipe(recipe(tmp_path, RECIPE), "train", ["train", "encode"]) == {
        "bits": 32,
        "features": "/elsewhere/features",
        "settings": {"epochs": 3, "name": "", "list": ["x", 2]},
    }


def test_the_environment_beats_a_recipes_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XHASH_TEST_PLACE", "/here")
    found = read_recipe(recipe(tmp_path, RECIPE), "train", ["train", "encode"])
    assert (found["features"], found["settings"]["name"]) == ("/here/features", "/here")


def test_a_verb_without_table_gets_nothing(tmp_path):
    assert read_recipe(recipe(tmp_path, "[encode]\nbits = 8\n"), "train", ["train", "encode"]) == {}


def test_an_unknown_table_names_the_nearest(tmp_path):
    with pytest.raises(BadOption, match=r"unknown table \[trian\].*Did you mean 'train'"):
        read_recipe(recipe(tmp_path, "[trian]\nbits = 8\n"), "train", ["train", "encode"])


@pytest.mark.parametrize("text", ["[train", "bits = ", "[train]\nbits = 1\nbits = 2\n"])
def test_a_recipe_that_is_no_toml_is_refused(tmp_path, text):
    with pytest.raises(BadInput, match=r"recipe\.toml: not TOML"):
        read_recipe(recipe(tmp_path, text), "train", ["train"])


def test_a_recipe_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="not TOML"):
        read_recipe(str(tmp_path / "recipe.toml"), "train", ["train"])


@pytest.mark.parametrize("name", ["nothing.toml", ""])
def test_a_recipe_that_is_not_there_is_refused(tmp_path, name):
    with pytest.raises(BadInput, match="recipe"):
        read_recipe(str(tmp_path / name), "train", ["train"])


def test_a_key_where_a_table_should_be_is_refused(tmp_path):
    with pytest.raises(BadInput, match="train"):
        read_recipe(recipe(tmp_path, "train = 5\n"), "train", ["train"])


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${A}", "1"),
        ("x/${A}/${B:-b}", "x/1/b"),
        ("${A:-other}", "1"),
        ("${B:-}", ""),
        ("${EMPTY:-x}", ""),
        ("$A {A}", "$A {A}"),
        ("plain", "plain"),
        (3, 3),
    ],
)
def test_variables_in_text(text, expanded, monkeypatch):
    monkeypatch.setenv("A", "1")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("B", raising=False)
    assert expand(text) == expanded
    assert expand({"k": [{"n": text}]}) == {"k": [{"n": expanded}]}


def test_an_unset_variable_without_default_is_named(monkeypatch):
    monkeypatch.delenv("XHASH_UNSET", raising=False)
    with pytest.raises(BadOption, match=r"no XHASH_UNSET.*\$\{XHASH_UNSET:-default\}"):
        expand({"a": ["${XHASH_UNSET}"]})


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["bits=32"], {"bits": 32, "settings": {"epochs": 3}}),
        (["settings.epochs=5"], {"bits": 64, "settings": {"epochs": 5}}),
        (["settings.name=a=b"], {"bits": 64, "settings": {"epochs": 3, "name": "a=b"}}),
        (["columns.text=caption"], {"bits": 64, "settings": {"epochs": 3}, "columns": {"text": "caption"}}),
        (["bits=1", "bits=2"], {"bits": 2, "settings": {"epochs": 3}}),
        ([" bits = 16 "], {"bits": 16, "settings": {"epochs": 3}}),
    ],
)
def test_assignments_override(assignments, expected):
    values = {"bits": 64, "settings": {"epochs": 3}}
    assert override(values, assignments) == expected
    assert values == {"bits": 64, "settings": {"epochs": 3}}


def test_an_assignment_without_a_value_is_refused():
    with pytest.raises(BadOption, match="--set bits: no '='"):
        override({}, ["bits"])


def test_an_assignment_into_what_is_no_table_is_refused():
    with pytest.raises(BadOption):
        override({"bits": 64}, ["bits.of=3"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("true", True),
        ('"3"', "3"),
        ("[1, 2]", [1, 2]),
        ("split=train", "split=train"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("", ""),
        ("two words", "two words"),
    ],
)
def test_literals(text, value):
    assert literal(text) == value
