"""The proxy that makes a store faulty is right itself: what it leaves alone passes unchanged, all else is counted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from tests import store_faults, store_listings
from tests.storage.conftest import CREDENTIALS
from tests.storage.primitives import CONTENT, TABLE
from tests.store_faults import KINDS, Fault, Faults, parse
from xhash_ray.storage import streams, tables
from xhash_ray.storage import uri as places

SIGNED = {
    "Authorization": f"AWS4-HMAC-SHA256 Credential={CREDENTIALS['AWS_ACCESS_KEY_ID']}/20260101/us-east-1/s3/x",
    "Content-Type": "application/octet-stream",
}


def asked(url: str, method: str = "GET", body: bytes | None = None, **headers: str):
    """An answer to plain HTTP, errors too."""
    request = urllib.request.Request(url, body, {**SIGNED, **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read()


def test_what_is_passed_on_is_not_changed(store):
    key = "s3://xhash/odd/a b+c=d&e%f ü'(写).bin"
    places.write_bytes(key, CONTENT)
    assert places.read_bytes(key) == CONTENT
    assert places.list_files("s3://xhash/odd", ("",)) == [key]
    tables.write_table("s3://xhash/table.parquet", TABLE)
    assert tables.read_file("s3://xhash/table.parquet").equals(TABLE)
    assert not store.injected


def test_ranges_heads_and_conditions_reach_the_server(store):
    url = f"{store.url}/xhash/plain"
    assert asked(url, "PUT", CONTENT, **{"If-None-Match": "*"})[0] == 200
    assert asked(url, "PUT", CONTENT, **{"If-None-Match": "*"})[0] == 412
    status, headers, body = asked(url, Range="bytes=10-19")
    assert (status, body, headers["Content-Range"]) == (206, CONTENT[10:20], f"bytes 10-19/{len(CONTENT)}")
    status, headers, body = asked(url, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(CONTENT)))
    assert asked(f"{store.url}/xhash/nothing")[0] == 404
    assert store.operations() == ["PutObject", "PutObject", "GetObject", "HeadObject", "GetObject"]


def test_uploads_in_parts_that_wait_for_leave_reach_the_server(store, monkeypatch):
    monkeypatch.setattr(streams, "PIECE_BYTES", 5 * 2**20)
    whole = CONTENT * 60  # 12 MB
    with streams.written("s3://xhash/parts") as file:
        for start in range(0, len(whole), 2**20):
            file.write(whole[start : start + 2**20])
    assert store.operations().count("UploadPart") >= 2
    assert places.read_bytes("s3://xhash/parts") == whole
    places.delete("s3://xhash", ["parts"])
    assert not places.exists("s3://xhash/parts")


def test_a_rule_befalls_what_it_names_after_so_many_and_so_often(store):
    url = f"{store.url}/xhash/rule/"
    store.set(Fault("internal", on="PutObject", key="rule/a", skip=1, times=2), Fault("denied", key="rule/b"))
    assert [asked(url + "a", "PUT", b"x")[0] for _ in range(5)] == [200, 500, 500, 200, 200]
    assert asked(url + "a")[0] == 200
    assert asked(url + "b")[0] == 403
    assert store.injected == {"internal": 2, "denied": 1}
    store.set()
    assert not store.injected
    assert asked(url + "b")[0] == 404


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The clock of the proxy, which only the test moves."""
    clock = SimpleNamespace(now_s=1000.0)
    for module in (store_faults, store_listings):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    return clock


def test_a_rule_holds_from_a_moment_on(store, clock):
    store.set(Fault("expired", after_s=0.4))
    clock.now_s += 0.3
    assert asked(f"{store.url}/xhash")[0] == 200
    clock.now_s += 0.2
    status, _, body = asked(f"{store.url}/xhash")
    assert status == 400
    assert b"<Code>ExpiredToken</Code>" in body
    assert asked(f"{store.url}/xhash", "HEAD")[2] == b""


def test_listings_lag_behind_what_is_found_by_name(store, clock):
    places.write_bytes("s3://xhash/lag/old/a", b"x")
    store.set(Fault("stale-listing", seconds=1.5))
    clock.now_s += 1.6
    places.write_bytes("s3://xhash/lag/new/b", b"x")
    places.write_bytes("s3://xhash/lag/old/a", b"y")
    clock.now_s += 1.4
    assert places.list_files("s3://xhash/lag", ("",)) == ["s3://xhash/lag/old/a"]
    assert places.read_bytes("s3://xhash/lag/new/b") == b"x"
    assert places.exists("s3://xhash/lag/new/b")
    assert store.injected["stale-listing"] >= 1
    clock.now_s += 0.2
    assert places.list_files("s3://xhash/lag", ("",)) == ["s3://xhash/lag/new/b", "s3://xhash/lag/old/a"]


def test_slow_and_trickled_answers_take_their_time(store):
    places.write_bytes("s3://xhash/slow", CONTENT)
    for kind in ("slow", "trickle"):
        store.set(Fault(kind, on="GetObject", seconds=0.4))
        began_s = time.monotonic()
        assert asked(f"{store.url}/xhash/slow")[2] == CONTENT
        assert time.monotonic() - began_s >= 0.4
        assert store.injected == {kind: 1}


def test_draws_are_a_function_of_the_seed():
    def drawn(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.set([Fault("slowdown", probability=0.3)])
        return [faults.draw("GET", "GetObject", "b/k") is not None for _ in range(200)]

    assert drawn(3) == drawn(3) != drawn(4)
    assert 30 < sum(drawn(3)) < 90


def test_rules_as_words():
    assert parse("reset") == Fault("reset")
    found = parse("slowdown:probability=0.1,on=GET|PutObject,key=^b/k,skip=2,times=3,after_s=1.5")
    assert found == Fault("slowdown", 0.1, "GET|PutObject", "^b/k", 2, 3, 1.5)
    with pytest.raises(ValueError, match="known are"):
        parse("nonsense")
    assert len(set(KINDS)) == len(KINDS)


def test_as_a_process_it_is_told_by_http(moto_url):
    command = [sys.executable, "-m", "tests.faulty_store", "--upstream", moto_url, "--faults", "denied:on=GET,times=1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = json.loads(process.stdout.readline())["url"]
        assert [asked(f"{url}/xhash")[0] for _ in range(2)] == [403, 200]
        told = json.loads(asked(f"{url}/_faults")[2])
        assert (told["injected"], told["requests"], told["faults"][0]["kind"]) == ({"denied": 1}, 2, "denied")
        rules = json.dumps([{"kind": "internal", "times": 1}]).encode()
        assert asked(f"{url}/_faults", "PUT", rules)[0] == 200
        assert [asked(f"{url}/xhash")[0] for _ in range(2)] == [500, 200]
    finally:
        process.terminate()
        process.wait(120)
        process.stdout.close()


def test_a_silent_store_is_one_that_takes_and_never_answers(store):
    store.set(Fault("silent"))
    caller = threading.Thread(target=lambda: asked_quietly(f"{store.url}/xhash"), daemon=True)
    caller.start()
    while not store.injected and caller.is_alive():
        time.sleep(0.01)
    caller.join(0.5)
    assert caller.is_alive()
    assert store.injected == {"silent": 1}


def asked_quietly(url: str) -> None:
    """Asks, and does not mind how it ends."""
    try:
        asked(url)
    except OSError:
        return
