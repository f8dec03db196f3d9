"""Which files are an index. `manifest.json` is written last: its existence is the commit.

    manifest.json                           format version, bits, bit order, rows, shards with their SHA-256, encoder
    model-RRRRRRRR/                         a copy of the model folder: an index can be served on its own
    shard-00000-of-00004-RRRRRRRR.parquet   id, image_code, text_code, metadata; rows sorted by id

R is the run that built them: an index that is replaced stays whole until the new one is committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.storage import uri as places
from xhash_ray.storage.tables import FileFacts

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """A committed index.

    Attributes:
        uri: Its folder.
        facts: The content of manifest.json.
    """

    uri: str
    facts: dict[str, Any]

    @property
    def bits(self) -> int:
        """Code length."""
        return int(self.facts["bits"])

    @property
    def rows(self) -> int:
        """Pairs in all shards."""
        return int(self.facts["rows"])

    @property
    def shard_uris(self) -> list[str]:
        """The shard files in order."""
        return [places.join(self.uri, entry["name"]) for entry in self.facts["shards"]]

    @property
    def model_uri(self) -> str:
        """The copy of the model folder."""
        return places.join(self.uri, str(self.facts["model"]))


def shard_name(shard: int, shards: int, run: str) -> str:
    """File name of a shard."""
    return f"shard-{shard:05d}-of-{shards:05d}-{run}.parquet"


def model_name(run: str) -> str:
    """Folder name of the model's copy."""
    return f"model-{run}"


def write_manifest(uri: str, shards: Sequence[FileFacts], facts: dict[str, Any]) -> Manifest:
    """Commits an index.

    Args:
        uri: The folder; shard files and model are there already.
        shards: In order.
        facts: At least bits, method, model_fingerprint, model (the folder of its copy).
    """
    before = read_manifest(uri).facts if places.exists(places.join(uri, MANIFEST)) else None
    complete = {
        "format_version": FORMAT_VERSION,
        "bit_order": "little",
        "rows": sum(entry.rows for entry in shards),
        **facts,
        "shards": [vars(entry) for entry in shards],
    }
    places.write_json(places.join(uri, MANIFEST), complete)
    if before:
        kept = {entry.name for entry in shards} | {complete.get("model")}
        old = [before.get("model"), *[entry["name"] for entry in before["shards"]]]
        places.delete(uri, [name for name in old if name and name not in kept])
    return Manifest(uri, complete)


def read_manifest(uri: str) -> Manifest:
    """Opens a committed index.

    Raises:
        BadInput: when there is none.
        Mismatch: when its format is newer.
    """
    place = places.join(uri, MANIFEST)
    if not places.exists(place):
        raise BadInput(f"index at {uri}", f"no {MANIFEST}", "Name a folder that `xhash index build` wrote")
    facts = places.read_json(place)
    if facts.get("format_version") != FORMAT_VERSION:
        found = f"format version {facts.get('format_version')}"
        raise Mismatch(f"index at {uri}", found, f"This version of xhash-ray reads version {FORMAT_VERSION}")
    return Manifest(uri, facts)
