"""Which CLIP: an architecture by name or JSON file, weights by tag, file or URI."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import open_clip
import torch

from xhash_ray.errors import BadInput, Mismatch, nearest
from xhash_ray.features.facts import DIGEST_KEY
from xhash_ray.storage import uri as places

ARCHITECTURES = Path(__file__).parent / "architectures"


def register_architectures() -> None:
    """Makes the architectures of this package, such as "xhash-tiny", known to open_clip, once."""
    known = set(open_clip.list_models())
    if any(path.stem not in known for path in ARCHITECTURES.glob("*.json")):
        open_clip.add_model_config(ARCHITECTURES)


def resolve_architecture(model: str, config: dict[str, Any] | None = None) -> str:
    """The name under which open_clip knows an architecture, registering a JSON file or a stored config.

    Args:
        model: A name from `open_clip.list_models()`, a `hf-hub:` or `local-dir:` name, or a .json file.
        config: The architecture itself, for names that only its maker knew.

    Raises:
        BadInput: for a name that nobody knows, or a file that is no architecture.
    """
    register_architectures()
    if model.startswith(("hf-hub:", "local-dir:")):
        return model
    if model.endswith(".json"):
        config = places.read_json(model)
        model = Path(model).stem
    if config and model not in open_clip.list_models():
        register_config(model, config)
    if model not in open_clip.list_models():
        raise BadInput(
            f"--model {model}",
            "open_clip knows no such architecture",
            nearest(model, open_clip.list_models())[:400],
        )
    return model


def register_config(name: str, config: dict[str, Any]) -> None:
    """Adds an architecture given as a dict to open_clip, which reads files only."""
    missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(config)
    if missing:
        raise BadInput(
            f"architecture {name}",
            f"no {', '.join(sorted(missing))}",
            "Write it like open_clip's own configs",
        )
    folder = Path(tempfile.gettempdir()) / f"xhash-architectures-{os.getuid()}"
    places.write_bytes(str(folder / f"{name}.json"), json.dumps(config).encode())
    open_clip.add_model_config(folder / f"{name}.json")


def resolve_weights(model: str, pretrained: str) -> str:
    """A tag as it stands, or the local path of a weights file, fetched when it is remote.

    Raises:
        BadInput: for something that is neither a tag of the model nor a file.
    """
    if "://" in pretrained and not places.is_local(pretrained):
        return fetched(pretrained)
    local = places.normalise(pretrained)
    if Path(local).is_file():
        return local
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags:
        found = f"no such file, and no pretrained tag of {model}"
        raise BadInput(f"--pretrained {pretrained}", found, nearest(pretrained, tags or ["(a weights file)"]))
    return pretrained


def fetched(uri: str) -> str:
    """A local copy of a remote weights file, in the user's cache, named by its content."""
    content = places.read_bytes(uri)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "xhash-ray"
    target = cache / f"{hashlib.sha256(content).hexdigest()[:24]}-{places.name_of(uri)}"
    if not target.exists():
        places.write_bytes(str(target), content)
    return str(target)


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 over the names, shapes and bytes of all weights: the same for every file format and place."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def require_digest(facts: dict[str, Any], found: str, pretrained: str) -> None:
    """Raises Mismatch when an encoder's weights are not those that made the features."""
    if facts.get(DIGEST_KEY) not in (None, found):
        asked = f"CLIP weights {facts[DIGEST_KEY][:12]}, which made the features of this model"
        raise Mismatch(asked, f"{pretrained} holds {found[:12]}", "Name the checkpoint that was extracted with")
