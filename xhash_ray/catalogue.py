"""`xhash methods`: what can be trained, and what each setting is, where it comes from."""

from __future__ import annotations

import dataclasses
from typing import Any

from xhash_ray.config import help_of
from xhash_ray.methods import available, load
from xhash_ray.methods.base import Method
from xhash_ray.options import Methods, MethodsShow


def list_methods(options: Methods) -> dict[str, Any]:
    """Every method found.

    Returns:
        `methods`: name, paper, year, supervised, needs.
    """
    kinds = sorted(((name, load(name)) for name in available()), key=lambda entry: (entry[1].supervised, entry[1].year))
    return {"methods": [describe(name, kind) for name, kind in kinds]}


def describe(name: str, kind: type[Method]) -> dict[str, Any]:
    """One line of the list."""
    return {
        "name": name,
        "paper": kind.paper,
        "year": kind.year,
        "supervised": kind.supervised,
        "needs": needs_of(kind),
    }


def needs_of(kind: type[Method]) -> str:
    """What a method asks of the features, in words."""
    needs = ["labels"] if kind.supervised else []
    needs += ["all pairs in memory"] if kind.needs_all_rows else []
    return ", ".join(needs) or "paired features"


def show_method(options: MethodsShow) -> dict[str, Any]:
    """One method with its settings and their sources.

    Returns:
        What `list_methods` says of it, `phases`, `against_collapse`, and `settings`: name, default, meaning, source.

    Raises:
        BadOption: for a name that no method has.
    """
    kind = load(options.name)
    settings = [
        {
            "name": field.name,
            "default": field.default,
            "meaning": meaning_of(field),
            "source": field.metadata.get("source", ""),
        }
        for field in dataclasses.fields(kind.settings_type)
    ]
    about = describe(options.name, kind)
    return {**about, "phases": list(kind.phases), "against_collapse": kind.against_collapse, "settings": settings}


def meaning_of(field: dataclasses.Field[Any]) -> str:
    """A setting's meaning with its choices."""
    choices = field.metadata.get("choices")
    return f"{help_of(field)} ({', '.join(map(str, choices))})" if choices else help_of(field)
