"""Pods as they should be: bounded, without rights, asked for their health, with secrets by reference alone."""

from __future__ import annotations

import re

import pytest

from tests.deploy.conftest import DEPLOY, JOBS, SIZES
from tests.deploy.pods import containers, pods, quantity, ray_cluster

FOLDERS = (*SIZES, *JOBS)
RAYS_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "serve": 8000, "metrics": 8080}


@pytest.fixture(params=FOLDERS)
def every_pod(request, built):
    """The pods of one folder."""
    return [pod for manifest in built(request.param) for pod in pods(manifest)]


def test_requests_are_within_limits_and_memory_is_both(every_pod):
    assert every_pod
    for pod in every_pod:
        for container in containers(pod):
            asked, most = container["resources"]["requests"], container["resources"]["limits"]
            assert {"cpu", "memory"} <= set(asked) <= set(most), pod.name
            assert all(quantity(asked[name]) <= quantity(most[name]) for name in asked), pod.name
            assert asked["memory"] == most["memory"], pod.name  # what is promised to two is lost by one


def test_temporary_files_fit_what_the_pod_may_hold(every_pod):
    for pod in every_pod:
        most = sum(quantity(it["resources"]["limits"].get("ephemeral-storage", "0")) for it in containers(pod))
        folders = [quantity(it["emptyDir"]["sizeLimit"]) for it in pod.spec.get("volumes", []) if "emptyDir" in it]
        assert not most or sum(folders) <= most, pod.name


def test_pods_have_no_rights(every_pod):
    for pod in every_pod:
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True, pod.name
        assert security["runAsUser"] > 0, pod.name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, pod.name
        assert not any(pod.spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")), pod.name


@pytest.mark.parametrize("folder", FOLDERS)
def test_only_heads_that_scale_have_a_service_account_with_rights(folder, built):
    for manifest in built(folder):
        assert manifest["kind"] not in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
        cluster = ray_cluster(manifest)
        scales = cluster is not None and cluster.get("enableInTreeAutoscaling", False)
        for pod in pods(manifest):
            if not (scales and pod.labels.get("ray.io/node-type") == "head"):
                assert pod.spec["automountServiceAccountToken"] is False, pod.name
                assert pod.spec["serviceAccountName"] == "xhash", pod.name


def test_what_stays_up_is_asked_for_its_health(every_pod):
    for pod in every_pod:
        if pod.spec.get("restartPolicy") != "Never":
            for container in containers(pod):
                assert {"readinessProbe", "livenessProbe"} <= set(container), pod.name


def test_ports_that_are_named_are_declared(every_pod):
    for pod in every_pod:
        for container in containers(pod):
            declared = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
            if container["name"].startswith("ray-") and "ray.io/node-type" in pod.labels:
                assert all(declared[name] == RAYS_PORTS[name] for name in declared if name in RAYS_PORTS), pod.name
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port", 52365)
                assert port == 52365 or port in declared, pod.name  # Ray's agent, which nobody else asks


def test_what_is_mounted_is_there(every_pod):
    for pod in every_pod:
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
        for container in containers(pod):
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])} - {"data"}
            assert mounted <= volumes, pod.name
            if container["image"].startswith("xhash-ray"):
                assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, pod.name


@pytest.mark.parametrize("folder", FOLDERS)
def test_clusters_ask_for_a_token_that_a_secret_holds(folder, built):
    clusters = [ray_cluster(manifest) for manifest in built(folder) if ray_cluster(manifest) is not None]
    assert clusters
    for cluster in clusters:
        assert cluster["authOptions"] == {"mode": "token", "secretName": "xhash-ray-token"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_secret_is_written_down(folder, built):
    for manifest in built(folder):
        assert manifest["kind"] != "Secret"
        for pod in pods(manifest):
            for container in containers(pod):
                for variable in container.get("env", []):
                    secret = any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "SECRET", "KEY"))
                    assert not secret or "value" not in variable, (pod.name, variable["name"])


def test_gpus_are_asked_for_where_they_are_tolerated(one):
    groups = {group["groupName"]: group for group in one("base", "RayCluster")["spec"]["workerGroupSpecs"]}
    assert set(groups) == {"cpu", "spot", "gpu"}
    gpu, spot = groups["gpu"]["template"]["spec"], groups["spot"]["template"]["spec"]
    assert gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert gpu["containers"][0]["image"].endswith("-cuda")
    assert [it["key"] for it in gpu["tolerations"]] == ["nvidia.com/gpu"]
    assert spot["nodeSelector"] == {"xhash/spot": "true"}
    assert spot["tolerations"]


def test_the_cache_is_a_folder_of_the_pods_own(every_pod):
    """An empty volume belongs to root, and what is cached must lie in a folder of the user's: below the mount."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    (cache,) = re.findall(r"XHASH_CACHE=(\S+)", text)
    for pod in every_pod:
        for container in containers(pod):
            if container["image"].startswith("xhash-ray"):
                assert not [each for each in container.get("env", []) if each["name"] == "XHASH_CACHE"], pod.name
                mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
                assert cache not in mounted, pod.name
                if container["name"] in ("ray-head", "ray-worker") or "exporter" in pod.name:
                    assert any(cache.startswith(f"{path}/") for path in mounted), pod.name


@pytest.mark.parametrize("folder", FOLDERS)
def test_accounts_that_pods_name_are_made_by_what_is_applied_first(folder, built):
    first = "base/common"
    assert f"kubectl apply -k deploy/kubernetes/{first}\n" in (DEPLOY / "README.md").read_text()
    made = {each["metadata"]["name"] for each in built(first) if each["kind"] == "ServiceAccount"}
    named = {pod.spec.get("serviceAccountName") for manifest in built(folder) for pod in pods(manifest)} - {None}
    assert named
    assert named <= made
