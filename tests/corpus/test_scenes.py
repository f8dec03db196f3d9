"""The demonstration corpus: repeatable scenes whose captions and labels tell the truth."""

import io
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from xhash_ray.corpus import drawing, scenes
from xhash_ray.corpus.captions import BACKGROUND_WORDS, COLOUR_WORDS, SHAPE_WORDS, plural
from xhash_ray.corpus.scenes import ScenePair, scene_pair
from xhash_ray.errors import BadInput

PAIRS = 600


@pytest.fixture(scope="module")
def pairs() -> list[ScenePair]:
    return [scene_pair(3, index) for index in range(PAIRS)]


def mentioned(text: str, words: dict[str, tuple[str, ...]]) -> set[str]:
    """The keys of which the text has a word, singular or plural."""
    forms = {key: [form for word in group for form in (word, plural(word))] for key, group in words.items()}
    return {key for key, group in forms.items() if re.search(rf"\b({'|'.join(group)})\b", text)}


def test_a_scene_depends_on_seed_and_index_alone(pairs: list[ScenePair]) -> None:
    assert scene_pair(3, 417) == pairs[417]
    assert scene_pair(4, 417).image != pairs[417].image
    assert len({pair.image for pair in pairs}) == PAIRS
    assert pairs[123].id == "scene-0000123"


def test_images_are_jpegs_of_the_stated_size(pairs: list[ScenePair]) -> None:
    for pair in pairs[:20]:
        image = Image.open(io.BytesIO(pair.image))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))
        assert np.asarray(image).std() > 3


def test_splits_have_their_shares() -> None:
    shares = Counter(scene_pair(9, index).split for index in range(1500))
    assert shares["query"] / 1500 == pytest.approx(1 / 8, abs=0.03)
    assert shares["train"] / 1500 == pytest.approx(5 / 8, abs=0.04)
    assert shares["database"] / 1500 == pytest.approx(1 / 4, abs=0.04)


def test_labels_are_sorted_unique_compounds(pairs: list[ScenePair]) -> None:
    known = {f"{colour} {shape}" for shape in SHAPE_WORDS for colour in COLOUR_WORDS}
    for pair in pairs:
        assert list(pair.labels) == sorted(set(pair.labels))
        assert set(pair.labels) <= known
        assert len(pair.labels) <= pair.objects <= 3 * len(pair.labels)
    assert {len(pair.labels) for pair in pairs} == {1, 2, 3}


def test_captions_mention_only_what_is_there(pairs: list[ScenePair]) -> None:
    for pair in pairs:
        colours, shapes = (set(words) for words in zip(*(label.split() for label in pair.labels), strict=True))
        assert mentioned(pair.text, SHAPE_WORDS)
        assert mentioned(pair.text, SHAPE_WORDS) <= shapes, pair.text
        assert mentioned(pair.text, COLOUR_WORDS) <= colours, pair.text
        assert pair.text == " ".join(pair.text.split())


def test_captions_vary(pairs: list[ScenePair]) -> None:
    reds = [pair.text for pair in pairs if "red" in " ".join(pair.labels)]
    assert any("crimson" in text for text in reds)
    assert any("red" in text for text in reds)
    assert len({pair.text for pair in pairs}) > 0.9 * PAIRS


def test_backgrounds_all_occur_and_are_named_truly(pairs: list[ScenePair]) -> None:
    assert {pair.background for pair in pairs} == set(BACKGROUND_WORDS)
    for pair in pairs:
        told = {kind for kind, words in BACKGROUND_WORDS.items() if any(word in pair.text for word in words)}
        assert told <= {pair.background}


def test_chance_is_below_a_tenth(pairs: list[ScenePair]) -> None:
    labels = [set(pair.labels) for pair in pairs]
    assert np.mean([bool(a & b) for a in labels[:100] for b in labels[100:]]) < 0.1


def test_every_shape_and_colour_can_be_drawn() -> None:
    assert set(drawing.OUTLINES) == set(SHAPE_WORDS)
    assert set(drawing.COLOURS_HSV) == set(COLOUR_WORDS)
    assert all(np.abs(outline).max() < 1.2 for outline in drawing.OUTLINES.values())


def test_places_keep_their_words() -> None:
    for layout in (layout for group in scenes.LAYOUTS for layout in group):
        for place, (x, y) in layout.items():
            assert {"left": x < 0.4, "right": x > 0.6, "top": y < 0.4, "bottom": y > 0.6, "centre": True}[place]


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(BadInput, match="negative"):
        scene_pair(0, -1)
