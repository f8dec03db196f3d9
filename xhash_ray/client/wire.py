"""What is sent: a call as a value, and its body as JSON has it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from xhash_ray.errors import BadInput

T = TypeVar("T")
Repeat = Literal["always", "unsent", "never"]


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call.

    Attributes:
        verb: HTTP's.
        path: Below the endpoint's URL, quoted.
        read: Makes the result of the decoded answer.
        body: JSON, None for a call without one.
        repeat: "always" for a question, which may be asked again; "unsent" for a change, which may only while the
            endpoint cannot have got it; "never" where the first outcome is what is wanted.
    """

    verb: str
    path: str
    read: Callable[[Any], T]
    body: bytes | None = None
    repeat: Repeat = "always"


def given(options: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The options that say something, as JSON has them.

    One at its default is left out, so that an endpoint that does not know it yet understands the rest.

    >>> given({"image": b"abc", "k": 10, "target": None, "ties": True}, {"k": 10, "ties": False})
    {'image': 'YWJj', 'ties': True}
    """
    said = {name: plain(name, value) for name, value in options.items() if value is not None}
    return {name: value for name, value in said.items() if defaults is None or value != defaults.get(name)}


def plain(name: str, value: Any) -> Any:
    """One field: an image's bytes in base64, a code's in hexadecimal, vectors of any library as lists of numbers.

    Raises:
        BadInput: for a vector that is none.
    """
    if isinstance(value, bytes) and name == "image":
        return base64.b64encode(value).decode()
    if isinstance(value, bytes) and name.endswith("code"):
        return value.hex()
    if name.endswith("vector"):
        try:
            return [float(number) for number in value]
        except (TypeError, ValueError):
            raise BadInput(f"field {name}", "not a list of numbers", "Send one vector") from None
    return value


def as_json(body: Mapping[str, Any]) -> bytes:
    """A request's body.

    Raises:
        BadInput: for values that JSON cannot hold, such as NaN.
    """
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise BadInput("a request", str(error), "Give what JSON can hold: finite numbers, texts, lists") from None
