"""Rendering of the demonstration scenes: outlines, backgrounds, light, and the JPEG.

Pixels only: what is drawn where is decided by `xhash_ray.corpus.scenes`.
"""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

IMAGE_SIZE_PX = 64
# Polygons are drawn three times as large and averaged down: PIL itself does not anti-alias.
SUPERSAMPLING = 3
JPEG_QUALITY = 88

Pixels = NDArray[np.float32]
Outline = NDArray[np.float64]

# Hue, saturation and value of each colour's centre; every group is drawn a little off it.
COLOURS_HSV: dict[str, tuple[float, float, float]] = {
    "red": (0.000, 0.90, 0.85),
    "yellow": (0.150, 0.90, 0.95),
    "green": (0.340, 0.80, 0.62),
    "blue": (0.625, 0.85, 0.82),
    "purple": (0.765, 0.75, 0.62),
    "pink": (0.900, 0.50, 0.98),
    "black": (0.000, 0.00, 0.09),
}


@dataclass(frozen=True)
class Sprite:
    """One object to draw: centre and radius in units of the image's side, rotation in radians."""

    shape: str
    rgb: tuple[int, int, int]
    x: float
    y: float
    radius: float
    rotation: float
    outlined: bool


def _circle(radius: float, start: float, stop: float) -> Outline:
    """Points of a circle from one angle to another, float64 [25, 2]."""
    angles = np.linspace(start, stop, 25)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _heart() -> Outline:
    """The classic parametric heart, scaled into the unit circle, point down."""
    t = np.linspace(0.0, 2 * math.pi, 40)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2.0], axis=1) / 16.5


def _star() -> Outline:
    """A five-pointed star, one point up."""
    angles = np.arange(10) * math.pi / 5 - math.pi / 2
    radii = np.where(np.arange(10) % 2 == 0, 1.1, 0.45)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _outlines() -> dict[str, Outline]:
    """Each shape's closed outline in a circle of radius about one, y pointing down."""
    turn, limb = 2 * math.pi, 0.33
    cross = [(-limb, -1), (limb, -1), (limb, -limb), (1, -limb), (1, limb), (limb, limb)]
    return {
        "circle": _circle(0.92, 0.0, turn),
        "square": np.array([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]),
        "triangle": np.array([(0.0, -1.0), (0.95, 0.7), (-0.95, 0.7)]),
        "star": _star(),
        "heart": _heart(),
        "cross": np.concatenate([np.array(cross), -np.array(cross)]),
        "ring": np.concatenate([_circle(1.0, 0.0, turn), _circle(0.52, turn, 0.0)]),
        "diamond": np.array([(0.0, -1.1), (0.6, 0.0), (0.0, 1.1), (-0.6, 0.0)]),
    }


OUTLINES = _outlines()
# Turned further, a square reads as a diamond and a cross as an "x".
TURN_LIMIT_RAD = 0.25


def jittered_rgb(colour: str, rng: np.random.Generator) -> tuple[int, int, int]:
    """One shade of a named colour, near enough to its centre that the name stays true."""
    hue, saturation, value = COLOURS_HSV[colour]
    jitter = rng.uniform(-1.0, 1.0, 3)
    rgb = colorsys.hsv_to_rgb(
        (hue + 0.022 * jitter[0]) % 1.0,
        min(1.0, saturation * (1 + 0.12 * jitter[1])),
        min(1.0, value * (1 + 0.10 * jitter[2])),
    )
    return (int(255 * rgb[0]), int(255 * rgb[1]), int(255 * rgb[2]))


def _pale_rgb(rng: np.random.Generator) -> Pixels:
    """A muted background colour, float32 [3] in 0..255: objects stay the most saturated things."""
    hue, saturation, value = rng.random(3)
    rgb = colorsys.hsv_to_rgb(hue, 0.22 * saturation, 0.60 + 0.38 * value)
    return np.array(rgb, dtype=np.float32) * 255


