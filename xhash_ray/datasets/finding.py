"""Where the arrays of a layout are: files below a folder by name, variables in them by name."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from xhash_ray.datasets import arrays
from xhash_ray.datasets.arrays import SUFFIXES, Array
from xhash_ray.datasets.layouts import Part, Source
from xhash_ray.errors import BadInput
from xhash_ray.storage import uri as places

MAX_NAMED = 12


def local(source: str) -> Path:
    """The path of a set; h5py and scipy read local files only.

    Raises:
        BadInput: for a remote place, or one that does not exist.
    """
    if not places.is_local(source):
        raise BadInput(
            f"reading {source}", "a remote place", "Copy the set to this machine; only Parquet is read remotely"
        )
    path = Path(places.normalise(source))
    if not path.exists():
        raise BadInput(f"reading {source}", "no such file or folder", "Check the name")
    return path


def matches(folder: Path, pattern: str) -> list[Path]:
    """Files of a name below a folder, sorted; a file stands for itself."""
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    return [path for path in files if fnmatch.fnmatch(path.name.lower(), pattern.lower()) and path.is_file()]


def find(source: Source, folder: Path) -> tuple[Path, str] | None:
    """The file and variable of an array, None where there is none."""
    for pattern in source.files:
        for path in matches(folder, pattern):
            key = arrays.named(path, source.keys)
            if key is not None:
                return path, key
    return None


def is_absent(part: Part, folder: Path) -> bool:
    """Whether none of a part's arrays is there."""
    return all(find(source, folder) is None for source in (part.image, part.text, part.labels))


def require(source: Source, folder: Path, role: str) -> Array:
    """The array of a source.

    Raises:
        BadInput: naming the files or variables that are there instead.
    """
    found = find(source, folder)
    if found is None:
        raise missing(source, folder, role)
    return arrays.open_array(*found)


def missing(source: Source, folder: Path, role: str) -> BadInput:
    """The error for an array that is not there: which variables or files are."""
    asked = f"{role} in {folder}"
    files = [path for pattern in source.files for path in matches(folder, pattern)]
    if files:
        held = "; ".join(f"{path.name} has {', '.join(arrays.variables(path))}" for path in files[:3])
        return BadInput(asked, f"no variable {' or '.join(source.keys)}: {held}", "Name another file or layout")
    there = [folder.name] if folder.is_file() else [path.name for path in sorted(folder.rglob("*")) if path.is_file()]
    listed = ", ".join(there[:MAX_NAMED]) + (", ..." if len(there) > MAX_NAMED else "")
    found = f"no file {' or '.join(source.files)}; there are: {listed or 'none'}"
    return BadInput(asked, found, "Name the folder that holds them, or another layout")
