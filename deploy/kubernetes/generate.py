"""Writes what Kubernetes needs of other files of this folder: the application, in each size, and the alerts.

    python deploy/kubernetes/generate.py           # after an edit of deploy/serve.yaml or of Prometheus' rules
    python deploy/kubernetes/generate.py --check   # changes nothing; exits with 1 when a file is not up to date

kustomize cannot put a file into a field of another, so these manifests are made, and kept in the repository.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
SERVE, RULES = HERE.parent / "serve.yaml", HERE.parent / "prometheus" / "rules.yaml"
# Arguments of the application that a size changes.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "base/search": {},
    "overlays/small": {"processes": 2},
    "overlays/large": {"processes": 16, "encoders": 4, "gateways": 4},
}
MADE = "# Made by deploy/kubernetes/generate.py from deploy/{}: edit that.\n"


class Literal(str):
    """Text that YAML shows as lines."""


def represent_literal(dumper: yaml.SafeDumper, text: Literal) -> yaml.ScalarNode:
    """As a block."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")


yaml.SafeDumper.add_representer(Literal, represent_literal)


def dump(value: Any) -> str:
    """YAML in the order given."""
    return yaml.safe_dump(value, sort_keys=False, width=120)


def serve_config(config: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    """The RayService's part that holds the application, with some of its arguments changed."""
    (application,) = config["applications"]
    changed = {**config, "applications": [{**application, "args": {**application["args"], **changes}}]}
    patch = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "xhash"},
        "spec": {"serveConfigV2": Literal(dump(changed))},
    }
    return MADE.format("serve.yaml") + dump(patch)


def prometheus_rule(rules: Mapping[str, Any]) -> str:
    """The rules of a Prometheus that the operator runs."""
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "xhash", "labels": {"app.kubernetes.io/part-of": "xhash"}},
        "spec": {"groups": rules["groups"]},
    }
    return MADE.format("prometheus/rules.yaml") + dump(manifest)


def made() -> dict[Path, str]:
    """What each made file should hold."""
    config = yaml.safe_load(SERVE.read_text())
    files = {HERE / folder / "serveconfig.yaml": serve_config(config, it) for folder, it in SIZES.items()}
    files[HERE / "base" / "common" / "prometheusrule.yaml"] = prometheus_rule(yaml.safe_load(RULES.read_text()))
    return files


def main(arguments: list[str]) -> int:
    """Writes what differs, or names it."""
    stale = [path for path, text in made().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(path.relative_to(HERE))
        if "--check" not in arguments:
            path.write_text(made()[path])
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
