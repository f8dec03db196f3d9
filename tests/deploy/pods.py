"""The pods that objects describe, wherever in an object they stand, and what pods name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


class Pod(NamedTuple):
    """A pod template.

    Attributes:
        name: Of its object and, in Ray's, its group.
        labels: As its author wrote them, and those that KubeRay adds.
        spec: Its specification.
    """

    name: str
    labels: dict[str, str]
    spec: dict[str, Any]


def quantity(text: str | int) -> float:
    """A quantity of Kubernetes, in bytes or cores."""
    digits = str(text).rstrip("mkMGTi")
    return float(digits) * UNITS[str(text)[len(digits) :]]


def ray_cluster(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """The cluster of one of Ray's objects, None of others."""
    if not manifest["apiVersion"].startswith("ray.io/"):
        return None
    spec: dict[str, Any] = manifest["spec"]
    return spec.get("rayClusterConfig") or spec.get("rayClusterSpec") or spec


def pods(manifest: dict[str, Any]) -> Iterator[Pod]:
    """The pods of an object."""
    name, cluster = manifest["metadata"]["name"], ray_cluster(manifest)
    if cluster is not None:
        groups = [("head", cluster["headGroupSpec"]), *(("worker", it) for it in cluster["workerGroupSpecs"])]
        for kind, group in groups:
            template = group["template"]
            labels = {**template["metadata"]["labels"], "ray.io/node-type": kind}
            yield Pod(f"{name}/{group.get('groupName', kind)}", labels, template["spec"])
    for template in (manifest.get("spec", {}).get(key) for key in ("template", "submitterPodTemplate")):
        if template is not None:
            yield Pod(name, template["metadata"]["labels"], template["spec"])


def containers(pod: Pod) -> list[dict[str, Any]]:
    """Its containers."""
    return [*pod.spec.get("initContainers", []), *pod.spec["containers"]]


def secret_keys(value: Any) -> Iterator[tuple[str, str]]:
    """(secret, key) of every reference, the key "" where all of it is taken."""
    if isinstance(value, list):
        for each in value:
            yield from secret_keys(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key == "secretKeyRef":
                yield each["name"], each["key"]
            elif key == "secretRef":
                yield each["name"], ""
            elif key == "secretName":
                yield each, ""
            else:
                yield from secret_keys(each)
    elif not isinstance(value, str | int | float | bool | None):
        raise TypeError(type(value))
