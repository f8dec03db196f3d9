"""The Compose file, as Docker Compose itself reads it; no container is started here."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml

from tests.deploy.conftest import DEPLOY
from xhash_ray import __version__

COMPOSE = DEPLOY / "compose"
NODES = ("head", "worker", "client", "exporter", "bucket")


def compose(tool, *arguments, file=COMPOSE / "compose.yaml", **variables):
    """Runs Docker Compose, which needs no engine to read a file."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **variables}
    command = [tool("docker-compose"), "--file", str(file), "--env-file", str(COMPOSE / ".env.example"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def project(tool):
    """What Compose makes of the file."""
    done = compose(tool, "--profile", "*", "config", "--format", "json", STORE_PASSWORD="given")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_its_parts_are_there(project):
    assert set(project["services"]) == {*NODES, "store", "store-owner", "prometheus", "grafana"}


def test_an_unknown_key_is_refused(tool, tmp_path):
    worse = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    worse["services"]["head"]["shm_sise"] = "1gb"
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(worse))
    done = compose(tool, "config", file=tmp_path / "compose.yaml", STORE_PASSWORD="given")
    assert done.returncode != 0
    assert "shm_sise" in done.stderr


def test_a_password_that_is_missing_is_asked_for(tool):
    done = compose(tool, "config", "--quiet")
    assert done.returncode != 0
    assert "set STORE_PASSWORD in deploy/compose/.env" in done.stderr


def test_every_variable_is_explained(tool):
    shown = {line.lstrip("# ").partition("=")[0] for line in (COMPOSE / ".env.example").read_text().splitlines()}
    done = compose(tool, "--profile", "*", "config", "--variables", STORE_PASSWORD="given")
    asked = {line.split()[0] for line in done.stdout.splitlines()[1:]}
    assert "WORKERS" in asked
    rare = {"PYTHON_DIGEST", "STORE_IMAGE", "PROMETHEUS_IMAGE", "GRAFANA_IMAGE", "GRAFANA_USER", "METRICS_RETENTION"}
    assert asked - rare <= shown


def test_every_service_is_bounded_and_may_do_little(project):
    for name, service in project["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory"} <= set(limits), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"], name
        assert service.get("restart") in ("unless-stopped", "no", None), name
        assert not service.get("privileged"), name


def test_what_stays_up_is_asked_for_its_health(project):
    for name in ("head", "worker", "store", "prometheus", "grafana", "exporter"):
        assert project["services"][name]["healthcheck"]["test"][0] == "CMD", name
    for name, service in project["services"].items():
        for other, wait in service.get("depends_on", {}).items():
            waited = project["services"][other]
            ends = waited.get("restart") == "no" or other == "store-owner"
            assert wait["condition"] == ("service_completed_successfully" if ends else "service_healthy"), (name, other)


def test_ray_asks_for_a_token_and_has_shared_memory(project):
    for name in NODES:
        service = project["services"][name]
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray-token"
        assert "ray-token" in {secret["source"] for secret in service["secrets"]}
        assert int(service["shm_size"]) >= 2**30
        assert set(service["networks"]) == {"cluster"}  # of several Ray would choose one by itself
        assert service["image"] == f"xhash-ray:{__version__}"


@pytest.mark.parametrize(
    ("file", "variable"),
    [
        ("dashboard/modules/job/cli.py", "RAY_API_SERVER_ADDRESS"),
        ("serve/scripts.py", "RAY_DASHBOARD_ADDRESS"),
        ("exceptions.py", "RAY_AUTH_TOKEN_PATH"),
    ],
)
def test_rays_commands_read_the_variables_that_are_set(file, variable, project):
    installed = distribution("ray").locate_file(f"ray/{file}")
    assert variable in Path(str(installed)).read_text()
    assert project["services"]["client"]["environment"][variable]


def test_only_the_endpoint_can_be_opened_to_others(project):
    published = {
        (name, port["target"]): port.get("host_ip")
        for name, service in project["services"].items()
        for port in service.get("ports", [])
    }
    assert set(published.values()) == {"127.0.0.1"}
    assert {("head", 8000), ("head", 9000), ("head", 8265), ("grafana", 3000), ("prometheus", 9090)} == set(published)


def test_no_secret_is_written_down_and_none_can_be_committed(project):
    assert all("file" in secret for secret in project["secrets"].values())
    for service in project["services"].values():
        for name, value in (service.get("environment") or {}).items():
            if any(word in name for word in ("PASSWORD", "SECRET", "TOKEN")) and not name.endswith(("_FILE", "_PATH")):
                assert value == "given", name
    for name in (".env", "secrets/ray-token", "secrets/api-keys"):
        done = subprocess.run(["git", "check-ignore", "--quiet", name], cwd=COMPOSE, timeout=600)
        assert done.returncode == 0, name


def test_files_that_are_mounted_are_there(project):
    mounted = [
        volume["source"]
        for service in project["services"].values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    ]
    assert mounted
    for source in mounted:
        assert os.path.exists(source), source


def test_two_workers_can_take_what_serve_yaml_spreads(project):
    args = yaml.safe_load((DEPLOY / "serve.yaml").read_text())["applications"][0]["args"]
    assert project["services"]["worker"]["deploy"]["replicas"] >= max(
        args["replicas"], args["encoders"], args["gateways"]
    )
    keys = {secret["target"] for secret in project["services"]["head"]["secrets"]}
    assert args["keys"] in keys


def test_prometheus_scrapes_as_it_does_elsewhere(program, tmp_path):
    ours = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
    theirs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs, known = ({job["job_name"]: job for job in it["scrape_configs"]} for it in (ours, theirs))
    assert jobs["ray"] == known["ray"]
    assert set(jobs) <= set(known)
    for name, file in (("rules.yaml", DEPLOY / "prometheus" / "rules.yaml"), ("c.yml", COMPOSE / "prometheus.yml")):
        (tmp_path / name).write_text(file.read_text())
    command = [program("promtool"), "check", "config", str(tmp_path / "c.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
