"""One call's pictures on their way through a decoder."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from xhash_ray.errors import XhashError
from xhash_ray.features.arena import FAULT, PENDING, Half
from xhash_ray.features.decoder_child import Child
from xhash_ray.features.faults import Fault, unfit

if TYPE_CHECKING:
    from xhash_ray.features.decoding import Decoder

IDLE_DEATHS = 3  # in a row, of decoders that were at no picture


@dataclass(frozen=True)
class Decoded:
    """Pictures as pixels.

    Attributes:
        kept: Positions of those that could be decoded, ascending.
        pixels: uint8 [kept, 3, height, width], C-contiguous.
        errors: Why the others could not, by position.
    """

    kept: list[int]
    pixels: np.ndarray
    errors: dict[int, Fault]


class Chunk(NamedTuple):
    """Pictures on their way: which half they are in, and their positions."""

    half: int
    positions: list[int]


@dataclass
class Decoding:
    """One call's pictures on their way through a decoder: one chunk is decoded while another is emptied and filled.

    Attributes:
        decoder: Of whose process, arena and limits it makes use.
        images: Of the call.
        errors: So far, by position.
        flying: Chunks that the process has been told of, oldest first.
        killed: Positions at which a process was killed from outside; each is tried once more.
        idle_deaths: Of processes that were at no picture, in a row.
    """

    decoder: Decoder
    images: Sequence[bytes]
    errors: dict[int, Fault] = field(default_factory=dict)
    flying: deque[Chunk] = field(default_factory=deque)
    killed: set[int] = field(default_factory=set)
    idle_deaths: int = 0

    def __post_init__(self) -> None:
        framing = self.decoder.framing
        faults = ((i, unfit(image, self.decoder.encoded_limit)) for i, image in enumerate(self.images))
        self.errors.update({i: fault for i, fault in faults if fault})
        self.waiting = deque(i for i in range(len(self.images)) if i not in self.errors)
        self.pixels = np.empty((len(self.images), 3, framing.height, framing.width), np.uint8)
        self.feed()

    def finish(self) -> Decoded:
        """Waits for everything.

        Raises:
            XhashError: when no decoder can be started.
        """
        while self.flying:
            child = self.decoder.started()
            if child.answered(self.decoder.timeout_s):
                self.collect(self.flying.popleft())
                self.idle_deaths = 0
            else:
                self.bury(child)
            self.feed()
        self.decoder.running = None
        kept = [i for i in range(len(self.images)) if i not in self.errors]
        return Decoded(kept, self.pixels[kept] if self.errors else self.pixels, self.errors)

    def feed(self) -> None:
        """Fills whichever half is free, and says so to the decoder."""
        while self.waiting and len(self.flying) < 2:
            half = 1 - self.flying[0].half if self.flying else 0
            chunk = Chunk(half, self.next_chunk(self.decoder.arena.halves[half]))
            self.decoder.arena.halves[half].fill([self.images[i] for i in chunk.positions], self.decoder.serial)
            self.decoder.serial += len(chunk.positions)
            self.flying.append(chunk)
            self.decoder.started().ask(half)

    def next_chunk(self, half: Half) -> list[int]:
        """The next positions, as many as fit."""
        positions: list[int] = []
        encoded = 0
        while self.waiting:
            encoded += len(self.images[self.waiting[0]])
            if not half.fits(len(positions) + 1, encoded):
                break
            positions.append(self.waiting.popleft())
        return positions

    def collect(self, chunk: Chunk) -> list[int]:
        """Takes what a half holds; returns the positions that were not got to."""
        half, left = self.decoder.arena.halves[chunk.half], []
        shape = (len(chunk.positions), self.decoder.framing.height, self.decoder.framing.width, 3)
        strides = (half.slot, 3 * shape[2], 3, 1)
        pixels = np.ndarray(shape, np.uint8, half.body, strides=strides).transpose(0, 3, 1, 2)
        for i, position in enumerate(chunk.positions):
            status = half.status(i)
            if status == PENDING:
                left.append(position)
            elif status == FAULT:
                self.errors[position] = half.fault(i)
            else:
                self.pixels[position] = pixels[i]
        return left

    def bury(self, child: Child) -> None:
        """After a decoder's death: blames the picture that it was at, and sends the rest round again."""
        fate = child.fate(self.decoder.timeout_s)
        self.decoder.child = None
        guilty = self.position_of(fate.serial)
        left = [position for chunk in self.flying for position in self.collect(chunk)]
        self.flying.clear()
        if guilty not in left:  # it died between two pictures
            self.count_idle_death(child)
        elif fate.from_outside and guilty not in self.killed:
            self.killed.add(guilty)
        else:
            self.errors[guilty] = fate.fault
            left.remove(guilty)
        child.close()
        self.waiting.extendleft(reversed(left))

    def position_of(self, serial: int) -> int:
        """Where a picture stands among the images of this call; -1 for no picture."""
        for chunk in self.flying:
            at = serial - self.decoder.arena.halves[chunk.half].first
            if 0 <= at < len(chunk.positions):
                return chunk.positions[at]
        return -1

    def count_idle_death(self, child: Child) -> None:
        """Gives up on decoders that cannot even start.

        Raises:
            XhashError: after IDLE_DEATHS in a row.
        """
        self.idle_deaths += 1
        if self.idle_deaths >= IDLE_DEATHS:
            words = child.last_words()
            child.close()
            do = f"Run `{sys.executable} -c 'import xhash_ray.features.decoder_main'` and see what it lacks"
            raise XhashError("starting a decoder of pictures", f"it died {IDLE_DEATHS} times; {words}", do)
