"""Pretraining from scratch: it learns, repeats itself, and refuses what it cannot use."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from xhash_ray.errors import BadInput
from xhash_ray.features import pretraining
from xhash_ray.features.pretraining import PretrainingSettings, augmented, pretrain

SETTINGS = PretrainingSettings(epochs=8, batch_size=8, learning_rate=1e-3, weight_decay=0.1, warmup_steps=2, threads=1)
COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of 32 x 32 px images that trains in a second."""
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
    path: Path = tmp_path_factory.mktemp("architectures") / "pretraining-test.json"
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    return str(path)


def picture(rgb: tuple[int, ...], mode: str = "RGB", size: tuple[int, int] = (32, 32), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, rgb).convert(mode).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="module")
def pairs() -> tuple[list[bytes], list[str | list[str]]]:
    """Sixteen plain pictures of every mode and size, some with several captions."""
    names = list(COLOURS) * 4
    forms = [("RGB", (32, 32), "JPEG"), ("RGBA", (40, 32), "PNG"), ("P", (32, 50), "PNG"), ("RGB", (9, 9), "PNG")]
    images = [picture(COLOURS[name], *forms[row // 4]) for row, name in enumerate(names)]
    return images, [[name, f"a {name} wall"] if row % 2 else name for row, name in enumerate(names)]


def test_it_learns_and_repeats_itself(architecture: str, pairs: tuple[list[bytes], list[str | list[str]]]) -> None:
    losses: list[dict[str, float]] = []
    first = pretrain(*pairs, architecture, SETTINGS, lambda epoch, terms: losses.append(terms))
    second = pretrain(*pairs, architecture, SETTINGS)
    assert [set(terms) for terms in losses] == [{"loss", "logit_scale", "learning_rate"}] * SETTINGS.epochs
    assert losses[-1]["loss"] < 0.8 * losses[0]["loss"]
    assert not first.training
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, second.state_dict()[name]), name


def test_another_seed_gives_another_model(architecture: str, pairs: tuple[list[bytes], list[str | list[str]]]) -> None:
    short = replace(SETTINGS, epochs=1)
    models = [pretrain(*pairs, architecture, replace(short, seed=seed)) for seed in (0, 1)]
    first, second = (model.state_dict()["visual.conv1.weight"] for model in models)
    assert not torch.equal(first, second)


def test_it_leaves_the_callers_generator_and_threads_alone(
    architecture: str, pairs: tuple[list[bytes], list[str | list[str]]]
) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    pretrain(*pairs, architecture, replace(SETTINGS, epochs=1))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_the_packaged_architecture_is_small() -> None:
    name = pretraining.resolve_architecture("xhash-tiny")
    config = open_clip.get_model_config(name)
    parameters = sum(weights.numel() for weights in open_clip.create_model(name).parameters())
    assert config is not None
    assert (config["vision_cfg"]["image_size"], config["embed_dim"]) == (64, 128)
    assert parameters < 5e6


def test_augmentation_shifts_and_stays_in_range() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 3, 20, 20), np.uint8))
    still = augmented(pixels, replace(SETTINGS, shift=0.0, brightness=0.0), torch.Generator().manual_seed(1))
    torch.testing.assert_close(still, pixels / 255)
    moved = augmented(pixels, replace(SETTINGS, shift=0.2, brightness=0.5), torch.Generator().manual_seed(1))
    assert moved.shape == still.shape
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert not torch.equal(moved, still)


def test_flip_mirrors_about_half_of_the_images() -> None:
    pixels = torch.zeros((200, 3, 4, 4), dtype=torch.uint8)
    pixels[:, :, :, 0] = 255
    settings = replace(SETTINGS, shift=0.0, brightness=0.0, flip=True)
    mirrored = augmented(pixels, settings, torch.Generator().manual_seed(1))[:, 0, 0, 3]
    assert 60 < mirrored.sum() < 140


def test_bad_input_is_refused(
    architecture: str, pairs: tuple[list[bytes], list[str | list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, texts = pairs
    with pytest.raises(BadInput, match="15 images and 16 texts"):
        pretrain(images[:-1], texts, architecture, SETTINGS)
    with pytest.raises(BadInput, match="without any text"):
        pretrain(images, [*texts[:-1], []], architecture, SETTINGS)
    with pytest.raises(BadInput, match="image 15 of the training pairs"):
        pretrain([*images[:-1], b"no image"], texts, architecture, SETTINGS)
    with pytest.raises(BadInput, match="batches of at least 2"):
        pretrain(images, texts, architecture, replace(SETTINGS, batch_size=1))
    monkeypatch.setattr(pretraining, "PIXELS_LIMIT_BYTES", 1000)
    with pytest.raises(BadInput, match="more than 1,000"):
        pretrain(images, texts, architecture, SETTINGS)


def test_a_diverging_training_says_so(architecture: str, pairs: tuple[list[bytes], list[str | list[str]]]) -> None:
    with pytest.raises(BadInput, match="Lower learning_rate"):
        pretrain(*pairs, architecture, replace(SETTINGS, learning_rate=1e30, warmup_steps=1))
