"""Curves as pictures: every run and direction is on them, in files that decode."""

import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from xhash_ray.evaluation import summary
from xhash_ray.evaluation.plots import COLOURS, draw_curves
from xhash_ray.evaluation.protocol import Protocol
from xhash_ray.evaluation.relevance import pack_labels
from xhash_ray.evaluation.retrieval import Retrievables, evaluate_rows

FILES = ["precision-recall.png", "precision-recall.svg", "precision-at-n.png", "precision-at-n.svg"]


def result_of(seed: int, directions: tuple[str, ...] = ("image_to_text", "text_to_image")) -> dict:
    """An evaluation of random codes."""
    rng = np.random.default_rng(seed)
    sides = [
        Retrievables(
            "codes",
            {name: rng.integers(0, 256, (n, 2), dtype=np.uint8) for name in ("image", "text")},
            pack_labels(rng.random((n, 4)) < 0.3),
        )
        for n in (5, 300)
    ]
    protocol = Protocol(directions)
    return summary.of_run(evaluate_rows(*sides, protocol), protocol, "codes", 300)


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    """Two runs side by side."""
    return draw_curves({"ours": result_of(1), "theirs": result_of(2)})


def test_both_curves_in_both_formats(pictures):
    assert list(pictures) == FILES


@pytest.mark.parametrize("name", FILES[::2])
def test_a_png_shows_every_line(pictures, name):
    with Image.open(io.BytesIO(pictures[name])) as picture:
        assert 1000 < picture.width < 3000
        assert 500 < picture.height < 1500
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    inked = (pixels != 255).any(axis=1).mean()
    assert 0.01 < inked < 0.5
    for colour in COLOURS[:2]:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == wanted).all(axis=1).sum() > 500
    third = [int(COLOURS[2][i : i + 2], 16) for i in (1, 3, 5)]
    assert not (pixels == third).all(axis=1).any()


@pytest.mark.parametrize("name", FILES[1::2])
def test_an_svg_names_runs_directions_and_chance(pictures, name):
    words = {text.strip() for text in ElementTree.fromstring(pictures[name]).itertext() if text.strip()}
    assert {"ours", "theirs", "chance", "image to text", "text to image"} <= words


def test_one_run_is_named_by_its_kind_and_the_same_curves_give_the_same_file():
    once, again = (draw_curves({"": result_of(3, ("text_to_text",))}) for _ in range(2))
    assert b">codes<" in once["precision-at-n.svg"]
    assert once == again
