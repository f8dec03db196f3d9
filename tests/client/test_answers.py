"""What comes back, by either client: typed results, and every kind of error."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict

import pytest

from tests.client.stub import breaks, endpoint, nobody, refuses, says
from xhash_ray.client import Answer, Encoded, Hit, Item
from xhash_ray.errors import BadInput, Conflict, Overloaded, Unreachable, XhashError

ANSWER = {
    "hits": [{"id": "a", "distance": 1, "metadata": {"n": 1}}, {"id": "b", "distance": 2}],
    "kth_distance": 2,
    "target": "image",
    "bits": 16,
    "generation": 3,
    "model_fingerprint": "f",
    "shards": 3,
    "complete": False,
    "missing_shards": [1],
    "certain": 1,
    "timings_ms": {"scan": 0.5},
}


def test_an_answer_is_typed_and_cannot_be_changed(call):
    with endpoint(says(ANSWER)) as stub:
        answer = call(stub.url, "search", text="x")
    assert isinstance(answer, Answer)
    assert answer.hits == (Hit("a", 1, None, {"n": 1}), Hit("b", 2, None, None))
    assert (answer.kth_distance, answer.at_kth, answer.missing_shards, answer.certain) == (2, None, (1,), 1)
    with pytest.raises(FrozenInstanceError):
        answer.bits = 8
    assert asdict(answer)["hits"][0] == {"id": "a", "distance": 1, "score": None, "metadata": {"n": 1}}


def test_a_newer_endpoint_is_understood(call):
    newer = {**ANSWER, "at_kth": 7, "colour": "red", "hits": [{"id": "a", "distance": 1, "score": 0.5, "rank": 1}]}
    with endpoint(says(newer)) as stub:
        answer = call(stub.url, "search", text="x")
    assert (answer.at_kth, answer.hits) == (7, (Hit("a", 1, 0.5),))


def test_items_codes_batches_and_facts(call):
    item = {"id": "a", "image_code": "00", "text_code": "ff", "metadata": {"n": 1}}
    code = {"code": "00ff", "bits": 16, "model_fingerprint": "f"}
    steps = [says({**item, "new": 1}), says({**code, "new": 1}), says({"answers": [ANSWER] * 2}), says({"rows": 5})]
    with endpoint(*steps) as stub:
        assert call(stub.url, "item", "a") == Item(**item)
        assert call(stub.url, "encode", text="x") == Encoded(**code)
        assert [len(answer.hits) for answer in call(stub.url, "search_batch", [{"text": "x"}] * 2)] == [2, 2]
        assert call(stub.url, "index") == {"rows": 5}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadInput),
        (401, BadInput),
        (404, BadInput),
        (409, Conflict),
        (422, BadInput),
        (429, Overloaded),
        (500, XhashError),
        (503, Overloaded),
    ],
)
def test_the_endpoints_own_words_are_raised(call, status, kind):
    with endpoint(refuses(status)) as stub, pytest.raises(XhashError, match=r"a search: something odd\. Mend it") as it:
        call(stub.url, "search", text="x")
    assert type(it.value) is kind


@pytest.mark.parametrize(
    ("step", "kind", "message"),
    [
        (says(b"<html>"), Unreachable, "HTTP 200, not from xhash-ray"),
        (says([1]), Unreachable, "HTTP 200, not from xhash-ray"),
        (says({"hits": []}), Unreachable, "HTTP 200, not from xhash-ray"),
        (says({**ANSWER, "hits": [1]}), Unreachable, "HTTP 200, not from xhash-ray"),
        (says(b"\xff\xfe", 404), Unreachable, "HTTP 404, not from xhash-ray"),
        (says(b"", 302, Location="/elsewhere"), Unreachable, "HTTP 302, not from xhash-ray"),
        (says(b"<html>", 502), Unreachable, "HTTP 502, not from xhash-ray"),
        (says(b"<html>", 503), Overloaded, "HTTP 503. Ask again later"),
        (says({"detail": "Not Found"}, 404), BadInput, "HTTP 404: .*Not Found"),
        (says([1], 500), XhashError, "HTTP 500: .1.. Check the endpoint's logs"),
        (says({"error": {"asked": "x"}}, 500), XhashError, "HTTP 500"),
        (breaks, Unreachable, "no answer .*Start it with `xhash serve`, or check --url"),
    ],
)
def test_whatever_else_answers_is_said(call, step, kind, message):
    with endpoint(step) as stub, pytest.raises(XhashError, match=message) as it:
        call(stub.url, "search", text="x")
    assert type(it.value) is kind


@pytest.mark.parametrize("url", ["nobody", "http://", "nonsense", "ftp://127.0.0.1", "http://127.0.0.1:port"])
def test_nobody_there_is_said(call, url):
    with nobody() as (silent, _):
        url = silent if url == "nobody" else url
        with pytest.raises(Unreachable, match=r"no answer \(.+\)\. Start it with `xhash serve`, or check --url"):
            call(url, "search", text="x")


def test_signs_of_life(call):
    with nobody() as (silent, _):
        assert not call(silent, "alive")
    for step, alive in [(says({"status": "ok"}), True), (says(b"ok"), False), (says({}), False), (breaks, False)]:
        with endpoint(step) as stub:
            assert call(stub.url, "alive") is alive
            assert len(stub.asked) == 1, "asked once, however it went"
    with endpoint(refuses(503)) as stub:
        assert not call(stub.url, "alive")
        assert len(stub.asked) == 1
