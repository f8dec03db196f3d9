"""Coalescing: nobody waits for company, those who came meanwhile go together, bounds and deadlines hold."""

import asyncio
import time

import pytest

from tests import simulated_time
from xhash_ray.errors import BadInput, Overloaded
from xhash_ray.serving.coalescing import Coalescer


class Work:
    """Doubles numbers, when it is let."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.free = asyncio.Event()

    async def run(self, kind, queries):
        self.batches.append((kind, queries))
        await self.free.wait()
        if kind == "bad":
            raise BadInput("a", "b", "c")
        return [2 * query for query in queries]


def test_answers_are_had_before_the_next_batch_may_begin():
    async def scene():
        begun, free = [], asyncio.Event()

        async def run(kind, queries):
            begun.append(queries)
            return queries

        async def until(answers):
            await free.wait()

        shared = Coalescer(run, until=until)
        assert await asyncio.wait_for(shared.ask("a", 1), 1) == 1
        later = asyncio.create_task(shared.ask("a", 2))
        await asyncio.sleep(0.01)
        assert begun == [[1]]
        free.set()
        assert await asyncio.wait_for(later, 1) == 2

    simulated_time.run(scene())


def test_the_first_goes_alone_and_those_that_came_meanwhile_together_by_kind():
    async def scene():
        work = Work()
        shared = Coalescer(work.run, most=3)
        asked = [asyncio.create_task(shared.ask("a" if n != 2 else "b", n)) for n in range(7)]
        await asyncio.sleep(0.01)
        assert work.batches == [("a", [0])]
        work.free.set()
        assert await asyncio.gather(*asked) == [2 * n for n in range(7)]
        assert work.batches == [("a", [0]), ("a", [1, 3, 4]), ("b", [2]), ("a", [5, 6])]
        assert (shared.batches, shared.queries) == (4, 7)

    simulated_time.run(scene())


def test_too_many_are_refused_at_once_and_the_others_answered():
    async def scene():
        work = Work()
        shared = Coalescer(work.run, bound=2)
        asked = [asyncio.create_task(shared.ask("a", n)) for n in range(4)]
        await asyncio.sleep(0)
        work.free.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert answers[:3] == [0, 2, 4]
        assert isinstance(answers[3], Overloaded)

    simulated_time.run(scene())


def test_a_query_past_its_deadline_is_dropped_before_its_turn():
    async def scene():
        work = Work()
        shared = Coalescer(work.run)
        first = asyncio.create_task(shared.ask("a", 1))
        late = asyncio.create_task(shared.ask("a", 2, time.monotonic() + 0.01))
        gone = asyncio.create_task(shared.ask("a", 3))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.sleep(0)
        work.free.set()
        assert await first == 2
        with pytest.raises(Overloaded, match="time was over"):
            await late
        assert work.batches == [("a", [1])], "nobody waits for the others any more"

    simulated_time.run(scene())


def test_an_error_is_everybodys_of_that_batch_and_work_goes_on():
    async def scene():
        work = Work()
        work.free.set()
        shared = Coalescer(work.run)
        asked = [shared.ask("good", 0), shared.ask("bad", 1), shared.ask("bad", 2), shared.ask("good", 3)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [answers[0], answers[3]] == [0, 6]
        assert all(isinstance(answers[place], BadInput) for place in (1, 2))

    simulated_time.run(scene())
