"""Small pictures of a corpus' images by pair id, for people who look at what was found.

A map of every id to the place of its image is made once, when the first picture is asked for, in a thread of its own.
It costs a pass over the corpus without its images: of Parquet the id column, of a folder its tables, of tars all
headers and captions; where ids are made of the content, everything. In memory it takes an id's length and 20 bytes.
Pairs that the corpus gets later have no picture until the endpoint starts again. A picture costs one read: of its file,
of its tar from its place on, of the image columns of its row group up to its row.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xhash_ray.corpus.pairs import MODALITIES
from xhash_ray.corpus.sources import Part, Source, open_corpus
from xhash_ray.errors import Overloaded, XhashError
from xhash_ray.serving.shrinking import shrunk

WHOLE_FILES = 2**40  # rows of a part: no file is cut
ONE_OF_SEVERAL = re.compile(r"(.+)#\d+")  # the id of a caption that was made a pair of its own
MAKERS, READERS = 4, 8
PATIENCE_S = 5.0


class Place(NamedTuple):
    """Where an image lies: see `Source.image`."""

    part: Part
    position: int


class Places:
    """Ids of a corpus in order, and where their images lie.

    Args:
        source: The corpus.
        tell: Is told how many of how many parts are done.

    Raises:
        XhashError: when the corpus cannot be read.
    """

    def __init__(self, source: Source, tell: Callable[[int, int], None] = lambda done, parts: None) -> None:
        self.parts = source.parts(WHOLE_FILES)
        names, positions = [pa.array([], pa.large_string())], [np.zeros(0, np.int64)]
        with ThreadPoolExecutor(READERS) as readers:
            for done, found in enumerate(readers.map(lambda part: list(source.located(part)), self.parts), 1):
                names.append(pa.array([name for name, _ in found], pa.large_string()))
                positions.append(np.array([position for _, position in found], np.int64))
                tell(done, len(self.parts))
        owners = np.repeat(np.arange(len(positions), dtype=np.int32) - 1, [len(each) for each in positions])
        column = pa.chunked_array(names).combine_chunks()
        order = pc.sort_indices(column)
        self.names, taken = column.take(order), order.to_numpy()
        self.owners, self.positions = owners[taken], np.concatenate(positions)[taken]

    def find(self, identity: str) -> Place | None:
        """Where a pair's image lies; None for an id that is not in the corpus, with #2 or the like or without."""
        without = ONE_OF_SEVERAL.fullmatch(identity)
        return self.find_exactly(identity) or (self.find_exactly(without[1]) if without else None)

    def find_exactly(self, identity: str) -> Place | None:
        """Where the image of the pair of just this id lies, by bisection."""
        wanted, low, high = identity.encode(), 0, len(self.names)
        while low < high:
            middle = (low + high) // 2
            if self.names[middle].as_py().encode() < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(self.names) or self.names[low].as_py() != identity:
            return None
        return Place(self.parts[int(self.owners[low])], int(self.positions[low]))


class Thumbnails:
    """Small JPEGs of a corpus' images.

    Args:
        corpus_uri: Of the corpus, in any form, here or in object storage.
        columns: Renamed columns by role.
        side: Length of a picture's longer side in pixels, at most.
        kept: How many finished pictures stay in memory (some 10 KB each).
        patience_s: How long a request waits for the map.
        identity: "given" or "content", as the corpus was read for the index. Captions count for the latter alone.

    Raises:
        BadInput: when there is no corpus.
    """

    def __init__(
        self,
        corpus_uri: str,
        columns: Mapping[str, str] | None = None,
        side: int = 256,
        kept: int = 2000,
        patience_s: float = PATIENCE_S,
        identity: str = "given",
    ) -> None:
        needs = MODALITIES if identity == "content" else ("image",)
        self.source = open_corpus(corpus_uri, columns, identity, needs)
        self.side, self.most, self.patience_s = side, kept, patience_s
        self.lock, self.finished = threading.Lock(), OrderedDict[str, bytes | None]()
        self.mapping: Future[Places] | None = None
        self.progress = (0, 0)
        self.makers = ThreadPoolExecutor(MAKERS, "thumbnails")  # few: a large picture takes 200 MB while it is made

    async def jpeg(self, identity: str) -> bytes | None:
        """A pair's picture; None where it has none that can be shown.

        Raises:
            Overloaded: while the ids are still being read.
            XhashError: when they cannot be.
        """
        with self.lock:
            if identity in self.finished:
                self.finished.move_to_end(identity)
                return self.finished[identity]
        places = await self.places()
        return await asyncio.get_running_loop().run_in_executor(self.makers, self.made, places, identity)

    async def places(self) -> Places:
        """The map, made when it is first asked for, and again when that failed. Errors as of `jpeg`."""
        with self.lock:
            if self.mapping is None or (self.mapping.done() and self.mapping.exception() is not None):
                self.mapping = Future()
                self.mapping.set_running_or_notify_cancel()  # nobody who gives up waiting ends it
                threading.Thread(target=self.map, args=(self.mapping,), name="thumbnail-map", daemon=True).start()
            mapping = self.mapping
        try:
            return await asyncio.wait_for(asyncio.wrap_future(mapping), self.patience_s)
        except TimeoutError:
            done, parts = self.progress
            found = f"the corpus' ids are still being read ({done} of {parts} parts)"
            raise Overloaded("a thumbnail", found, "Ask again") from None

    def map(self, mapping: Future[Places]) -> None:
        """Makes the map: the work of its thread."""

        def tell(done: int, parts: int) -> None:
            self.progress = (done, parts)

        try:
            mapping.set_result(Places(self.source, tell))
        except BaseException as error:
            mapping.set_exception(error)

    def made(self, places: Places, identity: str) -> bytes | None:
        """A picture, which is kept if it is the corpus' last word and not a moment's trouble."""
        place = places.find(identity)
        try:
            content = self.source.image(place.part, place.position) if place else None
        except XhashError:
            return None
        if content is None:
            return None
        picture = shrunk(content, self.side)
        with self.lock:
            self.finished[identity] = picture
            while len(self.finished) > self.most:
                self.finished.popitem(last=False)
        return picture
