"""Preprocessor and encoder give what open_clip gives, bit by bit; compiled, close to it."""

import functools
import io
import json

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from tests.features.pictures import encoded, noise
from xhash_ray.features.clip import ClipEncoder, Preprocessor
from xhash_ray.features.embedding import Embedder

TEXTS = [f"a {word} thing &amp; more" if i % 3 else f"plain {word}" for i, word in enumerate("abcdefghijklmnopqrs")]
IMAGES = [encoded(noise("RGB", (40 + i, 60 - i), i), "PNG") for i in range(19)]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[str, str]:
    """A transformer on both sides with random weights: architecture and weights as files."""
    folder = tmp_path_factory.mktemp("clip")
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}
    text = {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    path = folder / "clip-test.json"
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(path)
    torch.manual_seed(0)
    torch.save(open_clip.create_model("clip-test").state_dict(), folder / "weights.pt")
    return str(path), str(folder / "weights.pt")


@pytest.fixture(scope="module")
def encoder(model) -> ClipEncoder:
    return ClipEncoder(*model)


def prepared(encoder: ClipEncoder) -> tuple[np.ndarray, np.ndarray]:
    preprocessor = Preprocessor(encoder.facts)
    return np.stack([preprocessor.image(content) for content in IMAGES]), preprocessor.tokens(TEXTS)


def test_features_are_open_clips(encoder):
    transform = image_transform_v2(PreprocessCfg(**encoder.facts.preprocessing), is_train=False)
    floats = torch.stack([transform(Image.open(io.BytesIO(content))) for content in IMAGES])
    pixels, tokens = prepared(encoder)
    with torch.inference_mode():
        image = encoder.model.encode_image(floats, normalize=True).numpy()
        text = encoder.model.encode_text(open_clip.get_tokenizer("clip-test")(TEXTS), normalize=True).numpy()
    assert np.array_equal(encoder.image_features(pixels), image)
    assert np.array_equal(encoder.text_features(tokens), text)


def test_what_cannot_be_decoded_is_a_value_error(encoder):
    preprocessor = Preprocessor(encoder.facts)
    for content, said in ((b"", "cannot be decoded: image is empty"), (b"text", "cannot be decoded: no JPEG, PNG")):
        with pytest.raises(ValueError, match=said):
            preprocessor.image(content)
    with pytest.raises(ValueError, match=r"^image of 9000 x 9000 pixels, more than 64,000,000"):
        preprocessor.image(encoded(Image.new("1", (9000, 9000)), "PNG"))


def test_pixels_are_the_callers_own(encoder):
    pixels = Preprocessor(encoder.facts).image(IMAGES[0])
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert (pixels.shape, pixels.dtype) == ((3, 32, 32), np.uint8)


def test_a_compiled_encoder_is_compiled_once(encoder, model, monkeypatch):
    shapes = []

    def backend(graph, inputs):
        shapes.append([tuple(each.shape) for each in inputs if isinstance(each, torch.Tensor) and each.ndim > 1])
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    compiled = Embedder(ClipEncoder(*model, compile=True), 8)
    pixels, tokens = prepared(encoder)
    first = compiled.embed(pixels, tokens, [1] * 19, mean=False)
    count = len(shapes)
    assert count >= 2
    assert any((8, 3, 32, 32) in each for each in shapes)
    second = compiled.embed(pixels[:5], tokens[:3], [1] * 3, mean=False)
    assert len(shapes) == count
    for ours, theirs, part in zip(
        first, Embedder(encoder, 8).embed(pixels, tokens, [1] * 19, False), second, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        np.testing.assert_allclose(part, theirs[: len(part)], atol=1e-6)


def test_half_precision_is_close(encoder, model):
    pixels, tokens = prepared(encoder)
    half = ClipEncoder(*model, precision="bf16")
    assert (half.image_features(pixels) * encoder.image_features(pixels)).sum(axis=1).min() > 0.999
    assert (half.text_features(tokens) * encoder.text_features(tokens)).sum(axis=1).min() > 0.999
