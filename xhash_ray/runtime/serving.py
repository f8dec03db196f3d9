"""Ray Serve: gateways, an encoder for queries, and groups of shards, in the gateway's own process or each in its own.

`build_app` is an application builder: `serve run xhash_ray.runtime.serving:build_app index=URI` works too, and so does
a config file with `import_path` and `args` (deploy/serve.yaml).
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler
from ray import serve
from ray.serve.handle import DeploymentHandle

from xhash_ray import __version__
from xhash_ray.errors import BadInput, BadOption, XhashError, nearest
from xhash_ray.index import generations
from xhash_ray.runtime.deployed import Deployed, DeployedEncoder
from xhash_ray.runtime.telemetry import report_to_ray
from xhash_ray.serving import http, memory, reporting
from xhash_ray.serving.answers import Query
from xhash_ray.serving.backends import SCANS_AT_ONCE, Backend, GroupServer, InProcess
from xhash_ray.serving.calls import Calls, Servicer
from xhash_ray.serving.encoders import EncoderServer
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.keys import Keys
from xhash_ray.serving.listening import Ports, check_ports, listen, settle
from xhash_ray.serving.router import Router
from xhash_ray.serving.thumbnails import Thumbnails
from xhash_ray.storage import uri as places

INDEX_VARIABLE = "XHASH_INDEX"
log = logging.getLogger(__name__)


class ServeArgs(BaseModel):
    """Arguments of the application.

    Attributes:
        index: Folder or URI.
        pretrained: CLIP weights, where they lie elsewhere than at extraction.
        processes: That hold the shards; 0: every gateway holds them all.
        replicas: Of each of those processes.
        gateways: Replicas of the gateway.
        encoders: Replicas of the encoder.
        encoder_threads: Of each.
        encoder_gpus: GPUs, or a part of one, of each.
        spread: Copies of one thing never share a node: the cluster needs as many nodes that work as the most copies.
        images: Corpus whose images the page shows.
        keys: Local file of API keys.
        ports: Of the gateway's own; none where Serve's proxies listen.

    Raises:
        BadOption: for a key that this version does not know, or a value that cannot be.
    """

    model_config = ConfigDict(extra="forbid")

    index: str
    pretrained: str | None = None
    processes: int = Field(0, ge=0)
    replicas: int = Field(1, ge=1)
    gateways: int = Field(1, ge=1)
    encoders: int = Field(1, ge=1)
    encoder_threads: int = Field(2, ge=1)
    encoder_gpus: float = Field(0.0, ge=0)
    spread: bool = False
    images: str | None = None
    keys: str | None = None
    ports: Ports = Ports()

    @model_validator(mode="wrap")
    @classmethod
    def said_in_one_line(cls, given: Any, handler: ModelWrapValidatorHandler["ServeArgs"]) -> "ServeArgs":
        """What pydantic finds wrong first, as an error of this project: `serve status` shows it last."""
        try:
            return handler(given)
        except ValidationError as error:
            raise wrong_argument(error) from None


def wrong_argument(error: ValidationError) -> BadOption:
    """The first thing that is wrong with the arguments, and what could be meant."""
    asked, first = "args of the application", error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        found = f"unknown key '{name}' in xhash-ray {__version__}"
        return BadOption(asked, found, nearest(name, ServeArgs.model_fields))
    found = f"{name or 'they'}: {first['msg']}"
    return BadOption(asked, found, "See ServeArgs in xhash_ray/runtime/serving.py for what they may hold")


def build_app(args: ServeArgs) -> serve.Application:
    """The application for one index.

    Raises:
        BadInput: when there is no index, or the files of keys or certificates are none.
    """
    shards, encoder, gateway = (spread_out(each) if args.spread else each for each in deployments())
    served = generations.current(places.normalise(args.index))
    Keys(args.keys)
    check_ports(args.ports)
    groups = [
        shards.options(name=f"shards-{part}", num_replicas=args.replicas).bind(served.uri, part, args.processes)
        for part in range(args.processes)
    ]
    resources = {"num_cpus": 0.5, "num_gpus": args.encoder_gpus}
    copies = encoder.options(ray_actor_options=resources, num_replicas=args.encoders)
    bound_encoder = copies.bind(served.uri, args.pretrained, args.encoder_threads)
    hedged = args.replicas > 1
    return gateway.options(num_replicas=args.gateways).bind(args, served.uri, hedged, bound_encoder, *groups)


def spread_out(deployment: Any) -> Any:
    """A deployment of which no node holds two copies."""
    return deployment.options(max_replicas_per_node=1)


def __getattr__(name: str) -> Any:
    """`app`, the application for the index that XHASH_INDEX names: `serve build` takes no arguments.

    Raises:
        BadInput: when it names none.
    """
    if name != "app":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    if INDEX_VARIABLE not in os.environ:
        do = f"Set {INDEX_VARIABLE}, or use build_app with `serve run` or in a config file"
        raise BadInput("the application of an index", f"no {INDEX_VARIABLE}", do)
    return build_app(ServeArgs.model_validate({"index": os.environ[INDEX_VARIABLE]}))


def deployments() -> tuple[Any, Any, Any]:
    """Shards, encoder and gateway as what their decorators made of them (type checkers still see plain classes)."""
    return ShardsDeployment, EncoderDeployment, GatewayDeployment


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.25})
class ShardsDeployment:
    """A group of shards in memory."""

    def __init__(self, uri: str, part: int, parts: int) -> None:
        self.server = GroupServer(uri, part, parts)
        with said_only(f"shards {part} of {parts}"):
            self.server.prepare(generations.current(uri).number)
        self.turns = ThreadPoolExecutor(SCANS_AT_ONCE)
        settle()
        begin_reporting("shards", self.server)

    async def call(self, method: str, left_s: float, *arguments: Any) -> Any:
        """A method of `GroupServer`, unless its time is over before its turn; errors of this project are returned."""
        pool, expires_s = None if method == "prepare" else self.turns, time.monotonic() + left_s
        return await asyncio.get_running_loop().run_in_executor(pool, self.answer, method, expires_s, arguments)

    def answer(self, method: str, expires_s: float, arguments: Sequence[Any]) -> Any:
        """What the method returns, or an error of this project that it raises."""
        try:
            return self.server.in_time(method, expires_s, *arguments)
        except XhashError as error:
            return error


def begin_reporting(role: str, group: GroupServer | None = None) -> None:
    """Has this process report to Ray, and say again and again what it takes and what its group of shards holds."""
    report_to_ray()
    replica = replica_id()
    told = reporting.GroupReport(group, replica) if group else None

    def say() -> None:
        reporting.report_process(role, replica)
        if told:
            told()

    reporting.keep_saying_aside(say)


def replica_id() -> str:
    """What tells this process from other replicas, and from those before it."""
    return str(serve.get_replica_context().replica_id.unique_id)


@contextlib.contextmanager
def said_only(what: str) -> Iterator[None]:
    """A replica that comes back must not die of a generation that nobody has activated: that it cannot be loaded is
    said here, and to whoever activates it."""
    try:
        yield
    except XhashError as error:
        log.warning("%s: %s", what, error)


@serve.deployment(max_ongoing_requests=256)
class EncoderDeployment:
    """Contents to queries, by the model of whichever generation is served; and a memory of which that is."""

    def __init__(self, uri: str, pretrained: str | None, threads: int) -> None:
        self.server = EncoderServer(pretrained, threads)
        with said_only("the encoder"):
            current = generations.current(uri)
            self.server.encoder(current.model_uri, current.facts["model_fingerprint"])
        begin_reporting("encoder")

    def recall(self) -> tuple[int, int] | None:
        """See `EncoderServer`."""
        return self.server.recall()

    def remember(self, activated: tuple[int, int]) -> None:
        """See `EncoderServer`."""
        self.server.remember(activated)

    def prepare(self, model_uri: str, fingerprint: str) -> XhashError | None:
        """Loads a model; the one before it stays for queries under way."""
        try:
            self.server.encoder(model_uri, fingerprint)
        except XhashError as error:
            return error
        return None

    async def encode(self, asked: tuple[str, str, str, str], content: Any, left_s: float) -> Query | XhashError:
        """See `EncoderServer`; errors of this project are returned."""
        try:
            return await self.server.encode(asked, content, left_s)
        except XhashError as error:
            return error


api = http.http_api()


@serve.deployment(max_ongoing_requests=1024, ray_actor_options={"num_cpus": 0.25})
@serve.ingress(api)
class GatewayDeployment(Servicer):
    """The endpoint; it is ready when every shard and the encoder are."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, args: ServeArgs, uri: str, hedged: bool, encoder: DeploymentHandle, *groups: DeploymentHandle
    ) -> None:
        own = None if groups else GroupServer(uri)
        backends: list[Backend] = [InProcess(own)] if own else [Deployed(each, hedged) for each in groups]
        deployed = DeployedEncoder(encoder)
        images = Thumbnails(args.images) if args.images else None
        router = Router(uri, backends)
        gateway = Gateway(router, deployed, Keys(args.keys), images, deployed)
        await memory.begin(gateway, deployed)
        self.following = asyncio.get_running_loop().create_task(memory.keep_agreeing(gateway, deployed))
        self.listening = await listen(args.ports)
        self.calls = Calls(lambda: gateway)
        settle()
        begin_reporting("gateway", own)
        say = reporting.GatewayReport(gateway, replica_id())
        self.reporting = asyncio.get_running_loop().create_task(reporting.keep_saying(say))
        http.door.opened = gateway  # by its module: Serve copies this class, and whatever it names otherwise

    def check_health(self) -> None:
        """Raises RuntimeError, for Serve to start another replica, when a port of its own has gone deaf."""
        if any(isinstance(each, asyncio.Task) and each.done() for each in self.listening):
            raise RuntimeError("the server on the gateway's own port has ended")
