"""The decoder's process gives what a loop in this one gives: pixels, and kinds of faults, for good and bad pictures."""

import io
import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from tests.features.pictures import FORMATS, encoded, noise, plain
from xhash_ray.features import arena
from xhash_ray.features.decoding import Decoded, Decoder, decode_here

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's, about damaged files
PREPROCESSING = {"size": 24, "resize_mode": "shortest", "interpolation": "bicubic"}
CORPUS = [encoded(noise("RGB", (50, 40)), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP")]
MODES = {"JPEG": ("L", "RGB", "CMYK"), "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "TIFF": ("CMYK", "F", "I")}


@pytest.fixture(scope="module")
def decoder():
    with Decoder(PREPROCESSING) as made:
        yield made


def assert_same(first: Decoded, second: Decoded) -> None:
    assert first.kept == second.kept
    assert first.errors == second.errors
    assert first.pixels.dtype == second.pixels.dtype == np.uint8
    assert first.pixels.flags.c_contiguous
    assert np.array_equal(first.pixels, second.pixels)


def test_pixels_are_open_clips(decoder):
    contents = [encoded(noise(mode, (61, 47)), kind) for kind, modes in MODES.items() for mode in modes]
    contents += [encoded(noise("RGB", (61, 47)), kind) for kind in FORMATS]
    steps = image_transform_v2(PreprocessCfg(**PREPROCESSING), is_train=False).transforms[:-2]
    found = decoder.decode(contents)
    assert found.kept == list(range(len(contents)))
    for content, pixels in zip(contents, found.pixels, strict=True):
        picture = Image.open(io.BytesIO(content))
        for step in steps:
            picture = step(picture)
        assert np.array_equal(pixels, np.asarray(picture).transpose(2, 0, 1))
    assert_same(found, decode_here(contents, PREPROCESSING))


def test_bad_pictures_cost_only_themselves(decoder):
    bad = [b"", b"<html></html>", CORPUS[1][:500], bytes(99), encoded(Image.new("1", (9000, 9000)), "PNG")]
    contents = [each for pair in zip(bad, CORPUS, strict=True) for each in pair]
    found = decoder.decode(contents)
    assert found.kept == [1, 3, 5, 7, 9]
    kinds = [found.errors[i].kind for i in (0, 2, 4, 6, 8)]
    assert kinds == ["missing image", "wrong type", "truncated", "wrong type", "oversized"]
    assert_same(found, decode_here(contents, PREPROCESSING))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_pictures_fare_alike(decoder, data):
    contents = []
    for _ in range(data.draw(st.integers(0, 6))):
        content = data.draw(st.sampled_from(CORPUS))
        content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
        drawn, damaged = random.Random(data.draw(st.integers(0, 2**32))), bytearray(content)
        for _ in range(data.draw(st.integers(0, 5)) if damaged else 0):
            damaged[drawn.randrange(len(damaged))] = drawn.randrange(256)
        contents.append(bytes(damaged))
    assert_same(decoder.decode(contents), decode_here(contents, PREPROCESSING))


@pytest.mark.parametrize("contents", [[], [b""], [b"", b"x"]])
def test_no_picture_at_all(decoder, contents):
    found = decoder.decode(contents)
    assert found.kept == []
    assert found.pixels.shape == (0, 3, 24, 24)
    assert_same(found, decode_here(contents, PREPROCESSING))


@pytest.mark.parametrize("side", [8, 64])
def test_many_small_ones_take_little_shared_memory(side):
    contents = [plain(i % 256, (8, 8)) for i in range(3 * arena.ITEMS + 7)]
    with Decoder({"size": side}) as decoder:
        found = decoder.decode(contents)
        facts = os.fstat(decoder.file.fileno())
    assert np.array_equal(found.pixels[:, 1, 5, 5], np.arange(len(contents)) % 256)
    assert 512 * facts.st_blocks < 2 * (arena.CHUNK_BYTES + arena.TABLE) + 2**16 < facts.st_size / 10


def test_a_large_one_among_small_ones():
    large = encoded(noise("RGB", (3300, 3100)), "BMP")
    assert len(large) > 30e6
    contents = [plain(1), large, plain(2), large[:-1000], plain(3)]
    with Decoder(PREPROCESSING) as decoder:
        found = decoder.decode(contents)
    assert found.kept == [0, 1, 2, 4]
    assert found.errors[3].kind == "truncated"
    assert_same(found, decode_here(contents, PREPROCESSING))


def test_frames_larger_than_a_chunk_go_one_by_one():
    with Decoder({"size": 1300}) as decoder:
        found = decoder.decode([plain(5), b"none", plain(6)])
    assert arena.CHUNK_BYTES < 3 * 1300**2
    assert [pixels.mean() for pixels in found.pixels] == [5, 6]
    assert found.errors[1].kind == "wrong type"


def test_frames_smaller_than_a_fault():
    with Decoder({"size": [1, 2]}) as decoder:
        found = decoder.decode([plain(5), b"<html>" * 200, plain(6)])
    assert found.pixels.tolist() == [[[[5, 5]]] * 3, [[[6, 6]]] * 3]
    assert found.errors[1].reason.endswith("b'<html><html><htm'")


def test_the_limit_of_encoded_bytes():
    content = plain(1)
    for limit, kept in ((len(content), [0]), (len(content) - 1, [])):
        with Decoder(PREPROCESSING, encoded_limit=limit) as decoder:
            assert decoder.decode([content]).kept == kept
        assert decode_here([content], PREPROCESSING, limit).kept == kept
