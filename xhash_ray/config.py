"""Options: a frozen dataclass per verb, filled from a TOML recipe, then from single overrides.

A recipe has one table per verb, so that one file can hold a whole experiment:

    [train]
    features = "${XHASH_DEMO:-/tmp/xhash-demo}/features"
    bits = 64
    [train.settings]
    epochs = 60

Precedence: the dataclass' default, the recipe, `--set key=value`, the verb's own flags. An unknown key is an
error that names the nearest known one. `${NAME}` and `${NAME:-default}` in strings come from the environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import tomllib
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from xhash_ray.errors import BadInput, BadOption, nearest

Options = TypeVar("Options")

WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def option(help_text: str, default: Any = dataclasses.MISSING, **metadata: Any) -> Any:
    """A dataclass field with the sentence that --help prints.

    Args:
        help_text: What the option means, with its unit.
        default: Leave out for an option that must be given.
        metadata: `choices=(...)` for an enumeration.
    """
    kept = {"help": help_text, **metadata}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=kept)
    return dataclasses.field(default=default, metadata=kept)


def build(options: type[Options], values: Mapping[str, Any], asked: str) -> Options:
    """Makes the dataclass from loose values: strings from a command line, typed ones from TOML.

    Args:
        options: A dataclass type.
        values: By field name; numbers may be strings.
        asked: What these options are for, for the error line, such as "xhash train".

    Raises:
        BadOption: for an unknown key, a missing required one, or a value of the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(options)
    for name in values:
        if name not in fields:
            raise BadOption(asked, f"unknown option '{name}'", nearest(name, fields))
    for name, field in fields.items():
        if name not in values and is_required(field):
            raise BadOption(asked, f"'{name}' is missing", f"Give --{name.replace('_', '-')} ({help_of(field)})")
    typed = {name: convert(value, hints[name], f"{asked} --{name}") for name, value in values.items()}
    for name, value in typed.items():
        check_choice(fields[name], value, asked)
    return options(**typed)


def is_required(field: dataclasses.Field[Any]) -> bool:
    """Whether a field has neither a default nor a factory."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def help_of(field: dataclasses.Field[Any]) -> str:
    """The help sentence of a field made by `option`, or its name."""
    return str(field.metadata.get("help", field.name))


def check_choice(field: dataclasses.Field[Any], value: Any, asked: str) -> None:
    """Raises BadOption when a field lists its choices and the value is none of them."""
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        raise BadOption(asked, f"{field.name} = {value!r}", nearest(str(value), choices))


def convert(value: Any, hint: Any, asked: str) -> Any:
    """Turns a loose value into the type a field declares, or raises BadOption."""
    if value is None or (isinstance(hint, types.UnionType) and value == "none"):
        return None
    kind = next((a for a in typing.get_args(hint) if a is not type(None)), hint) if is_optional(hint) else hint
    origin = typing.get_origin(kind) or kind
    try:
        if origin is bool:
            return to_bool(value)
        if origin is tuple:
            return tuple(value.split(",") if isinstance(value, str) else value)
        if origin is dict:
            return to_dict(value)
        if origin is int and isinstance(value, str):
            return to_int(value)
        if origin is int and (isinstance(value, bool) or float(value) != int(value)):
            raise ValueError
        return origin(value)
    except (TypeError, ValueError, KeyError, OverflowError):
        name = getattr(origin, "__name__", str(origin))
        raise BadOption(asked, f"{value!r} is not of type {name}", f"Give a value of type {name}") from None


def is_optional(hint: Any) -> bool:
    """Whether a type hint is `X | None`."""
    return isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)


def to_bool(value: Any) -> bool:
    """true/false, yes/no, 1/0, on/off."""
    if isinstance(value, bool):
        return value
    return WORDS[str(value).lower()]


def to_int(text: str) -> int:
    """An integer, also as 1e6 or 1_000_000."""
    with contextlib.suppress(ValueError):
        return int(text)
    number = float(text)
    if number != int(number):
        raise ValueError(text)
    return int(number)


def to_dict(value: Any) -> dict[str, Any]:
    """A TOML table, or `a=b,c=d` from a command line."""
    if isinstance(value, Mapping):
        return dict(value)
    return dict(part.split("=", 1) for part in str(value).split(",") if part)


def read_recipe(path: str, verb: str, verbs: Collection[str]) -> dict[str, Any]:
    """The table of one verb in a TOML recipe, variables expanded.

    Args:
        path: A local file.
        verb: The table's name; a recipe without it gives {}.
        verbs: All tables that may stand in a recipe.

    Raises:
        BadInput: when the file is missing or is not TOML.
        BadOption: when a table belongs to no verb.
    """
    try:
        recipe = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"recipe {path}", error.strerror or str(error), "Name an existing TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"recipe {path}", f"not TOML: {error}", "Correct the file") from None
    for name in recipe:
        if name not in verbs:
            raise BadOption(f"recipe {path}", f"unknown table [{name}]", nearest(name, verbs))
    table = recipe.get(verb, {})
    if not isinstance(table, dict):
        raise BadOption(f"recipe {path}", f"{verb} is {table!r}, not a table", f"Write [{verb}] and its keys below it")
    return dict(expand(table))


def expand(value: Any) -> Any:
    """Replaces ${NAME} and ${NAME:-default} in every string of a nested value.

    Raises:
        BadOption: for a variable that is unset and has no default.
    """
    if isinstance(value, str):
        return VARIABLE.sub(lookup, value)
    if isinstance(value, dict):
        return {name: expand(item) for name, item in value.items()}
    return [expand(item) for item in value] if isinstance(value, list) else value


def lookup(match: re.Match[str]) -> str:
    """The environment's value of one matched variable."""
    name, default = match.group(1), match.group(2)
    if name not in os.environ and default is None:
        raise BadOption("recipe", f"the environment has no {name}", f"Set it, or write ${{{name}:-default}}")
    return os.environ.get(name, default or "")


def override(values: Mapping[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Applies `key=value` and `table.key=value` assignments over a verb's values.

    Raises:
        BadOption: for an assignment without '='.
    """
    changed = {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise BadOption(f"--set {assignment}", "no '='", "Write --set key=value")
        table, _, name = key.strip().rpartition(".")
        if table:
            holder = changed.setdefault(table, {})
            if not isinstance(holder, dict):
                raise BadOption(
                    f"--set {assignment}", f"'{table}' is {holder!r}, not a table", f"Write --set {table}=..."
                )
            holder[name] = literal(text)
        else:
            changed[name] = literal(text)
    return changed


def literal(text: str) -> Any:
    """A TOML value where the text is one (3, 0.5, true, [1, 2], "x"), the bare text otherwise."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
