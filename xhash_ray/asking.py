"""`xhash query`: one search from the command line."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xhash_ray.client import Client
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.options import Query

KEY_VARIABLE = "XHASH_KEY"


def ask(options: Query) -> dict[str, Any]:
    """Asks the endpoint for the pairs nearest to a text, an image file or a stored pair.

    Returns:
        The endpoint's answer.

    Raises:
        BadOption: unless exactly one of --text, --image and --id is given.
        BadInput: for an image file that cannot be read, or a query that the endpoint refuses.
        Unreachable: when nothing answers.
    """
    given = {name: getattr(options, name) for name in ("text", "image", "id") if getattr(options, name) is not None}
    if len(given) != 1:
        found = " and ".join(f"--{name}" for name in given) or "none"
        raise BadOption("xhash query", f"{found} given", "Give exactly one of --text, --image, --id")
    if options.image is not None:
        given["image"] = read_image(options.image)
    given |= {"target": options.target, "filter": options.filter, "rescore": options.rescore}
    key = options.key or os.environ.get(KEY_VARIABLE)
    with Client(options.url, options.timeout_s, key) as client:
        return asdict(client.search(k=options.k, **given))


def read_image(path: str) -> bytes:
    """The bytes of a local file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"--image {path}", error.strerror or str(error), "Name an image file") from None