def _coordinates(rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Pixel coordinates turned by a random angle, two float32 [64, 64] arrays."""
    axis = np.arange(IMAGE_SIZE_PX, dtype=np.float32) - IMAGE_SIZE_PX / 2
    angle = rng.uniform(0.0, math.pi)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return axis[None, :] * cos + axis[:, None] * sin, axis[:, None] * cos - axis[None, :] * sin


def _mix(kind: str, rng: np.random.Generator) -> Pixels:
    """How much of the second background colour each pixel has, float32 [64, 64] in 0..1."""
    across, along = _coordinates(rng)
    period = np.float32(2 * math.pi / rng.uniform(9.0, 20.0))
    if kind == "gradient":
        return np.asarray(across / 90 + 0.5, dtype=np.float32)
    if kind == "stripes":
        return np.clip(2 * np.sin(across * period) + 0.5, 0, 1)
    if kind == "checker":
        return np.clip(3 * np.sin(across * period) * np.sin(along * period) + 0.5, 0, 1)
    if kind == "noise":
        return rng.random((IMAGE_SIZE_PX, IMAGE_SIZE_PX), dtype=np.float32)
    return np.zeros_like(across)


def _landscape(rng: np.random.Generator) -> Pixels:
    """A pale sky over pale ground with the horizon near the middle, float32 [64, 64, 3]."""
    sky, ground = np.array([190.0, 215.0, 240.0]), np.array([185.0, 190.0, 150.0])
    horizon = rng.uniform(0.4, 0.75) * IMAGE_SIZE_PX
    depth = np.clip(np.arange(IMAGE_SIZE_PX, dtype=np.float32) - horizon + 0.5, 0, 1)[:, None, None]
    shade = rng.uniform(0.85, 1.05, 2)
    columns = sky * shade[0] * (1 - depth) + ground * shade[1] * depth
    return np.repeat(columns, IMAGE_SIZE_PX, axis=1).astype(np.float32)


def _background(kind: str, rng: np.random.Generator) -> Image.Image:
    """The empty scene of the given kind, enlarged for drawing."""
    if kind == "landscape":
        pixels = _landscape(rng)
    else:
        first = _pale_rgb(rng)
        # Half the way to a second colour: patterns disturb the eye but do not hide the objects.
        step = np.float32(0.5) * (_pale_rgb(rng) - first)
        pixels = first + _mix(kind, rng)[..., None] * step
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    side = IMAGE_SIZE_PX * SUPERSAMPLING
    return image.resize((side, side), Image.Resampling.NEAREST)


def _draw_sprite(canvas: ImageDraw.ImageDraw, sprite: Sprite) -> None:
    """Fills one object, and edges it darker where it is outlined."""
    side = IMAGE_SIZE_PX * SUPERSAMPLING
    cos, sin = math.cos(sprite.rotation), math.sin(sprite.rotation)
    turned = OUTLINES[sprite.shape] @ np.array([(cos, sin), (-sin, cos)])
    points = ((turned * sprite.radius + (sprite.x, sprite.y)) * side).ravel().tolist()
    canvas.polygon(points, fill=sprite.rgb)
    if sprite.outlined and sprite.shape != "ring":
        dark = (sprite.rgb[0] // 2, sprite.rgb[1] // 2, sprite.rgb[2] // 2)
        canvas.line([*points, *points[:2]], fill=dark, width=SUPERSAMPLING)


def _draw_occluder(canvas: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Lays a thin muted bar across the scene, as a pole or a wire would hide parts of it."""
    side = IMAGE_SIZE_PX * SUPERSAMPLING
    red, green, blue = (int(channel) for channel in _pale_rgb(rng) * 0.8)
    ends = rng.uniform(0.1, 0.9, 2) * side
    width = int(rng.integers(2, 5)) * SUPERSAMPLING
    upright = rng.random() < 0.5
    line = [ends[0], 0, ends[1], side] if upright else [0, ends[0], side, ends[1]]
    canvas.line(line, fill=(red, green, blue), width=width)


def _lit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The scene under slanting light with sensor noise, sometimes a little out of focus."""
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    across, _ = _coordinates(rng)
    light = rng.uniform(0.85, 1.1) + across * np.float32(rng.uniform(0.0, 0.2) / IMAGE_SIZE_PX)
    noise = rng.standard_normal((IMAGE_SIZE_PX, IMAGE_SIZE_PX, 3), dtype=np.float32)
    pixels = np.asarray(image, dtype=np.float32) * light.astype(np.float32)[..., None]
    pixels += noise * np.float32(rng.uniform(0.0, 7.0))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def render(background: str, sprites: Sequence[Sprite], occluded: bool, rng: np.random.Generator) -> bytes:
    """A JPEG of 64 x 64 px: `sprites` in drawing order on a background of the given kind.

    The generator supplies the background's colours, the light and the noise; an unknown shape
    raises KeyError, as the planner is the only caller.
    """
    image = _background(background, rng)
    canvas = ImageDraw.Draw(image)
    for sprite in sprites:
        _draw_sprite(canvas, sprite)
    if occluded:
        _draw_occluder(canvas, rng)
    stream = io.BytesIO()
    _lit(image.reduce(SUPERSAMPLING), rng).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()
