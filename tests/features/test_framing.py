"""Framing gives the pixels that open_clip's own transform gives, for every mode, size and setting."""

import io
import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from tests.features.pictures import MODES, encoded, noise
from xhash_ray.errors import BadInput
from xhash_ray.features import framing as module
from xhash_ray.features.framing import Framing, decode_one
from xhash_ray.storage.pictures import TooLarge

SIZES = ((1, 1), (1, 500), (500, 1), (64, 64), (65, 64), (64, 65), (63, 64), (65, 65), (100, 37), (37, 100), (300, 201))


def as_open_clip(picture: Image.Image, preprocessing: dict) -> np.ndarray | type:
    """The pixels of open_clip's steps before floats are made, or the type of what they raise."""
    try:
        for step in image_transform_v2(PreprocessCfg(**preprocessing), is_train=False).transforms[:-2]:
            picture = step(picture)
        return np.asarray(picture)
    except Exception as error:
        return type(error)


def as_ours(picture: Image.Image, preprocessing: dict) -> np.ndarray | type:
    try:
        return np.asarray(Framing(preprocessing)(picture))
    except Exception as error:
        return type(error)


def differ(picture: Image.Image, preprocessing: dict) -> bool:
    """Whether the two give other pixels, or one of them fails."""
    theirs, ours = as_open_clip(picture, preprocessing), as_ours(picture, preprocessing)
    if isinstance(theirs, type) or isinstance(ours, type):
        return theirs is not ours
    return theirs.shape != ours.shape or not np.array_equal(theirs, ours)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [64, (64, 64), [48, 80], (80, 33), 1])
def test_pixels_are_open_clips(size, resize_mode, interpolation):
    for mode, shape, fill in itertools.product(MODES, SIZES, (0, 128) if resize_mode == "longest" else (0,)):
        preprocessing = {"size": size, "resize_mode": resize_mode, "interpolation": interpolation, "fill_color": fill}
        assert not differ(noise(mode, shape), preprocessing), (mode, shape, fill)


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 260), st.integers(1, 260)),
    size=st.one_of(st.integers(1, 90), st.tuples(st.integers(1, 90), st.integers(1, 90))),
    resize_mode=st.sampled_from(["shortest", "longest", "squash"]),
    mode=st.sampled_from(["L", "P", "RGB", "RGBA"]),
)
def test_rounding_is_open_clips(shape, size, resize_mode, mode):
    assert not differ(noise(mode, shape), {"size": size, "resize_mode": resize_mode, "fill_color": 7})


def test_defaults_are_open_clips():
    assert not differ(noise("RGB", (300, 250)), {})


def test_a_picture_in_frame_is_not_touched():
    picture = noise("RGB", (32, 32))
    assert Framing({"size": 32})(picture) is picture


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_files_give_what_open_clip_gives(kind):
    content = encoded(noise("RGB", (130, 97)), kind)
    decoded = np.frombuffer(decode_one(content, Framing({"size": 40})), np.uint8).reshape(40, 40, 3)
    assert np.array_equal(decoded, as_open_clip(Image.open(io.BytesIO(content)), {"size": 40}))


def test_orientation_is_left_as_it_lies():
    picture, turned = noise("RGB", (50, 40)), Image.Exif()
    turned[0x0112] = 6
    plain, marked = encoded(picture, "JPEG"), encoded(picture, "JPEG", exif=turned)
    assert marked != plain
    assert decode_one(marked, Framing({"size": 24})) == decode_one(plain, Framing({"size": 24}))


def test_a_needle_is_refused_before_it_becomes_a_wall(monkeypatch):
    monkeypatch.setattr(module, "PIXEL_LIMIT", 64 * 64 * 100)
    framing = Framing({"size": 64})
    assert framing(noise("L", (1, 100))).size == (64, 64)
    with pytest.raises(TooLarge, match=r"1 x 101 pixels, 64 x 6464 when resized"):
        framing(noise("L", (1, 101)))


def test_unknown_modes_are_refused():
    with pytest.raises(BadInput, match="Did you mean 'squash'"):
        Framing({"size": 32, "resize_mode": "squish"})


def test_a_decoder_imports_nothing_large():
    code = "import sys, xhash_ray.features.decoder_main as m; print({'numpy', 'torch', 'open_clip'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert ran.stdout.strip() == "set()"
