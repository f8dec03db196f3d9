"""A trained model at rest: a folder that holds everything needed to encode, and nothing executable.

    model-FFFFFFFFFFFF.safetensors   the weights; F: the first digits of the fingerprint
    model.json                       method, bits, feature lengths, settings, training facts, encoder, fingerprint
    README.md                        the model card, for people

The fingerprint is the SHA-256 of the weights' bytes and of what decides how they are used. Codes and indexes
carry it, and whatever does not fit is refused. `model.json` is written last and names its weights: a model that is
replaced stays whole until the new one is.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.storage import uri as places

FACTS, CARD = "model.json", "README.md"
FORMAT_VERSION = 1
IDENTITY = ("format_version", "method", "bits", "image_length", "text_length", "settings", "encoder")


@dataclass(frozen=True)
class Artefact:
    """A model read from a folder.

    Attributes:
        facts: The content of model.json.
        weights: Arrays by name.
    """

    facts: dict[str, Any]
    weights: dict[str, np.ndarray]

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that name these weights and their use."""
        return str(self.facts["fingerprint"])


def fingerprint(facts: dict[str, Any], weights: bytes) -> str:
    """SHA-256 over what decides the codes: identity facts as canonical JSON, then the weights' bytes."""
    identity = {name: facts.get(name) for name in IDENTITY}
    encoder = identity["encoder"] or {}  # its weights count by digest, wherever they lie
    identity["encoder"] = {name: value for name, value in encoder.items() if name != "pretrained"}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(canonical + b"\n" + weights).hexdigest()


def write_artefact(uri: str, facts: dict[str, Any], weights: dict[str, np.ndarray], card: str) -> Artefact:
    """Writes a model folder; a reader sees the old model or the new one.

    Args:
        uri: The folder.
        facts: At least method, bits, image_length, text_length, settings, encoder (see IDENTITY).
        weights: Arrays by name.
        card: The model card in Markdown.
    """
    content = safetensors.numpy.save({name: np.ascontiguousarray(value) for name, value in sorted(weights.items())})
    complete = {"format_version": FORMAT_VERSION, **facts}
    complete["fingerprint"] = fingerprint(complete, content)
    complete["weights"] = f"model-{complete['fingerprint'][:12]}.safetensors"
    before = read_facts(uri)
    places.write_bytes(places.join(uri, complete["weights"]), content)
    places.write_bytes(places.join(uri, CARD), card.encode())
    places.write_json(places.join(uri, FACTS), complete)
    if before and before.get("weights") not in (None, complete["weights"]):
        places.delete(uri, [before["weights"]])
    return Artefact(complete, weights)


def read_artefact(uri: str) -> Artefact:
    """Reads and verifies a model folder.

    Raises:
        BadInput: when there is no model, or a file of it is damaged.
        Mismatch: when weights and facts do not belong together, or the format is newer.
    """
    facts = read_facts(uri)
    if facts is None:
        raise BadInput(f"model at {uri}", f"no {FACTS}", "Name a folder that `xhash train` wrote")
    if facts.get("format_version") != FORMAT_VERSION:
        found = f"format version {facts.get('format_version')}"
        raise Mismatch(f"model at {uri}", found, f"This version of xhash-ray reads version {FORMAT_VERSION}")
    content = places.read_bytes(places.join(uri, str(facts.get("weights"))))
    if fingerprint(facts, content) != facts.get("fingerprint"):
        found = f"{facts.get('weights')} or {FACTS} is not what was written together"
        raise Mismatch(f"model at {uri}", found, "Restore the folder or train again")
    try:
        return Artefact(facts, safetensors.numpy.load(content))
    except SafetensorError as error:
        raise BadInput(f"model at {uri}", f"its weights are damaged: {error}", "Restore the folder") from None


def read_facts(uri: str) -> dict[str, Any] | None:
    """The content of model.json, None where there is none."""
    place = places.join(uri, FACTS)
    return places.read_json(place) if places.exists(place) else None


def copy_artefact(source: str, target: str) -> None:
    """Copies a model folder, its facts last."""
    facts = read_artefact(source).facts
    for name in (facts["weights"], CARD, FACTS):
        places.write_bytes(places.join(target, name), places.read_bytes(places.join(source, name)))


def require_lengths(facts: dict[str, Any], image_length: int, text_length: int, where: str) -> None:
    """Raises Mismatch when features of a place have other lengths than the model was trained on."""
    asked = (facts["image_length"], facts["text_length"])
    if (image_length, text_length) != asked:
        found = f"image and text features of {image_length} and {text_length} numbers at {where}"
        model = f"model {facts['fingerprint'][:12]} takes {asked[0]} and {asked[1]}"
        raise Mismatch(model, found, "Extract with the encoder the model was trained with, or train a new model")


def require_fingerprint(facts: dict[str, Any], found: str | None, where: str) -> None:
    """Raises Mismatch when codes were made by another model."""
    if found != facts["fingerprint"]:
        made_by = f"made by model {found[:12]}" if found else "without a model fingerprint"
        model = f"codes of model {facts['fingerprint'][:12]}"
        raise Mismatch(model, f"{where} is {made_by}", "Encode with this model, or name the model that made them")
