"""Ray Serve: a gateway, an encoder for queries, and groups of shards, in the gateway's own process or each in its own.

`build_app` is an application builder: `serve run xhash_ray.runtime.serving:build_app index=URI` works too.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from xhash_ray.errors import Overloaded, XhashError
from xhash_ray.index import generations
from xhash_ray.runtime import telemetry
from xhash_ray.runtime.query_encoder import QueryEncoder
from xhash_ray.serving import http
from xhash_ray.serving.backends import Backend, GroupServer, InProcess, Lost, raised
from xhash_ray.serving.gateway import Encoder, Gateway
from xhash_ray.serving.kept import Kept
from xhash_ray.serving.keys import Keys
from xhash_ray.serving.router import Router
from xhash_ray.storage import uri as places

PAUSE_S = 0.05  # before another replica is tried
UNAVAILABLE = (RayError, DeploymentUnavailableError, BackPressureError, asyncio.TimeoutError)
KEPT_ENCODERS = 2


class ServeArgs(BaseModel):
    """Arguments of the application."""

    model_config = ConfigDict(extra="forbid")

    index: str
    pretrained: str | None = None
    processes: int = Field(0, ge=0)
    replicas: int = Field(1, ge=1)
    encoder_threads: int = Field(2, ge=1)
    keys: str | None = None
    direct_host: str = "127.0.0.1"
    direct_port: int | None = Field(None, ge=1, le=65535)


def build_app(args: ServeArgs) -> serve.Application:
    """The application for one index.

    Raises:
        BadInput: when there is no index, or the file of keys is none.
    """
    shards, encoder, gateway = deployments()
    served = generations.current(places.normalise(args.index))
    Keys(args.keys)
    groups = [
        shards.options(name=f"shards-{part}", num_replicas=args.replicas).bind(served.uri, part, args.processes)
        for part in range(args.processes)
    ]
    bound_encoder = encoder.bind(args.pretrained, args.encoder_threads)
    return gateway.bind(served.uri, args.keys, (args.direct_host, args.direct_port), bound_encoder, *groups)


def deployments() -> tuple[Any, Any, Any]:
    """Shards, encoder and gateway as what their decorators made of them (type checkers still see plain classes)."""
    return ShardsDeployment, EncoderDeployment, GatewayDeployment


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.25})
class ShardsDeployment:
    """A group of shards in memory."""

    def __init__(self, uri: str, part: int, parts: int) -> None:
        self.server = GroupServer(uri, part, parts)
        self.server.prepare(generations.current(uri).number)

    def call(self, method: str, *arguments: Any) -> Any:
        """A method of `GroupServer`; errors of this project are returned."""
        try:
            return getattr(self.server, method)(*arguments)
        except XhashError as error:
            return error


async def answered(call: Callable[[], Any], deadline_s: float) -> Any:
    """What a deployment answers: where a replica dies it is another one's turn, until the deadline.

    Args:
        call: Asks it, once.
        deadline_s: On the clock of time.monotonic.

    Raises:
        Lost: when nobody answers in time.
        XhashError: what was answered; RayTaskError: an error of ours in the replica, which asking again does not mend.
    """
    while True:
        left_s = max(0.001, deadline_s - time.monotonic())
        try:
            return raised(await asyncio.wait_for(call(), left_s))
        except RayTaskError:
            raise
        except UNAVAILABLE as error:
            if time.monotonic() + PAUSE_S >= deadline_s:
                raise Lost(str(error).splitlines()[0][:200] if str(error) else type(error).__name__) from None
            await asyncio.sleep(PAUSE_S)


class Deployed:
    """A backend behind a handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self.handle = handle

    async def call(self, method: str, deadline_s: float, *arguments: Any) -> Any:
        """See `Backend`."""
        return await answered(lambda: self.handle.call.remote(method, *arguments), deadline_s)


