"""Pairs made ready: images beside captions, either alone, faulty ones gone with their captions."""

import numpy as np
import open_clip
import pytest

from tests.features.pictures import plain
from xhash_ray.features.batches import prepare
from xhash_ray.features.decoding import Decoder
from xhash_ray.features.tokens import Tokens

SHADES = [plain(shade) for shade in range(4)]
CAPTIONS = [["a cat"], ["a dog", "a hound", "an &amp; sign"], ["grün"], ["one", "two"]]


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens(open_clip.get_tokenizer("ViT-B-32"))


@pytest.fixture(scope="module")
def decoder():
    with Decoder({"size": 16}, work="tests.features.works:misbehave") as made:
        yield made


def wanted(positions: list[int]) -> np.ndarray:
    """open_clip's tokens of some pairs' captions."""
    return open_clip.get_tokenizer("ViT-B-32")([text for i in positions for text in CAPTIONS[i]]).numpy()


def test_pairs(decoder, tokens):
    ready = prepare(SHADES, CAPTIONS, decoder, tokens)
    assert ready.kept == [0, 1, 2, 3]
    assert ready.pixels.shape == (4, 3, 16, 16)
    assert ready.pixels[:, 2, 3, 4].tolist() == [0, 1, 2, 3]
    assert ready.tokens.dtype == np.int32
    assert np.array_equal(ready.tokens, wanted([0, 1, 2, 3]))
    assert (ready.counts, ready.errors) == ([1, 3, 1, 2], {})


@pytest.mark.parametrize("faulty", [{0}, {1}, {3}, {1, 2}, {0, 1, 2, 3}])
def test_faulty_pairs_leave_with_their_captions(decoder, tokens, faulty):
    kinds = [b"", b"segfault", b"<html>", SHADES[0][:40]]
    ready = prepare([kinds[i] if i in faulty else SHADES[i] for i in range(4)], CAPTIONS, decoder, tokens)
    kept = [i for i in range(4) if i not in faulty]
    assert ready.kept == kept
    assert ready.pixels[:, 0, 0, 0].tolist() == kept
    assert ready.counts == [len(CAPTIONS[i]) for i in kept]
    assert np.array_equal(ready.tokens, wanted(kept)) if kept else ready.tokens.shape == (0, 77)
    names = ("missing image", "crash", "wrong type", "truncated")
    assert {i: fault.kind for i, fault in ready.errors.items()} == {i: names[i] for i in faulty}


def test_images_alone(decoder):
    ready = prepare([SHADES[2], b"text", SHADES[3]], [], decoder, None)
    assert ready.kept == [0, 2]
    assert ready.pixels[:, 0, 0, 0].tolist() == [2, 3]
    assert (ready.tokens, ready.counts) == (None, [])


def test_texts_alone(tokens):
    ready = prepare([], CAPTIONS, None, tokens)
    assert ready.kept == [0, 1, 2, 3]
    assert ready.pixels is None
    assert np.array_equal(ready.tokens, wanted([0, 1, 2, 3]))
    assert (ready.counts, ready.errors) == ([1, 3, 1, 2], {})


def test_nothing_at_all(decoder, tokens):
    ready = prepare([], [], decoder, tokens)
    assert (ready.kept, ready.pixels, ready.tokens, ready.counts, ready.errors) == ([], None, None, [], {})


def test_captions_are_tokenised_while_the_decoder_works(decoder, tokens):
    seen = []

    def watching(texts):
        seen.append(decoder.running is not None and decoder.started().process.poll() is None)
        return tokens(texts)

    prepare(SHADES, CAPTIONS, decoder, watching)
    assert seen == [True]
    assert decoder.running is None


def test_a_tokenizer_that_fails_leaves_the_decoder_usable(decoder, tokens):
    with pytest.raises(ZeroDivisionError):
        prepare([SHADES[1]], [["a"]], decoder, lambda texts: 1 // 0)
    assert prepare([SHADES[2]], [["a"]], decoder, tokens).pixels[0, 0, 0, 0] == 2


def test_what_cannot_be_meant_is_refused(decoder, tokens):
    with pytest.raises(ValueError, match="4 images and 3 texts"):
        prepare(SHADES, CAPTIONS[:3], decoder, tokens)
    with pytest.raises(ValueError, match="without a decoder"):
        prepare(SHADES, [], None, tokens)
    with pytest.raises(ValueError, match="without a tokenizer"):
        prepare([], CAPTIONS, None, None)
