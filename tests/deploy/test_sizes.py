"""Each size holds what it says, twice, with one machine down and while one generation replaces another."""

from __future__ import annotations

import math

import pytest
import yaml

from tests.deploy.conftest import SIZES
from tests.deploy.pods import quantity

ENCODER_BYTES = 3e9  # a CLIP of a hundred million parameters, and torch
GATEWAY_BYTES = 0.5e9
CPUS = {"shards": 0.25, "encoder": 0.5, "gateway": 0.25}  # as runtime/serving.py asks for them


@pytest.fixture(params=SIZES)
def service(request, one):
    """The RayService of a size."""
    return one(request.param, "RayService")


@pytest.fixture
def args(service):
    """Arguments of its application."""
    return yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["args"]


@pytest.fixture
def workers(service):
    """Its only group of workers."""
    (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    return group


def test_shards_fit_into_memory(service, args, workers):
    notes = service["metadata"]["annotations"]
    pair_bytes = 2 * int(notes["xhash/bits"]) // 8  # two codes; ids and metadata stay on disk
    process_bytes = int(notes["xhash/pairs"]) * pair_bytes / args["processes"]
    left = workers["replicas"] - 1
    processes = math.ceil(args["processes"] * args["replicas"] / left)
    store_bytes = float(workers["rayStartParams"]["object-store-memory"])
    needed = 2 * processes * process_bytes + ENCODER_BYTES + GATEWAY_BYTES + store_bytes
    limit = quantity(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])
    assert 0.4 * limit < needed <= limit


def test_copies_are_on_different_nodes_and_find_room_with_one_down(args, workers):
    assert args["spread"] is True
    assert args["replicas"] == 2
    left = workers["replicas"] - 1
    assert max(args["replicas"], args["encoders"], args["gateways"]) <= left
    asked = (
        args["processes"] * args["replicas"] * CPUS["shards"]
        + args["encoders"] * CPUS["encoder"]
        + args["gateways"] * CPUS["gateway"]
    )
    assert asked <= left * quantity(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])


def test_machines_hold_one_worker_each_and_are_drained_one_by_one(service, workers, built, request):
    spec = workers["template"]["spec"]
    (by_host,) = [it for it in spec["topologySpreadConstraints"] if it["topologyKey"] == "kubernetes.io/hostname"]
    assert by_host["whenUnsatisfiable"] == "DoNotSchedule"
    assert by_host["maxSkew"] == 1
    folder = request.node.callspec.params["service"]
    (budget,) = [it["spec"] for it in built(folder) if it["kind"] == "PodDisruptionBudget"]
    # Of pods that no known controller owns Kubernetes counts only those that stay.
    assert budget["minAvailable"] == workers["replicas"] - 1
    assert "maxUnavailable" not in budget
    assert budget["selector"] == by_host["labelSelector"]


def test_the_head_holds_nothing_and_keeps_its_state_elsewhere(service, one, built):
    cluster = service["spec"]["rayClusterConfig"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert service["spec"]["excludeHeadPodFromServeSvc"] is True
    host, port = cluster["gcsFaultToleranceOptions"]["redisAddress"].split(":")
    redis = next(it for it in built("base") if it["kind"] == "Service" and it["metadata"]["name"] == host)
    assert int(port) in [it["port"] for it in redis["spec"]["ports"]]
    password = cluster["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"]
    (variable,) = one("base", "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert variable["valueFrom"]["secretKeyRef"] == password
