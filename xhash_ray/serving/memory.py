"""Which generation is served, remembered outside the gateway: a new one serves what the old one did, several agree."""

from __future__ import annotations

import asyncio
import logging

from xhash_ray.serving.gateway import Gateway, Memory
from xhash_ray.serving.router import Served

LOOK_S = 1.0
log = logging.getLogger(__name__)


async def begin(gateway: Gateway, memory: Memory) -> None:
    """Serves what was served before, or the index's current generation where that is unknown or gone.

    The current one is loaded while the memory is asked: most often it is what was served.

    Raises:
        XhashError: when neither can be loaded.
    """
    current, known = await asyncio.gather(gateway.activate(None), memory.recall(), return_exceptions=True)
    if isinstance(known, int) and not (isinstance(current, Served) and current.generation.number == known):
        try:
            await gateway.activate(known)
            return
        except Exception as error:  # whatever it is, the current one may do
            log.warning("generation %d was served before: %s", known, error)
    if isinstance(current, BaseException):
        raise current


async def agree(gateway: Gateway, memory: Memory) -> None:
    """One look: what others were told to serve is served here; a memory that lost it is told again."""
    async with gateway.changing:
        known, mine = await memory.recall(), gateway.router.ready().generation.number
        if known is None:
            await memory.remember(mine)
        elif known != mine:
            await gateway.activate(known)


async def keep_agreeing(gateway: Gateway, memory: Memory) -> None:
    """Looks again and again."""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            await agree(gateway, memory)
        except Exception as error:  # a gateway that stops looking would serve the old generation for ever
            log.warning("following the other gateways: %s", error)
