"""Models at rest: what is written is read, and whatever was changed or does not fit is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.storage import artefact
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import (
    CARD,
    FACTS,
    copy_artefact,
    read_artefact,
    require_fingerprint,
    require_lengths,
    write_artefact,
)

ENCODER = {"model": "ViT-B-32", "pretrained": "/models/clip.safetensors", "sha256": "ab" * 32}


def some_weights() -> dict[str, np.ndarray]:
    """Arrays of several types, one of them not contiguous, one a scalar."""
    rng = np.random.default_rng(1)
    return {
        "net.weight": rng.standard_normal((6, 4)).astype(np.float32)[:, ::2],
        "net.bias": rng.standard_normal(6).astype(np.float16),
        "factor": np.array(2.5, np.float32),
    }


def weights(folder: Path) -> Path:
    """The one weights file of a model folder."""
    (found,) = folder.glob("model-*.safetensors")
    return found


def some_facts(**changed: Any) -> dict[str, Any]:
    """What a model folder has to say."""
    facts = {
        "method": "jdsh",
        "bits": 64,
        "image_length": 512,
        "text_length": 300,
        "settings": {"epochs": 3, "alpha": 0.5},
        "encoder": ENCODER,
        "training": {"pairs": 10},
    }
    return facts | changed


def written(folder, **changed: Any) -> artefact.Artefact:
    """A model in a folder."""
    return write_artefact(str(folder), some_facts(**changed), some_weights(), "# card")


def edit(folder, **changed: Any) -> None:
    """Changes facts of a model folder by hand."""
    path = folder / FACTS
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_what_is_written_is_read(tmp_path):
    made, read = written(tmp_path), read_artefact(str(tmp_path))
    assert read.facts == made.facts
    assert read.fingerprint == made.fingerprint
    assert (tmp_path / CARD).read_text() == "# card"
    for name, value in some_weights().items():
        assert read.weights[name].dtype == value.dtype
        np.testing.assert_array_equal(read.weights[name], value)


def test_a_fingerprint_is_64_hexadecimal_digits(tmp_path):
    fingerprint = written(tmp_path).fingerprint
    assert len(fingerprint) == 64
    assert set(fingerprint) <= set("0123456789abcdef")


def test_the_facts_are_written_last(tmp_path, monkeypatch):
    order = []
    write = places.write_bytes

    def watched(uri, content):
        order.append(places.name_of(uri))
        write(uri, content)

    monkeypatch.setattr(places, "write_bytes", watched)
    written(tmp_path / "one")
    copy_artefact(str(tmp_path / "one"), str(tmp_path / "two"))
    assert order == [weights(tmp_path / "one").name, CARD, FACTS] * 2


def test_a_replaced_model_leaves_one_weights_file(tmp_path):
    first = written(tmp_path)
    second = written(tmp_path, bits=32)
    assert first.fingerprint != second.fingerprint
    assert weights(tmp_path).name == f"model-{second.fingerprint[:12]}.safetensors"
    assert read_artefact(str(tmp_path)).facts == second.facts


def test_a_replacement_that_dies_leaves_the_model(tmp_path, monkeypatch):
    first = written(tmp_path)
    monkeypatch.setattr(places, "write_json", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        written(tmp_path, bits=32)
    assert read_artefact(str(tmp_path)).fingerprint == first.fingerprint


def test_a_copy_is_the_model(tmp_path):
    made = written(tmp_path / "one")
    copy_artefact(str(tmp_path / "one"), str(tmp_path / "two"))
    assert read_artefact(str(tmp_path / "two")).facts == made.facts


def test_the_same_model_has_the_same_fingerprint_and_bytes(tmp_path):
    assert written(tmp_path / "one").fingerprint == written(tmp_path / "two").fingerprint
    assert weights(tmp_path / "one").read_bytes() == weights(tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    "changed",
    [
        {"bits": 32},
        {"method": "other"},
        {"settings": {"epochs": 4, "alpha": 0.5}},
        {"image_length": 511},
        {"text_length": 301},
        {"encoder": ENCODER | {"model": "ViT-B-16"}},
        {"encoder": ENCODER | {"sha256": "cd" * 32}},
    ],
)
def test_what_decides_the_codes_decides_the_fingerprint(tmp_path, changed):
    assert written(tmp_path / "one").fingerprint != written(tmp_path / "two", **changed).fingerprint


@pytest.mark.parametrize(
    "changed",
    [{"training": {"pairs": 11}}, {"encoder": ENCODER | {"pretrained": "s3://elsewhere/clip.safetensors"}}],
)
def test_the_fingerprint_ignores_what_does_not_decide_the_codes(tmp_path, changed):
    assert written(tmp_path / "one").fingerprint == written(tmp_path / "two", **changed).fingerprint


@pytest.mark.parametrize("encoder", [None, {}])
def test_a_model_of_features_from_elsewhere_has_no_encoder(tmp_path, encoder):
    written(tmp_path, encoder=encoder)
    assert read_artefact(str(tmp_path)).facts["encoder"] == encoder


@pytest.mark.parametrize("position", [0, 20, -1])
def test_a_flipped_byte_in_the_weights_is_refused(tmp_path, position):
    written(tmp_path)
    content = bytearray(weights(tmp_path).read_bytes())
    content[position] ^= 1
    weights(tmp_path).write_bytes(content)
    with pytest.raises(Mismatch, match="not what was written together"):
        read_artefact(str(tmp_path))


@pytest.mark.parametrize("changed", [{"bits": 128}, {"settings": {"epochs": 99}}, {"fingerprint": "0" * 64}])
def test_edited_facts_are_refused(tmp_path, changed):
    written(tmp_path)
    edit(tmp_path, **changed)
    with pytest.raises(Mismatch, match="not what was written together"):
        read_artefact(str(tmp_path))


def test_weights_of_another_model_are_refused(tmp_path):
    written(tmp_path / "one")
    write_artefact(str(tmp_path / "two"), some_facts(), {"x": np.zeros(3)}, "")
    weights(tmp_path / "one").write_bytes(weights(tmp_path / "two").read_bytes())
    with pytest.raises(Mismatch):
        read_artefact(str(tmp_path / "one"))


def test_weights_that_are_no_safetensors_are_bad_input(tmp_path):
    written(tmp_path)
    facts = json.loads((tmp_path / FACTS).read_text())
    weights(tmp_path).write_bytes(b"not safetensors")
    edit(tmp_path, fingerprint=artefact.fingerprint(facts, b"not safetensors"))
    with pytest.raises(BadInput, match="damaged"):
        read_artefact(str(tmp_path))


@pytest.mark.parametrize("version", [0, 2, None])
def test_another_format_version_is_refused(tmp_path, version):
    written(tmp_path)
    edit(tmp_path, format_version=version)
    with pytest.raises(Mismatch, match=f"format version {version}"):
        read_artefact(str(tmp_path))


def test_a_folder_without_model_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match=f"no {FACTS}"):
        read_artefact(str(tmp_path))


def test_a_model_without_weights_is_bad_input(tmp_path):
    written(tmp_path)
    name = weights(tmp_path).name
    weights(tmp_path).unlink()
    with pytest.raises(BadInput, match=name):
        read_artefact(str(tmp_path))


def test_facts_that_are_no_json_are_bad_input(tmp_path):
    written(tmp_path)
    (tmp_path / FACTS).write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        read_artefact(str(tmp_path))


def test_features_of_the_right_lengths_pass(tmp_path):
    require_lengths(written(tmp_path).facts, 512, 300, "somewhere")


@pytest.mark.parametrize("lengths", [(511, 300), (512, 301), (300, 512)])
def test_features_of_other_lengths_are_refused(tmp_path, lengths):
    with pytest.raises(Mismatch, match=f"takes 512 and 300.*{lengths[0]} and {lengths[1]} numbers at somewhere"):
        require_lengths(written(tmp_path).facts, *lengths, "somewhere")


def test_codes_of_this_model_pass(tmp_path):
    made = written(tmp_path)
    require_fingerprint(made.facts, made.fingerprint, "somewhere")


@pytest.mark.parametrize(
    ("found", "words"),
    [("f" * 64, "made by model ffffffffffff"), (None, "without a model fingerprint"), ("", "without")],
)
def test_codes_of_another_model_are_refused(tmp_path, found, words):
    with pytest.raises(Mismatch, match=f"somewhere is {words}"):
        require_fingerprint(written(tmp_path).facts, found, "somewhere")
