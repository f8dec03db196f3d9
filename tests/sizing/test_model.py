"""The arithmetic: scans, memory, the queue whose customers are served together, and closed loops of callers."""

import inspect
import math

import pytest

from tests.sizing.machines import machine
from xhash_ray.index.build import CUT_ROWS, SEGMENT_ROWS
from xhash_ray.serving.groups import KEPT_FILTERS
from xhash_ray.serving.router import Router
from xhash_ray.sizing import lines, memory, plan
from xhash_ray.sizing.capacity import Measured, capacity
from xhash_ray.sizing.checking import compared, predictions, scan_speed
from xhash_ray.sizing.machine import Scan
from xhash_ray.sizing.scans import measured_for, of_bandwidth, scan_s
from xhash_ray.sizing.serving import SHARED, Demand, Layout, closed_loop, costs, expected, highest, limits

ONE = Layout(1, 1, 1, 1)
SPREAD = Layout(4, 2, 2, 2)


def by_code(qps: float, pairs: int = 10_000_000) -> Demand:
    """A demand without encoding."""
    return Demand(pairs, 64, qps, "code")


def test_constants_are_those_of_the_rooms_that_have_them():
    assert inspect.signature(Router).parameters["batch"].default == SHARED
    assert plan.MOST_FILTERS == KEPT_FILTERS
    assert (lines.SEGMENT_ROWS, lines.CUT_ROWS) == (SEGMENT_ROWS, CUT_ROWS)


def test_scans_pass_through_what_was_measured():
    assert scan_s(machine(), 64, 2e9, 1) == pytest.approx(1)
    assert scan_s(machine(), 64, 1e9, 8) == pytest.approx(1)
    assert scan_s(machine(), 64, 0.4e9, 32) == pytest.approx(1)
    assert scan_s(machine(), 64, 1e9, 4.5) == pytest.approx(0.75), "halfway between 1 and 8 queries"
    assert scan_s(machine(), 64, 0.4e9, 64) == pytest.approx(2), "beyond the last, each costs what the last ones did"
    assert scan_s(machine(), 64, 0, 1) == 0


def test_longer_codes_take_longer_by_words():
    assert scan_s(machine(), 128, 1e9, 1) == pytest.approx(1)
    assert scan_s(machine(), 72, 1e9, 1) == scan_s(machine(), 128, 1e9, 1), "72 bits are two words"
    assert scan_s(machine(), 16, 1e9, 1) == scan_s(machine(), 64, 1e9, 1)
    short = machine(scans=(Scan(32, 1, 9e9), *machine().scans))
    assert {scan.bits for scan in measured_for(short, 64)} == {64}, "as many words, another length"
    both = machine(scans=(*machine().scans, Scan(128, 1, 1.5e9)))
    assert scan_s(both, 128, 1.5e9, 1) == pytest.approx(1), "what was measured counts"


def test_share_of_the_bandwidth():
    assert of_bandwidth(machine(), 64, 1e9, 1) == pytest.approx(2e9 * 8 / 20e9)


def test_memory_is_the_sum_of_its_parts():
    found = memory.held(machine(), 64, 1e9, changed=0.25, filters=3)
    assert found == (1e9, 16e9, 4e9, 3e9)
    assert found.total == 24e9
    assert memory.held(machine(resident_per_code_byte=1.5), 128, 1e9).codes == 48e9


def test_nodes_hold_what_they_hold():
    assert memory.nodes_that_hold(48e9, 64e9) == 1
    assert memory.nodes_that_hold(48e9 + 1, 64e9) == 2
    assert memory.nodes_that_hold(47e9, 64e9, 1e9) == 1
    assert memory.nodes_that_hold(1, 64e9, 48e9) == 0, "no room beside what every node holds"
    assert memory.stored_bytes(64, 10, 11, 5) == 10 * (16 + 4 + 11 + 5)


def test_requests_cost_what_their_parts_do():
    alone = costs(machine(), "code", ONE)
    assert alone.alone_s == 0.003
    assert alone.cpu_s == alone.gateway_cpu_s == 0.001
    text = costs(machine(), "text", SPREAD, caller_cpu_s=0.001)
    assert text.alone_s == pytest.approx(0.003 + 0.004 + 0.002)
    assert text.gateway_cpu_s == pytest.approx(0.001 + 4 * 0.0001 + 0.0005)
    assert text.encoder_cpu_s == pytest.approx(0.0025)
    assert text.cpu_s == pytest.approx(text.gateway_cpu_s + text.encoder_cpu_s + 4 * 0.0001 + 0.001)
    assert costs(machine(), "image", SPREAD).alone_s > text.alone_s


def test_without_load_a_query_takes_its_request_and_its_scan():
    found = expected(machine(), by_code(1e-6), ONE)
    assert found is not None
    assert found.batch == 1
    assert found.p50_s == pytest.approx(0.003 + 10_000_000 / 2e9, rel=1e-4)
    assert found.p99_s == pytest.approx(found.p50_s, rel=1e-4)


def test_under_load_as_many_share_a_scan_as_arrive_meanwhile():
    found = expected(machine(), by_code(500), ONE)
    assert found is not None
    assert found.batch > 1
    assert 500 * found.cycle_s == pytest.approx(found.batch)
    assert found.scan_s < found.cycle_s, "requests take their share of the cores"
    alone_s = 0.003 / (1 - 500 * 0.001)
    assert found.p50_s == pytest.approx(alone_s + 1.5 * found.cycle_s)
    assert found.p99_s == pytest.approx(alone_s + 1.99 * found.cycle_s)


def test_latency_and_sharing_grow_with_the_load():
    before = None
    for qps in (1, 10, *range(50, 751, 50)):
        found = expected(machine(), by_code(qps), ONE)
        assert found is not None
        assert found.p50_s <= found.p99_s
        if before is not None:
            assert found.p50_s > before.p50_s
            assert found.batch >= before.batch
        before = found


