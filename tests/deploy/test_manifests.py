"""Every object that kustomize makes is one that Kubernetes, KubeRay and the Prometheus operator take, strictly."""

from __future__ import annotations

import copy

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.conftest import DEPLOY, JOBS, KUBERNETES, SIZES
from tests.deploy.schemas import monitoring
from xhash_ray import __version__

OLDEST_KUBERNETES = "1.31"
FOLDERS = (*SIZES, *JOBS)


def validate(manifest, kuberay):
    """Raises when the API server would refuse an object."""
    group = manifest["apiVersion"].partition("/")[0]
    if group == "ray.io":
        kuberay(manifest["kind"]).check(manifest)
    elif group == "monitoring.coreos.com":
        monitoring(manifest["kind"]).check(manifest)
    else:
        kubernetes_validate.validate(manifest, OLDEST_KUBERNETES, strict=True)


@pytest.fixture(scope="module")
def seen():
    """Objects that were validated: sizes share most of them."""
    return []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_is_taken(folder, built, kuberay, seen):
    manifests = built(folder)
    for manifest in manifests:
        if manifest not in seen:
            validate(manifest, kuberay)
            seen.append(manifest)
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(names) == len(set(names)) > 0
    assert {manifest["metadata"].get("namespace") for manifest in manifests if manifest["kind"] != "Namespace"} == {
        "xhash"
    }


@pytest.mark.parametrize(
    ("kind", "path", "field"),
    [
        ("RayService", ["spec", "rayClusterConfig", "headGroupSpec"], "rayStartParam"),
        ("RayService", ["spec", "rayClusterConfig", "workerGroupSpecs", 0, "template", "spec"], "toleration"),
        ("RayService", ["spec"], "serveConfigV3"),
        ("RayCluster", ["spec", "autoscalerOptions"], "idleTimeout"),
        ("StatefulSet", ["spec", "template", "spec", "containers", 0], "resource"),
        ("NetworkPolicy", ["spec"], "podselector"),
        ("PodMonitor", ["spec"], "endpoints"),
        ("PrometheusRule", ["spec"], "rules"),
    ],
)
def test_a_field_that_does_not_exist_is_refused(kind, path, field, built, kuberay):
    manifest = copy.deepcopy(next(it for it in built("base") if it["kind"] == kind))
    part = manifest
    for step in path:
        part = part[step]
    part[field] = {}
    with pytest.raises(jsonschema.ValidationError, match=field):
        validate(manifest, kuberay)


def test_what_the_schema_fills_in_need_not_be_written(built, kuberay):
    (cluster,) = [copy.deepcopy(it) for it in built("base") if it["kind"] == "RayCluster"]
    group = cluster["spec"]["workerGroupSpecs"][0]
    del group["minReplicas"], group["maxReplicas"]
    validate(cluster, kuberay)
    del group["groupName"]
    with pytest.raises(jsonschema.ValidationError, match="groupName"):
        validate(cluster, kuberay)


def test_a_job_is_what_its_command_was_made_for(one):
    entrypoints = {folder: one(folder, "RayJob")["spec"]["entrypoint"].split() for folder in JOBS}
    assert {folder: words[1:-3] for folder, words in entrypoints.items()} == {
        "jobs/extract": ["extract"],
        "jobs/train": ["train"],
        "jobs/encode": ["encode"],
        "jobs/build-index": ["index", "build"],
    }
    for folder in JOBS:
        spec = one(folder, "RayJob")["spec"]
        batch = one("base", "RayCluster")["spec"]
        assert spec["rayClusterSpec"]["headGroupSpec"] == batch["headGroupSpec"]
        assert spec["backoffLimit"] > 0 < spec["ttlSecondsAfterFinished"] < spec["activeDeadlineSeconds"]
        assert spec["shutdownAfterJobFinishes"]


def test_ray_is_the_version_that_was_tested(built):
    constraints = dict(line.split("==") for line in (DEPLOY / "constraints.txt").read_text().split() if "==" in line)
    for folder in FOLDERS:
        for manifest in built(folder):
            if manifest["apiVersion"].startswith("ray.io"):
                spec = manifest["spec"]
                cluster = spec.get("rayClusterConfig") or spec.get("rayClusterSpec") or spec
                assert cluster["rayVersion"] == constraints["ray"]


def test_images_are_ours_or_have_a_version(built):
    ours = {f"xhash-ray:{__version__}", f"xhash-ray:{__version__}-cuda"}
    for folder in FOLDERS:
        found = set(images(built(folder)))
        assert ours & found
        assert all(image in ours or image.partition(":")[2] not in ("", "latest") for image in found)
        assert {image for image in found if image.startswith("xhash-ray")} <= ours


def images(value):
    """Every image that is named anywhere in objects."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from [each] if key == "image" else images(each)
    elif isinstance(value, list):
        for each in value:
            yield from images(each)


def test_every_manifest_is_part_of_something(built):
    named = {path.name for path in KUBERNETES.rglob("*.yaml")} - {"kustomization.yaml"}
    used = {
        name for file in KUBERNETES.rglob("kustomization.yaml") for name in names_in(yaml.safe_load(file.read_text()))
    }
    assert named <= used


def names_in(kustomization):
    """Files that a kustomization reads."""
    yield from kustomization["resources"]
    yield from (patch["path"] for patch in kustomization.get("patches", []) if "path" in patch)
