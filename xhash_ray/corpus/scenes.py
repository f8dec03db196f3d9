"""Scenes of the demonstration corpus: which objects a scene holds, where they stand, and its labels.

A scene is planned here, described by `xhash_ray.corpus.captions` and rendered by
`xhash_ray.corpus.drawing`.  Everything follows from `(seed, index)` alone, so any process can make
any part of the corpus, and two processes agree about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xhash_ray.corpus import drawing
from xhash_ray.corpus.captions import BACKGROUND_WORDS, COLOUR_WORDS, SHAPE_WORDS, Group, caption, pick
from xhash_ray.errors import BadInput

# A query has to find its peers both among scenes the model was trained on and among unseen ones.
QUERY_SHARE, TRAIN_SHARE = 1 / 8, 5 / 8

# Mostly single objects, what a small net can name; several groups and counts keep the task from being trivial.
GROUP_SHARES = (0.75, 0.20, 0.05)
COUNT_SHARES = (0.82, 0.12, 0.06)
LARGE_SHARE, OUTLINED_SHARE, OCCLUDED_SHARE = 0.6, 0.3, 0.2

BACKGROUNDS = tuple(BACKGROUND_WORDS)
COMPOUNDS = tuple((shape, colour) for shape in SHAPE_WORDS for colour in COLOUR_WORDS)

# Centres (x right, y down) by number of groups, in units of the image's side, chosen so that the
# words "left", "top" ... stay true and neighbours barely touch.
Layout = dict[str, tuple[float, float]]
_SINGLES: Layout = {
    "left": (0.27, 0.5), "right": (0.73, 0.5), "top": (0.5, 0.27), "bottom": (0.5, 0.73), "centre": (0.5, 0.5),
}  # fmt: skip
LAYOUTS: tuple[tuple[Layout, ...], ...] = (
    tuple({place: centre} for place, centre in _SINGLES.items()),
    ({"left": (0.26, 0.5), "right": (0.74, 0.5)}, {"top": (0.5, 0.26), "bottom": (0.5, 0.74)}),
    (
        {"left": (0.24, 0.62), "right": (0.76, 0.62), "top": (0.5, 0.24)},
        {"left": (0.24, 0.38), "right": (0.76, 0.38), "bottom": (0.5, 0.76)},
    ),
)
# Radius of a large single object by number of groups in the scene; small ones are 0.7 of it.
RADII = (0.26, 0.22, 0.19)
# Scale and offsets, in units of the scaled radius, of the members of a group of one, two and three.
CLUSTERS: tuple[tuple[float, tuple[tuple[float, float], ...]], ...] = (
    (1.0, ((0.0, 0.0),)),
    (0.68, ((-0.9, -0.5), (0.9, 0.5))),
    (0.60, ((-1.0, 0.75), (1.0, 0.75), (0.0, -0.95))),
)


@dataclass(frozen=True)
class ScenePair:
    """One image-text pair of the corpus.

    `image` is a JPEG of 64 x 64 px, `labels` are sorted and unique, `split` is "query", "train" or
    "database", and `objects` counts what was drawn, members of groups included.
    """

    id: str
    image: bytes
    text: str
    labels: tuple[str, ...]
    split: str
    background: str
    objects: int


def _draw_count(shares: Sequence[float], rng: np.random.Generator) -> int:
    """One, two or three with the given shares."""
    draw = rng.random()
    return 1 + int(draw >= shares[0]) + int(draw >= shares[0] + shares[1])


def _split(rng: np.random.Generator) -> str:
    """Which part of the corpus a scene belongs to."""
    return ("query", "train", "database")[_draw_count((QUERY_SHARE, TRAIN_SHARE), rng) - 1]


def _groups(layout: Layout, rng: np.random.Generator) -> list[Group]:
    """One group for each place of the layout; no two have the same colour and shape."""
    chosen = rng.choice(len(COMPOUNDS), size=len(layout), replace=False).tolist()
    return [
        Group(
            COMPOUNDS[which][0],
            COMPOUNDS[which][1],
            _draw_count(COUNT_SHARES, rng),
            bool(rng.random() < LARGE_SHARE),
            place,
        )
        for which, place in zip(chosen, layout, strict=True)
    ]


def _sprites(
    group: Group, centre: tuple[float, float], radius: float, rng: np.random.Generator
) -> list[drawing.Sprite]:
    """The objects of one group, sized so that the group keeps to its place."""
    scale, offsets = CLUSTERS[group.count - 1]
    radius *= scale * (1.0 if group.large else 0.7)
    x, y = centre + rng.uniform(-0.04, 0.04, 2)
    rgb, outlined = drawing.jittered_rgb(group.colour, rng), bool(rng.random() < OUTLINED_SHARE)
    turn = drawing.TURN_LIMIT_RAD
    return [
        drawing.Sprite(group.shape, rgb, x + dx * radius, y + dy * radius, radius, rng.uniform(-turn, turn), outlined)
        for dx, dy in offsets
    ]


def scene_pair(seed: int, index: int) -> ScenePair:
    """The scene number `index` of the corpus `seed`; about 1/8 query, 5/8 train, 1/4 database.

    Depends on nothing but its two arguments, so scenes can be made in any order and anywhere.  The
    bytes of the JPEG also depend on the versions of Pillow and NumPy.

    Raises BadInput for a negative seed or index.
    """
    if seed < 0 or index < 0:
        raise BadInput(f"scene {index} of seed {seed}", "a negative number", "Give numbers from 0 up")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    split, background = _split(rng), pick(BACKGROUNDS, rng)
    layout = pick(LAYOUTS[_draw_count(GROUP_SHARES, rng) - 1], rng)
    groups, radius = _groups(layout, rng), RADII[len(layout) - 1]
    text = caption(groups, background, rng)
    sprites = [sprite for group in groups for sprite in _sprites(group, layout[group.place], radius, rng)]
    return ScenePair(
        id=f"scene-{index:07d}",
        image=drawing.render(background, sprites, bool(rng.random() < OCCLUDED_SHARE), rng),
        text=text,
        labels=tuple(sorted(group.label for group in groups)),
        split=split,
        background=background,
        objects=len(sprites),
    )