def test_there_is_an_end_to_it():
    full = limits(machine(), by_code(0), ONE)
    assert set(full) == {"scans", "gateways"}
    most = min(full.values())
    assert expected(machine(), by_code(most * 0.99), ONE) is not None
    assert expected(machine(), by_code(most * 1.01), ONE) is None


def test_the_end_is_where_the_cores_are_full():
    full = limits(machine(), by_code(0), ONE)["scans"]
    cores_s = 4 * scan_s(machine(), 64, 10_000_000, SHARED) / SHARED + 0.001
    assert full == pytest.approx(4 / cores_s, rel=1e-6)
    with_callers = limits(machine(), by_code(0), ONE, caller_cpu_s=0.0005)["scans"]
    assert with_callers == pytest.approx(4 / (cores_s + 0.0005), rel=1e-6)


def test_more_of_a_part_carries_more():
    base = limits(machine(), by_code(0, 10**9), SPREAD)["scans"]
    assert limits(machine(), by_code(0, 10**9), SPREAD._replace(groups=8))["scans"] > base
    assert limits(machine(), by_code(0, 10**9), Layout(4, 4, 4, 2))["scans"] == pytest.approx(2 * base, rel=1e-6)
    assert limits(machine(), by_code(0, 10**9), SPREAD)["gateways"] == pytest.approx(2 / 0.0014)
    text = Demand(10**9, 64, 0, "text")
    assert limits(machine(), text, SPREAD)["encoders"] == pytest.approx(2 * 4 / 0.0025)


def test_a_replica_that_gateways_share_serves_them_in_turn():
    alone = expected(machine(), by_code(10), Layout(2, 1, 1, 1))
    shared = expected(machine(), by_code(10), Layout(2, 1, 3, 1))
    assert alone is not None
    assert shared is not None
    assert shared.cycle_s - 0.002 == pytest.approx(3 * (alone.cycle_s - 0.002))


def test_answers_are_assembled_between_scans():
    slow = machine(answer_s=0.001)
    alone, without = expected(slow, by_code(1e-6), ONE), expected(machine(), by_code(1e-6), ONE)
    assert alone is not None
    assert without is not None
    assert alone.p50_s == pytest.approx(without.p50_s + 0.001, rel=1e-4)
    batch_s = 4 * scan_s(machine(), 64, 10_000_000, SHARED) / SHARED
    full = limits(slow, by_code(0), ONE)
    assert full["scans"] < 4 / (batch_s + 0.001), "and leave other cores idle"
    assert full["gateways"] == pytest.approx(1 / 0.002)
    assert limits(slow, by_code(0), SPREAD)["gateways"] == pytest.approx(2 / 0.0014), "elsewhere, in other processes"
    assert predictions(slow, 10_000_000, 64, [])["scan_ms"] == pytest.approx(6)


def test_the_network_counts_where_it_is_known():
    known = machine(network_bytes_per_s=1e9)
    assert limits(known, by_code(0), ONE)["network"] == pytest.approx(1e9 / 5000)
    assert limits(known, by_code(0), SPREAD)["network"] == pytest.approx(2e9 / (5000 + 4 * 100 * 40))
    crowded = limits(known, by_code(0), Layout(1, 2, 5, 1))["network"]
    assert crowded == pytest.approx(limits(known, by_code(0), Layout(1, 2, 2, 1))["network"]), "cards of two nodes"


def test_bisection_finds_where_it_ends():
    assert highest(lambda rate: rate <= 7, 100) == pytest.approx(7)
    assert highest(lambda rate: True, 100) == pytest.approx(100)


def test_callers_in_a_closed_loop_are_all_under_way():
    before = 0.0
    for callers in (1, 2, 8, 32, 128, 512):
        qps, p50_s = closed_loop(machine(), by_code(0), ONE, callers, 0.0005)
        assert qps * p50_s == pytest.approx(callers)
        assert qps >= before
        before = qps
    most = min(limits(machine(), by_code(0), ONE, 0.0005).values())
    assert before == pytest.approx(most, rel=1e-3), "many callers reach the end"


def test_predictions_are_compared_with_what_was_measured():
    found = predictions(machine(), 10_000_000, 64, [1, 8])
    assert found["memory_gb"] == pytest.approx(1.16)
    assert found["scan_ms"] == pytest.approx(5)
    assert found["one_caller_p50_ms"] == pytest.approx(8)
    assert found["8_callers_per_s"] * found["8_callers_p50_ms"] == pytest.approx(8000)
    rows = compared({"a_b": 10.0, "far": 10.0, "unknown": 1.0}, {"a_b": 8.0, "far": 7.9})
    assert [(row.what, row.within) for row in rows] == [("a b", True), ("far", False)]
    assert math.isclose(rows[0].ratio, 1.25)


def test_capacity_is_arithmetic():
    rows = {(row.pairs, row.directions): row for row in capacity(Measured(8, 10**10, 20e9), (10**9, 10**10))}
    assert rows[10**9, 1][2:] == (1, 8.0, 100.0, 1)
    assert rows[10**9, 2][2:] == (2, 16.0, 50.0, 2)
    assert rows[10**10, 1][2:] == (6, 80.0, 166.7, 10)
    assert rows[10**10, 2].nodes == 11


def test_the_speed_of_scans_is_told_beside_a_file_of_another_length():
    then = machine(scans=(Scan(128, 1, 1e9),))
    assert scan_speed(machine(scans=(Scan(128, 1, 0.8e9),)), then, 128) == 0.8
    assert scan_speed(machine(scans=(Scan(64, 1, 2e9),)), then, 64) == pytest.approx(1.0)  # twice the words
