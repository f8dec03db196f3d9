"""What is served is remembered outside the gateway: a new one goes on with it, and several agree."""

import asyncio
import shutil

import pytest

from tests.serving.test_http import ADMIN, GROUPS, Backend, Encoder, served  # noqa: F401 (fixtures)
from xhash_ray.errors import BadInput
from xhash_ray.index import life
from xhash_ray.options import IndexDelete
from xhash_ray.serving import memory
from xhash_ray.serving.backends import Lost
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.keys import Keys
from xhash_ray.serving.router import Router


class Remembered:
    """A memory in this process."""

    def __init__(self) -> None:
        self.generation: int | None = None
        self.away = False

    async def recall(self):
        if self.away:
            raise Lost
        return self.generation

    async def remember(self, generation):
        self.generation = generation


def gateway_of(uri: str, where: Remembered) -> Gateway:
    """A gateway that has not begun."""
    backends = [Backend(uri, part) for part in range(GROUPS)]
    return Gateway(Router(uri, backends), Encoder(), Keys(None), memory=where)


def number(gateway: Gateway) -> int:
    """What it serves."""
    return gateway.router.ready().generation.number


def test_a_new_gateway_serves_what_the_old_one_did(index):
    async def scene():
        where = Remembered()
        old = gateway_of(index, where)
        await memory.begin(old, where)
        life.delete(IndexDelete(index=index, ids=("pair-0",)))
        assert number(old) == 1
        await memory.agree(old, where)
        assert where.generation == 1, "what it serves is remembered"
        new = gateway_of(index, where)
        await memory.begin(new, where)
        assert number(new) == 1, "the index has another by now, nobody has activated it"
        await old.serve(None)
        await memory.agree(new, where)
        assert (number(old), number(new), where.generation) == (2, 2, 2)
        where.generation = None
        await memory.agree(new, where)
        assert where.generation == 2, "who forgot is told again"

    asyncio.run(scene())


def test_a_generation_that_is_gone_is_not_waited_for(index):
    async def scene():
        where = Remembered()
        where.generation = 7
        gateway = gateway_of(index, where)
        await memory.begin(gateway, where)
        assert number(gateway) == 1

    asyncio.run(scene())


def test_a_memory_that_does_not_answer_changes_nothing(index):
    async def scene():
        where = Remembered()
        where.away = True
        gateway = gateway_of(index, where)
        await memory.begin(gateway, where)
        assert number(gateway) == 1
        with pytest.raises(Lost):
            await memory.agree(gateway, where)
        assert where.generation is None

    asyncio.run(scene())


def test_what_was_served_before_is_served_though_the_current_one_cannot_be(index):
    async def scene():
        where = Remembered()
        where.generation = 1
        life.delete(IndexDelete(index=index, ids=("pair-0",)))
        shutil.rmtree(f"{index}/tombstones")
        gateway = gateway_of(index, where)
        await memory.begin(gateway, where)
        assert number(gateway) == 1
        where.generation = None
        with pytest.raises(BadInput, match="is missing"):
            await memory.begin(gateway_of(index, where), where)

    asyncio.run(scene())


def test_an_admins_change_is_remembered(served):  # noqa: F811
    where = Remembered()
    served.gateway.memory = where
    life.delete(IndexDelete(index=served.index, ids=("pair-0",)))
    headers = {"Authorization": f"Bearer {ADMIN}"}
    assert served.post("/v1/admin/activate", json={}, headers=headers).json()["generation"] == 2
    assert where.generation == 2
