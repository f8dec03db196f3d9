"""Methods to model folders and back: weights, facts, model card."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from xhash_ray.errors import Mismatch
from xhash_ray.methods import create, load, settings_of
from xhash_ray.methods.base import Method, Shape
from xhash_ray.storage.artefact import Artefact


def weights_of(method: Method) -> dict[str, np.ndarray]:
    """Parameters and buffers by name, on the CPU."""
    return {name: value.detach().cpu().numpy() for name, value in method.state_dict().items()}


def facts_of(name: str, method: Method) -> dict[str, Any]:
    """What decides how the weights are used: method, code length, feature lengths, settings."""
    return {"method": name, **method.shape._asdict(), "settings": settings_of(method)}


def to_method(artefact: Artefact) -> Method:
    """The method of a model folder, ready to encode.

    Raises:
        Mismatch: when the weights do not fit the method they name.
    """
    facts = artefact.facts
    shape = Shape(facts["bits"], facts["image_length"], facts["text_length"])
    method = create(facts["method"], shape, facts["settings"])
    try:
        method.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in artefact.weights.items()})
    except RuntimeError as error:
        found = " ".join(str(error).split())[:200]
        raise Mismatch(f"loading a {facts['method']} model", found, "Restore the folder or train again") from None
    return method.eval()


def code_health(
    method: Method, image: Float[torch.Tensor, "n d_i"], text: Float[torch.Tensor, "n d_t"]
) -> dict[str, dict[str, Any]]:
    """How much the bits say, per modality, over some rows.

    `stuck_bits` are those with one value in more than 99% of the rows; `distinct` is the share of different codes.
    """
    health = {}
    for modality, rows in (("image", image), ("text", text)):
        codes = method.encode(modality, rows)
        ones = np.unpackbits(codes, axis=1).mean(axis=0)
        health[modality] = {
            "stuck_bits": int(((ones > 0.99) | (ones < 0.01)).sum()),
            "mean_bit": round(float(ones.mean()), 4),
            "distinct": round(len(np.unique(codes, axis=0)) / len(codes), 4),
        }
    return health


def model_card(facts: Mapping[str, Any]) -> str:
    """The model card in Markdown: what it is, how it was trained, how it is used."""
    settings = "\n".join(f"| {name} | {value} |" for name, value in facts["settings"].items())
    training = "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in facts["training"].items())
    return f"""# {facts["method"]}, {facts["bits"]} bits

{load(facts["method"]).paper}. Two hash functions: image features of {facts["image_length"]} numbers and text
features of {facts["text_length"]} numbers become codes of {facts["bits"] // 8} bytes, compared by Hamming distance.

## Training

{training}

No labels and no queries were used to choose this model: it is the last epoch.

## Settings

| setting | value |
|---|---|
{settings}
"""
