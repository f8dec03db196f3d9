"""The client of the endpoint: plain HTTP, no ray, no torch; for threads (`Client`) and for coroutines (`AsyncClient`).

    with Client("http://127.0.0.1:8000") as client:
        for hit in client.search(text="red shoes", k=5).hits:
            print(hit.id, hit.distance)

`calls` says what can be asked, `wire` how it is sent, `answers` and `refusals` what comes back, `retry` when to ask
again: pure functions and values. `exchange` is what both faces share of HTTP; `blocking` and `awaiting` are the faces,
and differ in how they wait.
"""

from xhash_ray.client.answers import Answer, Encoded, Hit, Item
from xhash_ray.client.awaiting import AsyncClient
from xhash_ray.client.blocking import Client
from xhash_ray.client.retry import Retry

__all__ = ["Answer", "AsyncClient", "Client", "Encoded", "Hit", "Item", "Retry"]
