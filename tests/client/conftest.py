"""Both faces of the client, called alike."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from xhash_ray.client import AsyncClient, Client, Retry

SETTINGS = {"retry": Retry(first_pause_s=0.001), "verify": False}  # reading the system's authorities takes 50 ms


def wait(url: str, method: str, *args: Any, settings: dict[str, Any] | None = None, **options: Any) -> Any:
    """One call of the client that waits."""
    with Client(url, **{**SETTINGS, **(settings or {})}) as client:
        return getattr(client, method)(*args, **options)


def run(url: str, method: str, *args: Any, settings: dict[str, Any] | None = None, **options: Any) -> Any:
    """One call of the client that is awaited."""

    async def main() -> Any:
        async with AsyncClient(url, **{**SETTINGS, **(settings or {})}) as client:
            return await getattr(client, method)(*args, **options)

    return asyncio.run(main())


@pytest.fixture(params=[wait, run], ids=["blocking", "awaiting"])
def call(request):
    """call(url, method, *arguments, settings=of the client, **options)."""
    return request.param
