"""What all forms of corpus do alike: rows become pairs or rejects, and pairs a survey."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from xhash_ray.corpus.pairs import Pair, Reading, Reject, as_labels, identity, to_pair
from xhash_ray.corpus.paths import ahead
from xhash_ray.corpus.sources import Survey, metadata_schema

Row = Mapping[str, Any]
Numbered = tuple[int, Row]  # a row, and its number in the source file
Image = bytes | str | None  # encoded, or why it cannot be had, or None where the row names none


def pairs_of(
    rows: Iterable[Numbered], image_of: Callable[[Row], Image], reading: Reading, source: str, fetches: bool = True
) -> Iterator[Pair | Reject]:
    """One pair or reject for each row, in order.

    Args:
        rows: Of one file.
        image_of: Finds a row's image.
        reading: What a pair must have.
        source: URI of the file.
        fetches: Whether images are files of their own, which come ahead of whoever takes the pairs.
    """
    found: Iterable[tuple[Numbered, Image]]
    if "image" in reading.needs and fetches:
        found = ahead(lambda numbered: image_of(numbered[1]), rows)
    elif "image" in reading.needs:
        found = ((numbered, image_of(numbered[1])) for numbered in rows)
    else:
        found = ((numbered, None) for numbered in rows)
    for (number, row), image in found:
        if isinstance(image, str):
            yield Reject(identity(row, reading.columns), source, number, "read", "missing image", image)
        else:
            yield to_pair(row, reading, image, source, number)


def metadata_of(row: Row, reading: Reading) -> dict[str, Any]:
    """What of a row plays no role."""
    taken = set(reading.columns.values())
    return {name: value for name, value in row.items() if name not in taken}


def survey_of_rows(rows: Iterable[Row], reading: Reading) -> Survey:
    """What rows of loose values tell without their images."""
    ids, labels, extra = [], set[str](), []
    for row in rows:
        ids.append(identity(row, reading.columns))
        labels.update(as_labels(row.get(reading.columns["labels"])))
        extra.append(metadata_of(row, reading))
    return Survey(ids, labels, metadata_schema(extra))


def survey_of_pairs(found: Iterable[Pair | Reject], metadata: pa.Schema | None = None) -> Survey:
    """What whole pairs tell: for ids that are made of their content, of which rejects have none.

    Args:
        found: From `Source.read`.
        metadata: Columns that travel along, None where the pairs' values tell.
    """
    ids, labels, extra = [], set[str](), []
    for each in found:
        is_pair = isinstance(each, Pair)
        ids.append(each.id if is_pair else "")
        if isinstance(each, Pair):
            labels.update(each.labels)
            extra.append(each.metadata if metadata is None else {})
    return Survey(ids, labels, metadata_schema(extra) if metadata is None else metadata)
