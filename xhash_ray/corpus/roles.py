"""Which column plays which role where the usual names are absent and none was mapped.

img2dataset calls the id `key`, the image `jpg`, `png` or `webp` and the caption `caption`; Hugging Face's image folders
call the image's file `file_name`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xhash_ray.corpus.pairs import Reading

OTHER_NAMES = {
    "id": ("key",),
    "image": ("jpg", "jpeg", "png", "webp"),
    "image_path": ("file_name", "filename", "file", "path"),
    "text": ("caption", "txt"),
    "labels": (),
}


def resolved(reading: Reading, names: Sequence[str], is_of_paths: bool = False) -> Reading:
    """A reading with every role's column among some names, where one is there.

    Args:
        reading: As asked for; a role that was mapped stays as it is.
        names: Of the columns.
        is_of_paths: Whether `image` holds the name of a file, as in tables of text.
    """
    asked = reading.columns
    columns = {role: column_of(role, asked[role], names) for role in asked}
    if is_of_paths:
        columns["image"] = asked["image"]
        if asked["image_path"] == "image_path" and "image_path" not in names and asked["image"] in names:
            columns["image_path"] = asked["image"]
    elif columns["image"] in names:  # then what else looks like a file's name is metadata
        columns["image_path"] = asked["image_path"]
    return replace(reading, columns=columns)


def column_of(role: str, wanted: str, names: Sequence[str]) -> str:
    """The column asked for where it is there or was mapped, else the first that goes by another usual name."""
    if wanted in names or wanted != role:
        return wanted
    return next((name for name in OTHER_NAMES[role] if name in names), wanted)
