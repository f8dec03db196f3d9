"""Config files: what we ship is what Serve and KubeRay take, and a deployed file answers over HTTP and gRPC."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import grpc
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from tests.ports import free_port
from tests.runtime.conftest import RAY_BIN
from xhash_ray.client import Client
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.runtime import serving
from xhash_ray.runtime.serving import ServeArgs
from xhash_ray.serving.messages import SERVICE, message

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVE = RAY_BIN.parent / "serve"


def serve_config() -> dict:
    """What deploy/serve.yaml says."""
    return yaml.safe_load((DEPLOY / "serve.yaml").read_text())


def on_kubernetes() -> list[dict]:
    """What the RayServices of every size say; tests/deploy compares it with deploy/serve.yaml."""
    files = sorted((DEPLOY / "kubernetes").rglob("serveconfig.yaml"))
    return [yaml.safe_load(yaml.safe_load(file.read_text())["spec"]["serveConfigV2"]) for file in files]


@pytest.mark.parametrize("config", [serve_config(), *on_kubernetes()])
def test_files_that_are_shipped_are_serves_and_ours(config):
    checked = ServeDeploySchema.model_validate(config)
    (application,) = checked.applications
    assert application.import_path == "xhash_ray.runtime.serving:build_app"
    assert ServeArgs.model_validate(application.args).replicas == 2
    assert ServeArgs.model_validate({"index": "a", "ports": {"http": 8000}}).ports.http == 8000


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"index": "a", "procesess": 4}, "unknown key 'procesess' in xhash-ray .* Did you mean 'processes'"),
        ({"index": "a", "replicas": 0}, "replicas: .* greater than or equal to 1"),
        ({"index": "a", "ports": {"https": 1}}, "unknown key 'ports.https'"),
        ({}, "index: Field required"),
    ],
)
def test_arguments_that_cannot_be_are_refused_in_one_line(args, said):
    with pytest.raises(BadOption, match=said) as refused:
        ServeArgs.model_validate(args)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("spread", [False, True])
def test_copies_are_spread_over_nodes_when_that_is_asked_for(spread, run):
    args = ServeArgs(index=run.index, processes=2, replicas=2, gateways=2, encoders=2, spread=spread)
    gateway = serving.build_app(args)
    bound = [gateway, *(it for it in gateway._bound_deployment.init_args if hasattr(it, "_bound_deployment"))]
    found = {it._bound_deployment.name: it._bound_deployment for it in bound}
    assert set(found) == {"GatewayDeployment", "EncoderDeployment", "shards-0", "shards-1"}
    assert {it.num_replicas for it in found.values()} == {2}
    assert {it._replica_config.max_replicas_per_node for it in found.values()} == {1 if spread else None}


def test_serve_build_needs_an_index_by_name(monkeypatch, tmp_path):
    monkeypatch.delenv("XHASH_INDEX", raising=False)
    with pytest.raises(BadInput, match="XHASH_INDEX"):
        _ = serving.app
    with pytest.raises(AttributeError):
        _ = serving.application


def test_serve_build_writes_a_config_file(run, tmp_path):
    made = tmp_path / "built.yaml"
    environment = {**os.environ, "XHASH_INDEX": run.index}
    command = [str(SERVE), "build", "xhash_ray.runtime.serving:app", "-o", str(made)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
    built = ServeDeploySchema.model_validate(yaml.safe_load(made.read_text()))
    names = {deployment.name for deployment in built.applications[0].deployments}
    assert names == {"GatewayDeployment", "EncoderDeployment"}


def test_a_config_file_is_deployed_and_answers_over_http_and_grpc(run, head, tmp_path):
    from ray import serve

    serve.shutdown()  # one that runs would keep its ports
    config, http_port, grpc_port = serve_config(), free_port(), free_port()
    config["http_options"] = {"host": "127.0.0.1", "port": http_port}
    config["grpc_options"]["port"] = grpc_port
    config["applications"][0]["args"] = {"index": run.index, "processes": 2, "gateways": 2, "encoder_threads": 1}
    written = tmp_path / "serve.yaml"
    written.write_text(yaml.safe_dump(config))
    subprocess.run([str(SERVE), "deploy", str(written), "-a", head.dashboard], check=True, timeout=600)
    try:
        with Client(f"http://127.0.0.1:{http_port}", timeout_s=600) as client:
            wait_until_ready(client)
            spoken = client.search(text="a red circle", k=7)
            assert spoken.complete
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            stub = channel.unary_unary(
                f"/{SERVICE}/Search",
                request_serializer=message("SearchRequest").SerializeToString,
                response_deserializer=message("SearchAnswer").FromString,
            )
            answer = stub(message("SearchRequest")(text="a red circle", k=7), metadata=(("application", "xhash"),))
            assert [(hit.id, hit.distance) for hit in answer.hits] == [(hit.id, hit.distance) for hit in spoken.hits]
            with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT") as refused:
                stub(message("SearchRequest")(code=b"\1"), metadata=(("application", "xhash"),))
            assert "8 bits" in refused.value.details()
    finally:
        serve.shutdown()


def test_a_key_of_a_newer_version_is_said_in_the_last_line_of_the_status(run, head, tmp_path):
    from ray import serve

    config, written = serve_config(), tmp_path / "serve.yaml"
    config["http_options"] = {"host": "127.0.0.1", "port": free_port()}
    config["grpc_options"]["port"] = free_port()
    config["applications"][0]["args"] = {"index": run.index, "quorum": 2}
    written.write_text(yaml.safe_dump(config))
    subprocess.run([str(SERVE), "deploy", str(written), "-a", head.dashboard], check=True, timeout=600)
    try:
        deadline_s = time.monotonic() + 600
        while (
            application := serve.status().applications.get("xhash")
        ) is None or application.status != "DEPLOY_FAILED":
            assert time.monotonic() < deadline_s, application
            time.sleep(0.5)
        assert "unknown key 'quorum' in xhash-ray" in application.message.strip().splitlines()[-1]
    finally:
        serve.shutdown()


def wait_until_ready(client: Client) -> None:
    """Returns when the endpoint answers."""
    deadline_s = time.monotonic() + 600
    while not client.alive():
        assert time.monotonic() < deadline_s, "it never answered"
        time.sleep(0.5)
