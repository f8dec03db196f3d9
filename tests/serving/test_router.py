"""Who waits for whom: a group that is slow or lost costs others nothing, a bad query is its sender's alone.

Time is simulated: work takes none, waiting takes what it is told to.
"""

import asyncio
import time

import numpy as np
import pytest

from tests import simulated_time
from tests.serving.test_http import Backend, Encoder, served  # noqa: F401 (fixtures)
from xhash_ray.errors import BadInput, Overloaded
from xhash_ray.index import life
from xhash_ray.options import IndexDelete
from xhash_ray.serving.answers import Kind, Query
from xhash_ray.serving.backends import Lost
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.keys import Keys
from xhash_ray.serving.requests import SearchRequest
from xhash_ray.serving.router import BATCHES_AT_ONCE, BATCHES_WAITING, LOST_PATIENCE_S, Router

ASKED = Query(b"\1\2")


class Dead(Backend):
    """A group whose replicas are gone: nobody answers until the caller's deadline."""

    dead = True

    async def call(self, method, deadline_s, *arguments):
        if self.dead and method != "prepare":
            await asyncio.sleep(max(0.0, deadline_s - time.monotonic()))
            raise Lost
        return await super().call(method, deadline_s, *arguments)


def gateway_of(uri: str) -> Gateway:
    """An endpoint of three groups, of which the last is dead."""
    backends = [Backend(uri, 0), Backend(uri, 1), Dead(uri, 2)]
    return Gateway(Router(uri, backends), Encoder(), Keys(None))


async def timed(waiting):
    """What comes of something, or its error, and how long that took."""
    started_s = time.monotonic()
    try:
        return await waiting, time.monotonic() - started_s
    except Overloaded as error:
        return error, time.monotonic() - started_s


def test_everybody_has_a_partial_answer_by_their_own_deadline(index):
    async def scene():
        gateway = gateway_of(index)
        await gateway.activate(None)
        times = [4.0, *[0.3, 0.6, 0.9] * 5]
        searches = [gateway.search(SearchRequest(code="0102", timeout_s=each)) for each in times]
        for (answer, seconds), allowed in zip(await asyncio.gather(*map(timed, searches)), times, strict=True):
            assert answer["missing_shards"] == [2]
            assert len(answer["hits"]) > 0
            assert seconds == pytest.approx(allowed)
        answer, seconds = await timed(gateway.search(SearchRequest(code="0102", timeout_s=9)))
        assert answer["missing_shards"] == [2]
        assert seconds == pytest.approx(LOST_PATIENCE_S), "nobody waits long for one that was lost just now"
        gateway.router.backends[2].dead = False
        answer, _ = await timed(gateway.search(SearchRequest(code="0102", timeout_s=9)))
        assert answer["complete"], "it is asked all the same"
        assert gateway.router.lost == set()

    simulated_time.run(scene())


def test_a_pair_is_found_as_soon_as_its_own_group_answers(index):
    async def scene():
        gateway = gateway_of(index)
        await gateway.activate(None)
        served = gateway.router.ready()  # noqa: F811
        alive = [item for part in (0, 1) for item in gateway.router.backends[part].server.group(1).shard.segments]
        name = alive[0].ids.of(np.array([0]))[0]
        item, seconds = await timed(gateway.router.item(served, name, time.monotonic() + 5))
        assert item["id"] == name
        assert seconds == 0, "the dead group has nothing to add"
        answer, seconds = await timed(gateway.search(SearchRequest(id=name, timeout_s=1)))
        assert answer["missing_shards"] == [2]
        assert answer["hits"], "time was left to search"
        error, _ = await timed(gateway.router.item(served, "nobody", time.monotonic() + 0.2))
        assert isinstance(error, Overloaded), "it might be in the group that does not answer"

    simulated_time.run(scene())


