"""Captions of the demonstration scenes: the words for shapes, colours and places, and the sentences.

A caption tells the truth but not all of it, as people's captions do: it uses synonyms, leaves out a
size, a place, sometimes a colour or a whole group, and changes its word order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")

# How often a caption tells each thing it could; the things labels are made of are told most often.
TELLS_COUNT, TELLS_SIZE, TELLS_PLACE, TELLS_BACKGROUND = 0.3, 0.2, 0.15, 0.15
TELLS_COLOUR, TELLS_GROUP = 0.97, 0.95

# The first word of each entry is the one that labels use.
SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "hoop"),
    "diamond": ("diamond", "rhombus"),
}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "blue": ("blue", "sapphire"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "black": ("black", "ebony"),
}
SIZE_WORDS = {True: ("large", "big"), False: ("small", "little", "tiny")}
COUNT_WORDS = {1: ("one", "1", "a single"), 2: ("two", "2", "a pair of"), 3: ("three", "3")}
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "left": ("on the left", "at the left side"),
    "right": ("on the right", "at the right side"),
    "top": ("at the top", "in the upper part"),
    "bottom": ("at the bottom", "in the lower part"),
    "centre": ("in the centre", "in the middle"),
}
BACKGROUND_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("a plain background", "an empty wall"),
    "gradient": ("a shaded background", "a soft gradient"),
    "stripes": ("a striped background", "stripes"),
    "checker": ("a chequered background", "a checkerboard"),
    "noise": ("a speckled background", "static noise"),
    "landscape": ("a field under the sky", "an open landscape"),
}
# Sentences without and with the background.
TEMPLATES = ("{groups}", "a picture of {groups}", "a drawing with {groups}", "an image showing {groups}")
BACKGROUND_TEMPLATES = (
    "{groups} on {background}",
    "{groups} against {background}",
    "on {background}, {groups}",
    "a picture of {groups} in front of {background}",
)


@dataclass(frozen=True)
class Group:
    """One to three like objects standing together; `place` is a key of `PLACE_WORDS`."""

    shape: str
    colour: str
    count: int
    large: bool
    place: str

    @property
    def label(self) -> str:
        """The compound that decides relevance, such as "red circle"."""
        return f"{self.colour} {self.shape}"


def pick(options: Sequence[T], rng: np.random.Generator) -> T:
    """One of the options, each as likely; many times faster than `Generator.choice`."""
    return options[int(rng.random() * len(options))]


def plural(word: str) -> str:
    """The plural of any word of `SHAPE_WORDS`."""
    return word + ("es" if word.endswith(("s", "x")) else "s")


def _noun(group: Group, rng: np.random.Generator) -> str:
    """Size, colour and shape of a group, such as "big crimson discs" or "discs in crimson"."""
    shape = pick(SHAPE_WORDS[group.shape], rng)
    shape = shape if group.count == 1 else plural(shape)
    colour = pick(COLOUR_WORDS[group.colour], rng) if rng.random() < TELLS_COLOUR else ""
    size = pick(SIZE_WORDS[group.large], rng) if rng.random() < TELLS_SIZE else ""
    if colour and rng.random() < 0.2:
        return f"{size} {shape} in {colour}"
    return f"{size} {colour} {shape}"


def _amount(group: Group, noun: str, rng: np.random.Generator) -> str:
    """A number word or digit where the caption tells the count, an article or "some" elsewhere."""
    if rng.random() < TELLS_COUNT:
        return pick(COUNT_WORDS[group.count], rng)
    if group.count > 1:
        return "some"
    return "an" if noun[0] in "aeiou" else "a"


def _phrase(group: Group, rng: np.random.Generator) -> str:
    """What a caption says of one group, with its place before or after it, or not at all."""
    noun = " ".join(_noun(group, rng).split())
    phrase = f"{_amount(group, noun, rng)} {noun}"
    if rng.random() >= TELLS_PLACE:
        return phrase
    place = pick(PLACE_WORDS[group.place], rng)
    return f"{phrase} {place}" if rng.random() < 0.8 else f"{place} {phrase}"


def caption(groups: Sequence[Group], background: str, rng: np.random.Generator) -> str:
    """One English sentence about a scene; it mentions at least one of its groups.

    Groups come in any order.  Raises KeyError for a background that `BACKGROUND_WORDS` lacks.
    """
    order = [groups[which] for which in rng.permutation(len(groups)).tolist()]
    told = [group for group in order if rng.random() < TELLS_GROUP] or order[:1]
    phrases = [_phrase(group, rng) for group in told]
    joined = phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    templates = BACKGROUND_TEMPLATES if rng.random() < TELLS_BACKGROUND else TEMPLATES
    return pick(templates, rng).format(groups=joined, background=pick(BACKGROUND_WORDS[background], rng))
