"""Messages of the gRPC service: classes from its compiled description, and between them and what HTTP speaks.

The classes are made of wire/search.binpb when this file is imported: generated Python would bind every user to one
major version of protobuf (https://protobuf.dev/support/cross-version-runtime-guarantee).
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import orjson
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, struct_pb2

from xhash_ray.serving import requests

PACKAGE = "xhash.v1"
SERVICE = f"{PACKAGE}.Search"
WORDS = ("source", "target", "filter", "rescore", "ties", "require_complete")  # empty or false: not said
SAID = ("k", "candidates", "metadata", "timeout_s")

description = descriptor_pb2.FileDescriptorSet.FromString(
    files("xhash_ray.serving").joinpath("wire/search.binpb").read_bytes()
)
pool = descriptor_pool.DescriptorPool()
for each in description.file:
    if each.name != struct_pb2.DESCRIPTOR.name:
        pool.Add(each)
    else:
        pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)


@functools.cache
def message(name: str) -> Any:
    """The class of a message of the service."""
    made: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
    made.__module__ = __name__  # Serve's proxy pickles messages, and pickle looks classes up where they say they are
    return made


def __getattr__(name: str) -> Any:
    """The classes of messages, by name."""
    try:
        return message(name)
    except KeyError:
        raise AttributeError(f"module {__name__} has no attribute {name}") from None


def to_request(asked: Any, left_s: float | None) -> requests.SearchRequest:
    """A query as HTTP has it.

    Args:
        asked: SearchRequest of the service.
        left_s: Until the call's deadline; None where it has none.

    Raises:
        pydantic.ValidationError: for a field that is none.
    """
    fields: dict[str, Any] = {name: value for name in WORDS if (value := getattr(asked, name))}
    fields |= {name: getattr(asked, name) for name in SAID if asked.HasField(name)}
    if left_s is not None:
        fields.setdefault("timeout_s", min(60.0, max(0.001, left_s)))
    kind = asked.WhichOneof("query")
    if kind is not None:
        fields[kind] = content_of(asked, kind)
    return requests.SearchRequest.model_validate(fields)


def content_of(asked: Any, kind: str) -> Any:
    """What is searched with, as JSON would have it."""
    value = getattr(asked, kind)
    if kind == "vector":
        return list(value.numbers)
    if kind == "image":
        return base64.b64encode(value).decode()
    return value.hex() if kind == "code" else value


def to_answer(found: Mapping[str, Any]) -> Any:
    """SearchAnswer of the service."""
    scalars = {name: value for name, value in found.items() if name != "hits" and value is not None}
    answer = message("SearchAnswer")(**scalars)
    for hit in found["hits"]:
        made = answer.hits.add(id=hit["id"], distance=hit["distance"])
        if "score" in hit:
            made.score = hit["score"]
        if hit.get("metadata"):
            made.metadata.update(plain(hit["metadata"]))
    return answer


def to_item(found: Mapping[str, Any]) -> Any:
    """Item of the service."""
    codes = {name: bytes.fromhex(found[name]) for name in ("image_code", "text_code")}
    item = message("Item")(id=found["id"], **codes)
    item.metadata.update(plain(found["metadata"]))
    return item


def to_index(facts: Mapping[str, Any]) -> Any:
    """IndexAnswer of the service."""
    answer = message("IndexAnswer")()
    json_format.ParseDict(plain(facts), answer.facts)
    return answer


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON has them: times as text, NaN as null."""
    made: dict[str, Any] = orjson.loads(orjson.dumps(values, default=str))
    return made