@serve.deployment(max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
class EncoderDeployment:
    """Queries to codes, by the model of whichever generation is served."""

    def __init__(self, pretrained: str | None, threads: int) -> None:
        self.pretrained, self.threads = pretrained, threads
        self.encoders: Kept[str, QueryEncoder] = Kept(KEPT_ENCODERS)

    def prepare(self, model_uri: str, fingerprint: str) -> XhashError | None:
        """Loads a model; the one before it stays for queries under way."""
        try:
            self.encoder(model_uri, fingerprint)
        except XhashError as error:
            return error
        return None

    def encoder(self, model_uri: str, fingerprint: str) -> QueryEncoder:
        """The encoder of a model, loaded where it is not there.

        Raises:
            XhashError: when the folder holds another model.
        """
        return self.encoders.get(fingerprint, lambda: self.loaded(model_uri, fingerprint))

    def loaded(self, model_uri: str, fingerprint: str) -> QueryEncoder:
        """The encoder of a model, read from storage. Errors as of `encoder`."""
        made = QueryEncoder(model_uri, self.pretrained, self.threads)
        if made.facts["fingerprint"] != fingerprint:
            found = f"{model_uri} holds model {made.facts['fingerprint'][:12]}"
            raise XhashError(f"model {fingerprint[:12]}", found, "Restore the index, or build it again")
        return made

    def encode(self, model_uri: str, fingerprint: str, kind: str, content: Any, modality: str) -> bytes | XhashError:
        """The code of a text, an image or a feature, or the error that says why there is none."""
        try:
            encoder = self.encoder(model_uri, fingerprint)
            if kind == "vector":
                return encoder.vector(modality, content)
            return encoder.text(content) if kind == "text" else encoder.image(content)
        except XhashError as error:
            return error


class DeployedEncoder(Encoder):
    """The encoder behind its handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self.handle = handle

    async def prepare(self, model_uri: str, fingerprint: str) -> None:
        """See `Encoder`."""
        raised(await self.handle.prepare.remote(model_uri, fingerprint))

    async def encode(
        self, model_uri: str, fingerprint: str, kind: str, content: Any, modality: str, deadline_s: float
    ) -> bytes:
        """See `Encoder`."""
        asked = (model_uri, fingerprint, kind, content, modality)
        try:
            return bytes(await answered(lambda: self.handle.encode.remote(*asked), deadline_s))
        except Lost as error:
            raise Overloaded(f"encoding a {kind} query", str(error), "Ask again") from None


api = http.http_api()


class DirectServer(uvicorn.Server):
    """A server that leaves signals to Serve."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


async def listening(host: str, port: int) -> "asyncio.Task[None]":
    """Answers HTTP on a port of its own: Serve's proxy would cost more than the search.

    Raises:
        XhashError: when nothing can listen there.
    """
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise XhashError(f"listening on {host}:{port}", error.strerror or str(error), "Choose another port") from None
    server = DirectServer(uvicorn.Config(http.http_api(), log_level="error", access_log=False))
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
    while not (server.started or task.done()):
        await asyncio.sleep(0.02)
    if not server.started:
        raise XhashError(f"listening on {host}:{port}", "the server ended at once", "See the gateway's log")
    return task


@serve.deployment(max_ongoing_requests=1024, ray_actor_options={"num_cpus": 0.25})
@serve.ingress(api)
class GatewayDeployment:
    """The HTTP endpoint; it is ready when every shard and the encoder are."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        uri: str,
        keys: str | None,
        direct: tuple[str, int | None],
        encoder: DeploymentHandle,
        *groups: DeploymentHandle,
    ) -> None:
        backends: list[Backend] = [Deployed(handle) for handle in groups] or [InProcess(GroupServer(uri))]
        router = Router(uri, backends)
        gateway = Gateway(router, DeployedEncoder(encoder), Keys(keys), telemetry.RayMetrics())
        await gateway.activate(None)
        if direct[1] is not None:
            self.direct = await listening(direct[0], direct[1])
        http.door.opened = gateway  # by its module: Serve copies this class, and whatever it names otherwise
