"""Who may reach whom: network policies, services, monitors and budgets name pods, ports and labels that exist."""

from __future__ import annotations

import pytest

from tests.deploy.conftest import JOBS, SIZES
from tests.deploy.pods import containers, pods

SEARCH_WORKER = {"component": "search", "type": "worker"}
SEARCH_HEAD = {"component": "search", "type": "head"}
BATCH_HEAD = {"component": "batch", "type": "head"}
BATCH_WORKER = {"component": "batch", "type": "worker"}
CLIENTS, OPERATORS, MONITORING = ({f"xhash/{name}": "true"} for name in ("clients", "operators", "monitoring"))
NOBODY = {"kubernetes.io/metadata.name": "somewhere"}


def labels(component, type=None):
    """Labels of a pod."""
    named = {"app.kubernetes.io/part-of": "xhash", "app.kubernetes.io/component": component}
    return {**named, "ray.io/node-type": type} if type else named


def fits(selector, found):
    """Whether labels fit a selector."""
    said = selector.get("matchLabels", {})
    operators = {
        "In": lambda value, values: value in values,
        "NotIn": lambda value, values: value not in values,
    }
    return all(found.get(name) == value for name, value in said.items()) and all(
        operators[it["operator"]](found.get(it["key"]), it["values"]) for it in selector.get("matchExpressions", [])
    )


def may_enter(policies, to, port, pod=None, namespace=None):
    """Whether a pod of this namespace, or any of another, may open a port of a pod: NetworkPolicies add up."""
    of_pod = [it["spec"] for it in policies if fits(it["spec"]["podSelector"], labels(**to))]
    assert any("Ingress" in spec["policyTypes"] for spec in of_pod)  # else everything may
    return any(
        port in [it["port"] for it in rule.get("ports", [{"port": port}])]
        and any(comes_from(peer, pod, namespace) for peer in rule["from"])
        for spec in of_pod
        for rule in spec.get("ingress", [])
    )


def comes_from(peer, pod, namespace):
    """Whether a peer of a rule is that pod of this namespace, or that other namespace."""
    if "namespaceSelector" in peer:
        return namespace is not None and fits(peer["namespaceSelector"], namespace)
    return pod is not None and fits(peer["podSelector"], labels(**pod))


@pytest.fixture(scope="module")
def policies(built):
    """The network policies, the same in every size."""
    found = [manifest for manifest in built("base") if manifest["kind"] == "NetworkPolicy"]
    assert all([it for it in built(size) if it["kind"] == "NetworkPolicy"] == found for size in SIZES)
    return found


def test_every_pod_is_closed_unless_said(built, policies):
    (closed,) = [it["spec"] for it in policies if it["metadata"]["name"] == "xhash-nothing"]
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in closed
    assert "egress" not in closed
    for folder in (*SIZES, *JOBS):
        for manifest in built(folder):
            assert all(fits(closed["podSelector"], pod.labels) for pod in pods(manifest))


@pytest.mark.parametrize(
    ("to", "port", "caller", "allowed"),
    [
        (SEARCH_WORKER, 8000, {"namespace": CLIENTS}, True),
        (SEARCH_WORKER, 9000, {"namespace": CLIENTS}, True),
        (SEARCH_WORKER, 8000, {"namespace": NOBODY}, False),
        (SEARCH_HEAD, 8000, {"namespace": CLIENTS}, False),
        (SEARCH_HEAD, 8265, {"namespace": CLIENTS}, False),
        (SEARCH_HEAD, 6379, {"namespace": OPERATORS}, False),
        (SEARCH_HEAD, 8265, {"namespace": OPERATORS}, True),
        (BATCH_HEAD, 8265, {"namespace": OPERATORS}, True),
        (BATCH_HEAD, 8265, {"pod": {"component": "submitter"}}, True),
        (SEARCH_HEAD, 8265, {"pod": {"component": "submitter"}}, False),
        (SEARCH_HEAD, 6379, {"pod": SEARCH_WORKER}, True),
        (SEARCH_HEAD, 6379, {"pod": BATCH_WORKER}, False),
        (BATCH_WORKER, 20000, {"pod": BATCH_HEAD}, True),
        ({"component": "redis"}, 6379, {"pod": SEARCH_HEAD}, True),
        ({"component": "redis"}, 6379, {"pod": {"component": "search", "type": "redis-cleanup"}}, True),
        ({"component": "redis"}, 6379, {"pod": SEARCH_WORKER}, False),
        ({"component": "redis"}, 6379, {"pod": BATCH_HEAD}, False),
        (SEARCH_HEAD, 44227, {"namespace": MONITORING}, True),
        (SEARCH_WORKER, 8080, {"namespace": MONITORING}, True),
        ({"component": "exporter"}, 9109, {"namespace": MONITORING}, True),
        ({"component": "redis"}, 6379, {"namespace": MONITORING}, False),
    ],
)
def test_who_may_reach_whom(to, port, caller, allowed, policies):
    assert may_enter(policies, to, port, **caller) is allowed


def test_what_is_reached_is_allowed_to_be_asked(policies):
    """A way in needs the caller's way out: submitters, and heads that keep their state in Redis."""
    for caller, port in (({"component": "submitter"}, 8265), (SEARCH_HEAD, 6379)):
        ways = [it["spec"] for it in policies if fits(it["spec"]["podSelector"], labels(**caller))]
        assert any(
            port in [p["port"] for p in rule["ports"]] for it in ways for rule in it.get("egress", []) if "to" in rule
        )


@pytest.mark.parametrize("size", SIZES)
def test_services_and_monitors_find_pods_that_have_their_ports(size, built):
    every_pod = [pod for manifest in built(size) for pod in pods(manifest)]
    for manifest in built(size):
        if manifest["kind"] == "Service":
            selector, ports = manifest["spec"]["selector"], [it["targetPort"] for it in manifest["spec"]["ports"]]
        elif manifest["kind"] == "PodMonitor":
            selector = manifest["spec"]["selector"]["matchLabels"]
            ports = [it["port"] for it in manifest["spec"]["podMetricsEndpoints"]]
        else:
            continue
        chosen = [pod for pod in every_pod if fits({"matchLabels": selector}, pod.labels)]
        assert chosen, manifest["metadata"]["name"]
        for pod in chosen:
            declared = {port["name"] for it in containers(pod) for port in it.get("ports", [])}
            assert set(ports) <= declared, (manifest["metadata"]["name"], pod.name)


def test_every_port_for_metrics_is_scraped(built):
    monitors = [it["spec"] for it in built("base") if it["kind"] == "PodMonitor"]
    for manifest in built("base"):
        for pod in pods(manifest):
            declared = {port["name"] for it in containers(pod) for port in it.get("ports", [])}
            scraped = {
                endpoint["port"]
                for it in monitors
                if fits(it["selector"], pod.labels)
                for endpoint in it["podMetricsEndpoints"]
            }
            assert {name for name in declared if name.endswith("metrics")} == scraped, pod.name
