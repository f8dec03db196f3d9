"""Methods to model folders and back: weights, facts, model card."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from xhash_ray.errors import Mismatch
from xhash_ray.methods import create, load, settings_of
from xhash_ray.methods.base import Method, Shape
from xhash_ray.storage.artefact import Artefact


def weights_of(method: Method) -> dict[str, np.ndarray]:
    """Parameters and buffers that encoding uses, by name, on the CPU."""
    state = {name: value for name, value in method.state_dict().items() if is_for_encoding(method, name)}
    return {name: value.detach().cpu().numpy() for name, value in state.items()}


def is_for_encoding(method: Method, name: str) -> bool:
    """Whether a weight is used when encoding, not only in training."""
    return not name.startswith(tuple(f"{part}." for part in method.training_only))


def facts_of(name: str, method: Method) -> dict[str, Any]:
    """What decides how the weights are used: method, code length, feature lengths, settings; and what was found."""
    facts = {"method": name, **method.shape._asdict(), "settings": settings_of(method)}
    return {**facts, "findings": list(method.findings())} if method.findings() else facts


def to_method(artefact: Artefact) -> Method:
    """The method of a model folder, ready to encode.

    Raises:
        Mismatch: when the weights do not fit the method they name.
    """
    facts = artefact.facts
    shape = Shape(facts["bits"], facts["image_length"], facts["text_length"], facts.get("classes", 0))
    method = create(facts["method"], shape, facts["settings"])
    weights = {name: torch.from_numpy(value.copy()) for name, value in artefact.weights.items()}
    unused = {name: value for name, value in method.state_dict().items() if not is_for_encoding(method, name)}
    try:
        method.load_state_dict(unused | weights)
    except RuntimeError as error:
        found = " ".join(str(error).split())[:200]
        raise Mismatch(f"loading a {facts['method']} model", found, "Restore the folder or train again") from None
    return method.eval()


def code_health(
    method: Method, image: Float[torch.Tensor, "n d_i"], text: Float[torch.Tensor, "n d_t"]
) -> dict[str, dict[str, Any]]:
    """How much the bits say, per modality, over some rows.

    `stuck_bits` are those with one value in more than 99% of the rows; `duplicate_bits` those that repeat an earlier
    bit, or its opposite, in more than 99%; `distinct` is the share of different codes.
    """
    return {name: bit_health(method.encode(name, rows)) for name, rows in (("image", image), ("text", text))}


def bit_health(codes: UInt8[np.ndarray, "n bytes"]) -> dict[str, Any]:
    """The numbers of `code_health` for the codes of one modality."""
    signs = np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1
    ones = (signs.mean(axis=0) + 1) / 2
    stuck = np.maximum(ones, 1 - ones) > 0.99
    agreement = np.abs(signs.T @ signs) / len(signs)  # 1 where two bits are equal, or opposite, everywhere
    repeats = np.triu(agreement > 0.98, k=1) & ~stuck[:, None]
    return {
        "stuck_bits": int(stuck.sum()),
        "duplicate_bits": int((repeats.any(axis=0) & ~stuck).sum()),
        "mean_bit": round(float(ones.mean()), 4),
        "distinct": round(len(np.unique(codes, axis=0)) / len(codes), 4),
    }


def model_card(facts: Mapping[str, Any]) -> str:
    """The model card in Markdown: what it is, how it was trained, how it is used."""
    settings = "\n".join(f"| {name} | {value} |" for name, value in facts["settings"].items())
    told = {name: value for name, value in facts["training"].items() if name != "chosen"}
    training = "\n".join(
        [f"- {name.replace('_', ' ')}: {value}" for name, value in told.items()]
        + [f"- {found}" for found in facts.get("findings", ())]
    )
    method = load(facts["method"])
    return f"""# {facts["method"]}, {facts["bits"]} bits

{method.paper}. Two hash functions: image features of {facts["image_length"]} numbers and text
features of {facts["text_length"]} numbers become codes of {facts["bits"] // 8} bytes, compared by Hamming distance.

## Training

{training}

{facts["training"].get("chosen", "")}

Against stuck and duplicate bits: {method.against_collapse}.

## Settings

| setting | value |
|---|---|
{settings}
"""
