"""The API's description as a page, from what /openapi.json says: nothing is loaded from elsewhere.

FastAPI's own pages load their scripts from a public network, into the origin whose tab holds the API key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>xhash-ray: API</title>
<link rel="stylesheet" href="page/docs.css">
<h1>xhash-ray: API</h1>
<p>Keys go into the header <code>Authorization: Bearer KEY</code>. The same for machines:
<a href="openapi.json">openapi.json</a>. Over gRPC: <code>xhash_ray/serving/wire/search.proto</code>.</p>
"""


def render(openapi: Mapping[str, Any]) -> str:
    """The page, in HTML."""
    parts = [HEAD]
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts += operation_html(openapi, method, path, operation)
    return "\n".join(parts)


def operation_html(openapi: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    """One route: what it does, what it takes, what it answers."""
    yield f"<h2>{escape(method.upper())} <code>{escape(path)}</code></h2>"
    yield f"<p>{escape(operation.get('description') or operation.get('summary', ''))}</p>"
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        yield f"<p>Takes {escape(' or '.join(body))}:</p>"
        yield fields_html(openapi, next(iter(body.values()))["schema"])
    for status, answer in operation["responses"].items():
        if status == "200":
            contents: list[Any] = list(answer.get("content", {}).values())
            schema = contents[0].get("schema", {}) if contents else {}
            yield f"<p>Answers:</p>{fields_html(openapi, schema)}" if schema else ""
    others = ", ".join(status for status in operation["responses"] if status != "200")
    yield f"<p>Or refuses with {escape(others)}.</p>" if others else ""


def fields_html(openapi: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A table of a schema's fields."""
    whole = resolved(openapi, schema, schema)
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind(openapi, schema, field))}</td>"
        f"<td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in whole.get("properties", {}).items()
    ]
    return f"<table>{''.join(rows)}</table>" if rows else f"<p>{escape(kind(openapi, schema, whole))}</p>"


def resolved(openapi: Mapping[str, Any], root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema, or the one that it refers to."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    name = reference.rsplit("/", 1)[-1]
    found: Mapping[str, Any] = root.get("$defs", {}).get(name) or openapi["components"]["schemas"][name]
    return found


def kind(openapi: Mapping[str, Any], root: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A field's type in a few words."""
    field = resolved(openapi, root, schema)
    if "anyOf" in field:
        return " or ".join(kind(openapi, root, each) for each in field["anyOf"] if each.get("type") != "null")
    if "enum" in field:
        return " or ".join(map(str, field["enum"]))
    if field.get("type") == "array":
        return f"list of {kind(openapi, root, field.get('items', {}))}"
    return str(field.get("title") if "properties" in field else field.get("type", "anything"))
