"""Plans: fewest machines that hold, carry and answer in time; sums that add up; demands that nobody has refused."""

import itertools
import json
import math

import pytest

from tests.sizing.machines import machine
from xhash_ray.cli import main
from xhash_ray.errors import BadInput
from xhash_ray.options import Plan
from xhash_ray.reports import render
from xhash_ray.sizing.choosing import MOST_GROUPS, PLANNED, Needs, choose, choose_groups, layout_of
from xhash_ray.sizing.machine import Scan, write_machine
from xhash_ray.sizing.memory import USED
from xhash_ray.sizing.plan import plan
from xhash_ray.sizing.serving import Demand, Layout, expected, limits

SWAPPED = Needs(2, None, 1.0, 0)


@pytest.fixture
def file(tmp_path) -> str:
    """A machine file."""
    path = str(tmp_path / "machine.json")
    write_machine(path, machine(price_per_hour=0.5, price_per_gb_month=0.02))
    return path


@pytest.fixture
def planned(file):
    """Makes a plan."""

    def make(**asked):
        return plan(Plan(**{"pairs": 10**9, "qps": 20.0, "machine": file, **asked}))

    return make


def test_as_few_groups_as_fit_and_not_one_less():
    for qps, latency_s in ((1.0, None), (200.0, None), (1.0, 0.1)):
        demand, needs = Demand(4 * 10**9, 64, qps, "text"), SWAPPED._replace(latency_s=latency_s)
        choice = choose(machine(), demand, needs)
        assert choice.layout.groups == max(choice.groups_by.values()) > 1
        name = choice.decided_by
        assert choose(machine(), demand, needs).groups_by[name] == choice.layout.groups
        assert all(qps <= PLANNED * most for most in choice.limits.values())
        if latency_s is not None:
            assert name == "latency"
            assert choice.expected.p99_s <= latency_s
            less = expected(machine(), demand, layout_of(machine(), demand, 2, choice.layout.groups - 1))
            assert less is not None
            assert less.p99_s > latency_s
    loads = layout_of(machine(), Demand(4 * 10**9, 64, 200.0, "text"), 2, 3)
    assert min(limits(machine(), Demand(4 * 10**9, 64, 0.0, "text"), loads).values()) * PLANNED < 200


def test_memory_alone_decides_where_nobody_asks():
    choice = choose(machine(), Demand(10**10, 64, 0.001, "code"), SWAPPED)
    room = 64e9 * USED - 1e9
    assert choice.groups_by["memory"] == math.ceil(10**10 * 16 * 2 / room) == choice.layout.groups
    assert choice.decided_by == "memory"
    halved = choose(machine(), Demand(10**10, 64, 0.001, "code"), SWAPPED._replace(changed=0.0))
    assert halved.groups_by["memory"] == math.ceil(10**10 * 16 / room)
    filtered = choose(machine(), Demand(10**10, 64, 0.001, "code"), SWAPPED._replace(filters=8))
    assert filtered.groups_by["memory"] == math.ceil(10**10 * (16 * 2 + 8) / room)


def test_every_replica_has_a_gateway_and_gateways_their_cores():
    assert layout_of(machine(), Demand(10**9, 64, 1.0, "code"), 3, 1) == Layout(1, 3, 3, 2)
    many = layout_of(machine(), Demand(10**9, 64, 2000.0, "text"), 2, 5)
    assert many.gateways == math.ceil(2000 * (0.001 + 5 * 0.0001 + 0.0005) / PLANNED)
    assert many.encoders == math.ceil(2000 * 0.0025 / 4 / PLANNED)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("pairs", [10**6, 10**8, 10**9, 10**10]),
        ("qps", [1.0, 10.0, 100.0, 500.0]),
        ("bits", [32, 64, 128, 256]),
        ("changed", [0.0, 0.5, 1.0]),
        ("metadata_bytes", [0.0, 100.0]),
    ],
)
def test_more_needs_no_fewer_nodes(planned, name, values):
    found = [planned(**{"pairs": 2 * 10**9, name: value}) for value in values]
    for less, more in itertools.pairwise(found):
        assert less["nodes"] <= more["nodes"]
        assert less["stored_gb"] <= more["stored_gb"]
        assert less["price_per_month"] <= more["price_per_month"]


def test_replicas_are_at_least_those_asked_for(planned):
    found = [planned(replicas=count, qps=200.0) for count in (1, 2, 16)]
    assert all(each["replicas"] >= count for each, count in zip(found, (1, 2, 16), strict=True))
    assert all(each["nodes"] == each["groups"] * each["replicas"] for each in found)
    assert found[0]["nodes"] <= found[1]["nodes"] <= found[2]["nodes"]
    fewer_groups = choose_groups(machine(), Demand(10**9, 64, 200.0, "text"), SWAPPED._replace(replicas=16))
    more_groups = choose_groups(machine(), Demand(10**9, 64, 200.0, "text"), SWAPPED._replace(replicas=1))
    assert fewer_groups.layout.groups < more_groups.layout.groups
    assert found[0]["nodes"] <= min(fewer_groups.layout.nodes, more_groups.layout.nodes)


