"""Hashing methods, one paper per file. A file's name is the method's name; a new file is a new method.

See NOTATION.md for how the papers' letters map to names.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any

from xhash_ray.config import build
from xhash_ray.errors import BadOption, nearest
from xhash_ray.methods.base import Method, Shape

SHARED = {"base", "blocks", "nets", "scaling", "kernels", "graphs", "fusion", "rotations", "artefacts"}


def available() -> list[str]:
    """Names of all methods: the files of this folder, less the shared ones."""
    found = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in found if name not in SHARED)


def named(asked: Sequence[str]) -> list[str]:
    """Names that are asked for on a command line: themselves, or every method's for `all`."""
    return available() if tuple(asked) == ("all",) else list(asked)


def load(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        BadOption: for a name that no file has.
    """
    if name not in available():
        raise BadOption("--method", f"unknown method '{name}'", nearest(name, available()))
    method: type[Method] = importlib.import_module(f"{__name__}.{name}").METHOD
    return method


def create(name: str, shape: Shape, settings: Mapping[str, Any]) -> Method:
    """A method ready to be prepared and trained.

    Raises:
        BadOption: for an unknown method or setting, or a setting of the wrong type.
        BadInput: for a code length we do not store.
    """
    method = load(name)
    return method(shape, build(method.settings_type, settings, f"settings of {name}"))


def settings_of(method: Method) -> dict[str, Any]:
    """All settings of a method as plain values, defaults filled in."""
    return dataclasses.asdict(method.settings)
