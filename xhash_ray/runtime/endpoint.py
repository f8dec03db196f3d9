"""Starting and stopping the endpoint."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from typing import Any

from ray import serve

from xhash_ray.client import Client
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.index import generations
from xhash_ray.options import Serve
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.serving.listening import Ports, address, tcp_listener
from xhash_ray.storage import uri as places

APPLICATION = "xhash"


def check_port(host: str, port: int) -> None:
    """Raises BadInput when nothing can listen on the port."""
    try:
        tcp_listener(host, port).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"port {port} on {host}", reason, "Choose another with --port, or stop what uses it") from None


def unused_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def start(options: Serve) -> dict[str, Any]:
    """Brings the endpoint up on the connected cluster and waits until it answers.

    Returns:
        `url`, `rows`, `shards`, `bits`, `model_fingerprint`, `seconds`.

    Raises:
        BadInput: when there is no index, or the port is taken.
        XhashError: when a shard or the encoder cannot start.
    """
    from xhash_ray.runtime.serving import ServeArgs, build_app

    for port in ports_of(options):
        check_port(options.host, port)
    served = generations.current(places.normalise(options.index))
    progress = Progress("serve")
    progress.say(f"{served.rows:,} pairs, {served.bits} bits, {served.shards} shards")
    args = ServeArgs(
        index=served.uri,
        pretrained=options.pretrained,
        processes=options.processes,
        replicas=options.replicas,
        gateways=options.gateways,
        encoders=options.encoders,
        encoder_threads=cluster.threads_for(options.encoders),
        encoder_gpus=options.encoder_gpus,
        images=options.images,
        keys=absolute(options.keys),
        ports=own_ports(options),
    )
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    start_serve(options)
    try:
        serve.run(build_app(args), name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        raise XhashError("starting the endpoint", deployment_failure(error), "Mend that and serve again") from None
    url = f"{'https' if options.tls_certificate else 'http'}://{address(options.host, options.port)}"
    check_reachable(url)
    return {
        "url": url,
        "rows": served.rows,
        "shards": served.shards,
        "bits": served.bits,
        "model_fingerprint": served.facts["model_fingerprint"],
        "seconds": round(progress.seconds, 2),
    }


def ports_of(options: Serve) -> list[int]:
    """The ports that are asked for."""
    return [port for port in (options.port, options.grpc_port) if port is not None]


def absolute(path: str | None) -> str | None:
    """A local file by a name that replicas, whose working folder is another, know too."""
    return path and os.path.abspath(os.path.expanduser(path))


def own_ports(options: Serve) -> Ports:
    """Where the gateway listens itself: nowhere on a cluster that was joined, whose nodes all have Serve's proxies.

    Raises:
        BadInput: for what only the one or the other can do.
    """
    tls = (absolute(options.tls_certificate), absolute(options.tls_key))
    if cluster.is_joined():
        if any(tls):
            do = "Have what stands before the cluster end TLS, or configure Serve's http_options"
            raise BadInput("TLS on a cluster that was joined", "Serve's proxies listen there", do)
        return Ports()
    if options.gateways > 1:
        found = f"--gateways {options.gateways} on a cluster of its own"
        raise BadInput("several gateways", found, "Join a cluster (RAY_ADDRESS), whose proxies share them")
    return Ports(options.host, options.port, options.grpc_port, *tls)


def start_serve(options: Serve) -> None:
    """Starts Serve, if it does not run yet."""
    if not cluster.is_joined():
        # With direct ingress, Serve 2.60 starts a proxy on the head whatever proxy_location says
        # (serve/_private/controller.py): it gets a port that nobody else wants.
        serve.start(http_options={"host": "127.0.0.1", "port": unused_port()})
        return
    calls = {"port": options.grpc_port, "grpc_servicer_functions": ["xhash_ray.serving.calls.add_servicer"]}
    grpc_options = calls if options.grpc_port is not None else None
    serve.start(http_options={"host": options.host, "port": options.port}, grpc_options=grpc_options)


def deployment_failure(error: RuntimeError) -> str:
    """What a replica that could not start said last."""
    statuses = serve.status().applications.get(APPLICATION)
    messages = [d.message for d in statuses.deployments.values() if d.message] if statuses else []
    lines = [line.strip() for message in messages for line in message.splitlines() if "xhash_ray.errors" in line]
    return (lines or [str(error)])[-1][:400]


def check_reachable(url: str) -> None:
    """Raises XhashError when nothing answers: a cluster's Serve keeps the address it was first started with."""
    with Client(url, timeout_s=10, verify=False) as client:  # it is asked from here, by whatever name it has
        if not client.alive():
            stop()
            do = "Take the port that Serve has, or end Serve first (`serve shutdown`)"
            raise XhashError(f"endpoint {url}", "Serve already listens elsewhere on this cluster", do)


def stop() -> None:
    """Takes the endpoint down; other applications of a joined cluster's Serve stay.

    A cluster that was started for this endpoint ends right after, and Serve with it.
    """
    if cluster.is_joined():
        serve.delete(APPLICATION)


def wait_until_stopped() -> None:
    """Returns at Ctrl-C or SIGTERM."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    while not stopped.wait(3600):
        pass


def serve_until_stopped(options: Serve) -> dict[str, Any]:
    """`xhash serve`: the endpoint until Ctrl-C."""
    with cluster.connected():
        facts = start(options)
        progress = Progress("serve")
        progress.say(f"ready after {facts['seconds']} s: {facts['url']} (API: {facts['url']}/docs); Ctrl-C ends it")
        try:
            wait_until_stopped()
        finally:
            stop()
    return facts
