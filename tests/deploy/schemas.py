"""Schemas as an API server applies them: defaults first, then every field must be known."""

from __future__ import annotations

from typing import Any

import jsonschema

OBJECT = {"type": "object", "additionalProperties": False}
STRING = {"type": "string"}
LABELS = {"type": "object", "additionalProperties": STRING}
METADATA = {**OBJECT, "required": ["name"], "properties": {"name": STRING, "namespace": STRING, "labels": LABELS}}
DURATION = {"type": "string", "pattern": r"^([0-9]+(ms|[smhd]))+$"}
RELABELING = {
    **OBJECT,
    "required": ["targetLabel"],
    "properties": {
        "sourceLabels": {"type": "array", "items": STRING},
        "targetLabel": STRING,
        "regex": STRING,
        "replacement": STRING,
    },
}
ENDPOINT = {
    **OBJECT,
    "required": ["port"],
    "properties": {
        "port": STRING,
        "interval": DURATION,
        "relabelings": {"type": "array", "items": RELABELING},
        "metricRelabelings": {"type": "array", "items": RELABELING},
    },
}
RULE = {
    **OBJECT,
    "required": ["expr"],
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
    "properties": {
        "alert": STRING,
        "record": STRING,
        "expr": STRING,
        "for": DURATION,
        "keep_firing_for": DURATION,
        "labels": LABELS,
        "annotations": LABELS,
    },
}
GROUP = {
    **OBJECT,
    "required": ["name", "rules"],
    "properties": {
        "name": STRING,
        "interval": DURATION,
        "rules": {"type": "array", "minItems": 1, "items": RULE},
    },
}
# The Prometheus operator's kinds, of which no package brings the schemas: the fields used here, and no others.
MONITORING = {
    "PodMonitor": {
        **OBJECT,
        "required": ["selector", "podMetricsEndpoints"],
        "properties": {
            "jobLabel": STRING,
            "selector": {**OBJECT, "required": ["matchLabels"], "properties": {"matchLabels": LABELS}},
            "podMetricsEndpoints": {"type": "array", "minItems": 1, "items": ENDPOINT},
        },
    },
    "PrometheusRule": {
        **OBJECT,
        "required": ["groups"],
        "properties": {"groups": {"type": "array", "minItems": 1, "items": GROUP}},
    },
}


class Strict:
    """How an API server checks objects of a schema: defaults first, then no field that the schema does not name."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self.validator = jsonschema.Draft7Validator(strict(schema))  # made once: KubeRay's have a megabyte each

    def check(self, manifest: dict[str, Any]) -> None:
        """Raises jsonschema.ValidationError for an object that would be refused."""
        self.validator.validate(defaulted(manifest, self.schema))


def monitoring(kind: str) -> Strict:
    """The schema of one of the Prometheus operator's kinds."""
    fields = {
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "kind": {"const": kind},
        "metadata": METADATA,
        "spec": MONITORING[kind],
    }
    return Strict({**OBJECT, "required": list(fields), "properties": fields})


def defaulted(value: Any, schema: dict[str, Any]) -> Any:
    """A value with what its schema fills in where it says nothing."""
    if isinstance(value, list):
        return [defaulted(each, schema.get("items", {})) for each in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    missing = {name: it["default"] for name, it in properties.items() if "default" in it and name not in value}
    others = schema.get("additionalProperties")
    rest = others if isinstance(others, dict) else {}
    return {name: defaulted(it, properties.get(name, rest)) for name, it in {**missing, **value}.items()}


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that refuses fields it does not name, at every depth."""
    made = {key: strict_part(key, value) for key, value in schema.items()}
    free = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    return made if free or "properties" not in schema else {**made, "additionalProperties": False}


def strict_part(key: str, value: Any) -> Any:
    """What stands below one key of a schema."""
    if key == "properties":
        return {name: strict(part) for name, part in value.items()}
    return strict(value) if key in ("items", "additionalProperties") and isinstance(value, dict) else value
