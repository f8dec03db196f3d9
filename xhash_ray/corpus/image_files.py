"""img2dataset's layout of files: 00000/000000000.jpg (.txt, .json) with 00000.parquet beside the folder.

Everything but the images is in the tables: captions, keys, which downloads failed.

Source: img2dataset/writer.py, FilesSampleWriter.
"""

from __future__ import annotations

from collections.abc import Sequence

from xhash_ray.corpus.pairing import Row
from xhash_ray.corpus.pairs import Reading
from xhash_ray.corpus.parquet import SUCCESS, ParquetCorpus, batches, is_from_img2dataset
from xhash_ray.corpus.paths import fetch
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places

SUFFIXES = ("jpg", "png", "webp")  # --encode_format
KEY = "key"


class ImageFiles(ParquetCorpus):
    """Pairs whose images lie in folders called as their tables.

    Args:
        uri: What was asked for.
        files: The tables.
        reading: How rows become pairs.
        suffix: Of all images.

    Raises:
        BadInput: when the tables have no captions.
        Mismatch: when they differ in columns.
    """

    def __init__(self, uri: str, files: Sequence[str], reading: Reading, suffix: str) -> None:
        self.suffix = suffix
        super().__init__(uri, files, reading)

    def image_columns(self) -> list[str]:
        """An image is called as its key."""
        return [KEY]

    def image_of(self, row: Row, source: str) -> bytes | str | None:
        """A row's image by its key."""
        return fetch(image_place(source, str(row[KEY]), self.suffix))


def image_place(table: str, key: str, suffix: str) -> str:
    """Where a table's image lies."""
    head, chained, archive = table.partition("::")
    return f"{head.rpartition('.')[0]}/{key}.{suffix}{chained}{archive}"


def suffix_of_images(files: Sequence[str]) -> str | None:
    """The suffix of the images beside img2dataset's tables, None for other Parquet files.

    The first downloaded image decides: a run writes all in one format.
    """
    for name in files:
        footer = tables.read_footer(name, "corpus")
        schema = footer.schema.to_arrow_schema()
        if not is_from_img2dataset(schema) or set(schema.names) & {"image", "image_path", *SUFFIXES}:
            return None
        for batch in batches(name, range(footer.num_row_groups), [KEY, "status"]):
            key = next((row[KEY] for row in batch.to_pylist() if row["status"] == SUCCESS), None)
            if key is not None:
                found = (suffix for suffix in SUFFIXES if places.exists(image_place(name, str(key), suffix)))
                return next(found, None)
    return None
