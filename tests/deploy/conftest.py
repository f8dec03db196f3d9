"""Programs that come as packages, what kustomize makes of deploy/kubernetes, and KubeRay's schemas."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import MISSING_PROGRAM, REPOSITORY
from tests.deploy.schemas import Strict

DEPLOY = REPOSITORY / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
SIZES = ("base", "overlays/small", "overlays/large")
JOBS = ("jobs/extract", "jobs/train", "jobs/encode", "jobs/build-index")
CRD_VARIABLE = "XHASH_KUBERAY_CRDS"

Manifest = dict[str, Any]


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Finds a program beside this Python, where packages put theirs, or on the PATH; skips saying so."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def find(name: str) -> str:
        found = shutil.which(name, path=path)
        if found is None:
            pytest.skip(f"{MISSING_PROGRAM}{name}")
        return found

    return find


@pytest.fixture(scope="session")
def built(tool: Callable[[str], str]) -> Callable[[str], list[Manifest]]:
    """Every object that kustomize makes of a folder of deploy/kubernetes."""
    kept: dict[str, list[Manifest]] = {}

    def build(folder: str) -> list[Manifest]:
        if folder not in kept:
            command = [tool("kubectl"), "kustomize", str(KUBERNETES / folder)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, done.stderr
            assert not done.stderr, done.stderr  # warnings of fields that are going to end
            kept[folder] = list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))
        return kept[folder]

    return build


@pytest.fixture(scope="session")
def one(built: Callable[[str], list[Manifest]]) -> Callable[[str, str], Manifest]:
    """The only object of a kind that a folder makes."""

    def find(folder: str, kind: str) -> Manifest:
        (found,) = [manifest for manifest in built(folder) if manifest["kind"] == kind]
        return found

    return find


@pytest.fixture(scope="session")
def kuberay() -> Callable[[str], Strict]:
    """KubeRay's schema of a kind: XHASH_KUBERAY_CRDS names their folder, or shared/ beside the checkout has it."""
    beside = REPOSITORY.parent / "shared" / "kuberay-crds-v1.7.0"
    folder = Path(os.environ.get(CRD_VARIABLE, beside))
    if not folder.is_dir():
        pytest.skip(f"KubeRay's schemas are absent: no {folder.name}/ (set {CRD_VARIABLE})")
    kept: dict[str, Strict] = {}

    def schema(kind: str) -> Strict:
        if kind not in kept:
            file = folder / f"ray.io_{kind.lower()}s.yaml"
            crd = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
            (version,) = [each for each in crd["spec"]["versions"] if each["name"] == "v1"]
            kept[kind] = Strict(version["schema"]["openAPIV3Schema"])
        return kept[kind]

    return schema