def test_a_latency_asked_for_is_met_by_more_nodes(planned):
    free, tight = planned(content="code"), planned(content="code", latency_ms=60)
    assert free["p99_ms"] > 60 >= tight["p99_ms"]
    assert tight["nodes"] > free["nodes"]
    assert tight["decided_by"] == "latency"


def test_figures_agree_with_each_other(planned):
    found = planned(pairs=10**10, qps=100.0)
    assert found["memory_gb_per_node"] == pytest.approx(1 + 2 * 16 * 10 / found["groups"], abs=1e-3)
    assert found["stored_gb"] == pytest.approx(10 * (16 + 4 + 16))
    assert found["price_per_month"] == pytest.approx(found["nodes"] * 0.5 * 730 + 360 * 0.02, abs=0.01)
    assert found["highest_qps"] * PLANNED >= 100
    assert found["p50_ms"] <= found["p99_ms"]
    by_name = {line["what"].strip(): line for line in found["lines"]}
    assert by_name["nodes"]["value"] == f"{found['nodes']:,}"
    assert all(line["value"] and line["how"] for line in found["lines"])


@pytest.mark.parametrize(
    ("changed", "replicas", "said"),
    [
        ({"request_cpu_s": 0.1}, 1, "CPU of the gateways"),
        ({"text_cpu_s": 10.0}, 4, "CPU of the encoders"),
        ({"text_cpu_s": 10.0}, 1, "CPU of the requests, on the nodes that scan"),
        ({"network_bytes_per_s": 10_000.0}, 1, "network"),
        ({"scans": (Scan(64, 1, 1e6), Scan(64, 32, 1e5))}, 1, "CPU of the scans"),
        ({"scans": (Scan(64, 1, 1e6), Scan(64, 32, 9e5)), "read_bytes_per_s": 9e6}, 1, "memory bandwidth of the scans"),
    ],
)
def test_what_is_full_first_is_said(tmp_path, changed, replicas, said):
    path = str(tmp_path / "machine.json")
    write_machine(path, machine(**changed))
    assert plan(Plan(pairs=10**5, qps=0.1, machine=path, replicas=replicas))["full_first"] == said


def test_without_prices_the_cost_is_not_known(tmp_path):
    path = str(tmp_path / "machine.json")
    write_machine(path, machine())
    found = plan(Plan(pairs=10**6, qps=1.0, machine=path))
    assert found["price_per_month"] is None
    assert "not known" in render("plan", found)
    write_machine(path, machine(price_per_hour=1.0, price_per_1000_puts=5.0, price_per_1000_gets=0.4))
    priced = plan(Plan(pairs=10**9, qps=1.0, machine=path))
    assert priced["price_per_month"] == priced["nodes"] * 730
    puts = next(line for line in priced["lines"] if "PUTs" in line["value"])
    assert puts["value"] == "1,000 PUTs"
    assert puts["how"].endswith("; 5.00 in all")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"qps": 0.0}, "--qps: 0. Give more than 0"),
        ({"qps": float("nan")}, "--qps: nan"),
        ({"pairs": 0}, "--pairs: 0. Give at least 1"),
        ({"bits": 63}, "63 bits. Give a multiple of 8"),
        ({"replicas": 0}, "--replicas: 0"),
        ({"latency_ms": -1.0}, "--latency-ms: -1. Give more than 0"),
        ({"latency_ms": 1.0}, r"--latency-ms 1: a request takes \d+\.\d ms beside its scan"),
        ({"changed": 1.5}, "--changed: 1.5. Give at most 1"),
        ({"filters": 9}, "--filters: 9. Give at most 8"),
        ({"id_bytes": -1.0}, "--id-bytes: -1"),
        ({"pairs": 10**15}, f"memory asks for more than {MOST_GROUPS:,} groups"),
        ({"qps": 1e8}, f"load asks for more than {MOST_GROUPS:,} groups"),
    ],
)
def test_what_cannot_be_planned_is_said(planned, asked, said):
    with pytest.raises(BadInput, match=said) as caught:
        planned(**asked)
    assert "\n" not in str(caught.value)


def test_it_is_a_command(file, capsys):
    asked = ["plan", "--pairs", "1e10", "--bits", "64", "--qps", "500", "--replicas", "20", "--machine", file]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["nodes"] == found["groups"] * found["replicas"]
    assert found["replicas"] >= 20
    assert main(asked) == 0
    shown = capsys.readouterr().out
    assert f"{found['nodes']:,} nodes" in shown
    assert "latency, p99" in shown
    assert main([*asked[:-1], file + "x"]) == 2
    assert "machine file" in capsys.readouterr().err