def test_those_who_come_later_do_not_wait_for_those_who_wait(index):
    async def scene():
        gateway = gateway_of(index)
        await gateway.activate(None)
        patient = asyncio.ensure_future(gateway.search(SearchRequest(code="0102", timeout_s=3)))
        await asyncio.sleep(0.05)
        answer, seconds = await timed(gateway.search(SearchRequest(code="0003", timeout_s=0.8)))
        assert answer["hits"]
        assert seconds == pytest.approx(0.8)
        assert not patient.done()
        assert (await patient)["missing_shards"] == [2]

    simulated_time.run(scene())


def test_a_bad_query_is_its_senders_alone(index):
    async def scene():
        gateway = gateway_of(index)
        gateway.router.backends[2].dead = False
        await gateway.activate(None)
        good = [gateway.search(SearchRequest(text="0102", rescore="outputs", target="text")) for _ in range(8)]
        bad = [gateway.search(SearchRequest(code="0102", rescore="outputs", target="text")) for _ in range(8)]
        found = await asyncio.gather(*good, *bad, return_exceptions=True)
        assert all(isinstance(each, dict) for each in found[:8])
        assert all(isinstance(each, BadInput) for each in found[8:])

    simulated_time.run(scene())


def test_batches_take_turns_and_are_bounded(index):
    async def scene():
        gateway = gateway_of(index)
        await gateway.activate(None)
        router, served = gateway.router, gateway.router.ready()  # noqa: F811
        many = BATCHES_AT_ONCE + BATCHES_WAITING + 5
        kind, deadline_s = Kind("image", 3), time.monotonic() + 1.0
        batches = [timed(router.search_together(served, kind, [ASKED] * 2, deadline_s)) for _ in range(many)]
        found = await asyncio.gather(*batches)
        answered = [each for each, _ in found if isinstance(each, list)]
        refused = [each for each, _ in found if isinstance(each, Overloaded)]
        assert len(answered) >= BATCHES_AT_ONCE
        assert {len(each) for each in answered} == {2}
        assert sum("others wait" in str(each) for each in refused) == many - BATCHES_WAITING, "nobody had begun yet"
        assert max(seconds for _, seconds in found) == pytest.approx(1.0)
        assert router.batches_waiting == 0
        assert (router.waited(), router.waited()) == (BATCHES_WAITING, 0), "the most at once since it was asked"
        await router.search_together(served, kind, [ASKED], time.monotonic() + 1.0)

    simulated_time.run(scene())


def test_a_batch_for_too_many_hits_is_refused(served):  # noqa: F811
    queries = [{"code": "0102", "k": 10_000}] * 21
    response = served.post("/v1/search/batch", json={"queries": queries})
    assert response.status_code == 400
    assert "200,000" in response.json()["error"]["do"]


def test_a_generation_that_a_new_replica_cannot_load_is_a_missing_shard(served):  # noqa: F811
    life.delete(IndexDelete(index=served.index, ids=("pair-0",)))
    backend = served.backends[1]
    backend.server.holder.groups.values.clear()  # as in a replica that has just begun
    segment = next(each for each in served.gateway.router.ready().generation.segments if each.shard == 1)
    path = f"{served.index}/{segment.name}"
    with open(path, "rb") as file:
        whole = file.read()
    with open(path, "wb") as file:
        file.write(whole[:-1])
    answer = served.post("/v1/search", json={"code": "0102", "k": 40}).json()
    assert answer["missing_shards"] == [1]
    assert served.get("/v1/items/nobody").status_code == 503, "it might be there"
    with open(path, "wb") as file:
        file.write(whole)
    assert served.post("/v1/search", json={"code": "0102", "k": 40}).json()["complete"]


def test_work_past_its_time_is_not_done(index):
    server = Backend(index, 0).server
    server.prepare(1)
    with pytest.raises(Overloaded, match="before its turn"):
        server.in_time("search", time.monotonic() - 1, 1, Kind("image", 3), [ASKED])
    assert len(server.in_time("search", time.monotonic() + 1, 1, Kind("image", 3), [ASKED]).answers) == 1
