"""What the verbs of an index can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xhash_ray.config import option


@dataclass(frozen=True)
class IndexBuild:
    """`xhash index build`: codes to a sharded index."""

    codes: str = option("code file or folder")
    model: str = option("folder of the model that made the codes")
    out: str = option("folder or URI for the index")
    shards: int = option("number of shards", 4)
    where: str | None = option("pairs to index: column=value, column!=a,b or id%10!=0", None)
    gates: dict[str, Any] = option("thresholds that codes must pass, see index/gates.py", {})
    held_out: str | None = option("features of pairs that no training saw, for the recall gates", None)
    held_out_where: str | None = option("pairs of --held-out to take: column=value, column!=a,b or id%10!=0", None)
    overwrite: bool = option("build the next generation of an index that is there", False)


INDEX_URI = "folder or URI of an index"
ADDED_CODES = "code file or folder, of the index's model"
ADDED_WHERE = "pairs to take: column=value, column!=a,b or id%10!=0"


@dataclass(frozen=True)
class IndexAdd:
    """`xhash index add`: adds pairs that are not there yet, as a new generation."""

    index: str = option(INDEX_URI)
    codes: str = option(ADDED_CODES)
    where: str | None = option(ADDED_WHERE, None)


@dataclass(frozen=True)
class IndexUpsert:
    """`xhash index upsert`: adds pairs, in place of those whose id is there."""

    index: str = option(INDEX_URI)
    codes: str = option(ADDED_CODES)
    where: str | None = option(ADDED_WHERE, None)


@dataclass(frozen=True)
class IndexDelete:
    """`xhash index delete`: deletes pairs by id."""

    index: str = option(INDEX_URI)
    ids: tuple[str, ...] = option("ids, separated by commas", ())
    ids_file: str | None = option("file with one id on each line", None)
    ignore_missing: bool = option("ids that are not there are no error", False)


@dataclass(frozen=True)
class IndexCompact:
    """`xhash index compact`: merges segments, drops deleted rows and old generations."""

    index: str = option(INDEX_URI)
    keep: int = option("generations kept, the current one among them", 2)
    orphans_after_s: int = option("age in seconds at which files that no generation names are deleted", 86_400)


@dataclass(frozen=True)
class IndexRollback:
    """`xhash index rollback`: makes an older generation's content current again."""

    index: str = option(INDEX_URI)
    to: int | None = option("generation; the one before the current by default", None)


@dataclass(frozen=True)
class IndexInfo:
    """`xhash index info`: what an index is, and its history."""

    index: str = option(INDEX_URI)


@dataclass(frozen=True)
class IndexVerify:
    """`xhash index verify`: checks every checksum, count and code statistic, and that pairs find themselves."""

    index: str = option(INDEX_URI)
    generation: int | None = option("generation; the current one by default", None)


@dataclass(frozen=True)
class IndexExport:
    """`xhash index export`: files that others read."""

    index: str = option(INDEX_URI)
    out: str = option("folder or URI for the files")
    format: str = option("faiss or parquet", "faiss", choices=("faiss", "parquet"))


@dataclass(frozen=True)
class IndexCopy:
    """`xhash index copy`: a generation and all it needs elsewhere: a backup, its restoration, another region's."""

    index: str = option(INDEX_URI)
    out: str = option("folder or URI for the copy; what an earlier copy has there is not sent again")
    generation: int | None = option("generation; the current one by default", None)
