"""The files for `ray up`: rendered, valid by Ray's own schema and preparation, and consistent in themselves."""

from __future__ import annotations

import copy
import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "cluster"
CLOUDS = ("aws", "gcp")
FILES = (*CLOUDS, "on-premise")
VARIABLES = {
    "XHASH_IMAGE": "registry.example.com/xhash-ray-cluster:0.1.0",
    "XHASH_IMAGE_CUDA": "registry.example.com/xhash-ray-cluster:0.1.0-cuda",
    "XHASH_AMI": "ami-0123456789abcdef0",
    "XHASH_HEAD_PROFILE": "arn:aws:iam::123456789012:instance-profile/xhash-head",
    "XHASH_WORKER_PROFILE": "arn:aws:iam::123456789012:instance-profile/xhash-worker",
    "XHASH_PROJECT": "example-project",
    "XHASH_MACHINE_IMAGE": "projects/example-project/global/images/family/xhash",
    "XHASH_HEAD_ACCOUNT": "head@example-project.iam.gserviceaccount.com",
    "XHASH_WORKER_ACCOUNT": "worker@example-project.iam.gserviceaccount.com",
    "XHASH_HEAD_IP": "10.0.0.1",
    "XHASH_WORKER_IPS": "10.0.0.2,10.0.0.3",
    "XHASH_SSH_USER": "operator",
}


@pytest.fixture(autouse=True)
def variables(monkeypatch, tmp_path):
    """All variables that the files ask for, and an empty home."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()


@pytest.fixture(scope="module")
def renderer() -> ModuleType:
    """cluster/render.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("render", FOLDER / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def load(renderer):
    """A rendered file by name, as Ray would read it."""
    return lambda name: yaml.safe_load(renderer.render(FOLDER / f"{name}.yaml"))


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` makes of a file before it asks any cloud; raises what is wrong with it."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    done = prepare_config(copy.deepcopy(config))
    validate_config(done)
    return done


def commands(config: dict[str, Any], *keys: str) -> list[str]:
    """Shell commands of a file; those of all stages by default."""
    stages = keys or [key for key in config if key.endswith("_commands")]
    return [command for stage in stages for command in config[stage]]


@pytest.mark.parametrize("name", FILES)
def test_ray_itself_finds_nothing_wrong(load, name):
    config = load(name)
    done = prepared(config)
    assert done["cluster_name"] == "xhash"
    assert done["head_start_ray_commands"] == config["head_start_ray_commands"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "planted", [{"initial_workers": 2}, {"upscaling_speed": "fast"}, {"idle_timeout_minutes": None}]
)
def test_ray_would_find_what_is_wrong(load, name, planted):
    with pytest.raises(jsonschema.ValidationError):
        prepared({**load(name), **planted})


@pytest.mark.parametrize("name", CLOUDS)
def test_a_misspelt_key_of_a_node_type_is_found(load, name):
    config = load(name)
    config["available_node_types"]["shards"]["min_worker"] = 2
    with pytest.raises(jsonschema.ValidationError, match="min_worker"):
        prepared(config)


@pytest.mark.parametrize("name", FILES)
def test_no_comma_or_colon_broke_a_command(load, name):
    for command in commands(load(name)):
        assert isinstance(command, str)
        subprocess.run(["bash", "-n", "-c", command], check=True, timeout=20)
        assert shlex.split(command)


@pytest.mark.parametrize("name", FILES)
def test_the_head_directs_and_workers_join_it(load, name):
    config = load(name)
    stop, start = commands(config, "head_start_ray_commands")
    assert stop.endswith("ray stop")
    for words in ("ulimit -n 65536;", " --head ", " --port=6379 ", " --num-cpus=0 ", "--disable-usage-stats"):
        assert words in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    assert "--dashboard-host=127.0.0.1" in start  # reached through ssh, see cluster/README.md
    stop, start = commands(config, "worker_start_ray_commands")
    assert stop.endswith("ray stop")
    assert "ulimit -n 65536;" in start
    assert "--address=$RAY_HEAD_IP:6379 " in start
    assert "--metrics-export-port=8080" in start


@pytest.mark.parametrize("name", FILES)
def test_every_process_asks_for_the_token(load, name):
    config = load(name)
    assert config["file_mounts"] == {"~/.ray": "~/.ray"}
    if "docker" in config:
        assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
        return
    for start in (config["head_start_ray_commands"][1], config["worker_start_ray_commands"][1]):
        assert "export RAY_AUTH_MODE=token" in start.partition("ray start")[0]


@pytest.mark.parametrize("name", FILES)
def test_no_secret_stands_in_a_file(load, name):
    text = yaml.safe_dump(load(name)).upper()
    for word in ("SECRET_ACCESS_KEY", "ACCESS_KEY_ID", "PASSWORD", "AUTH_TOKEN", "BEGIN "):
        assert word not in text


@pytest.mark.parametrize("name", CLOUDS)
def test_the_kinds_of_machines(load, name):
    config = load(name)
    kinds = config["available_node_types"]
    assert set(kinds) == {"head", "shards", "jobs-spot", "gpu-spot"}
    assert config["head_node_type"] == "head"
    assert (kinds["head"]["resources"], kinds["head"]["max_workers"]) == ({"CPU": 0}, 0)
    assert kinds["shards"]["min_workers"] >= 2  # copies of a shard on different machines
    assert "GPU" not in kinds["shards"]["resources"]
    assert kinds["gpu-spot"]["resources"]["GPU"] == 1
    assert kinds["gpu-spot"]["docker"]["worker_image"] == VARIABLES["XHASH_IMAGE_CUDA"]
    assert config["docker"]["image"] == VARIABLES["XHASH_IMAGE"]
    assert sum(kind["max_workers"] for kind in kinds.values()) == config["max_workers"]
    for each in ("jobs-spot", "gpu-spot"):
        assert kinds[each]["min_workers"] == 0  # a machine that can be taken away is never counted on
        assert kinds[each]["labels"]["market"] == "spot"
    assert {kind["labels"]["xhash-role"] for kind in kinds.values()} == {"head", "shards", "jobs", "gpu"}


def spot_of(config: dict[str, Any]) -> dict[str, bool]:
    """Whether each node type asks its cloud for spot machines."""
    found = {}
    for name, kind in config["available_node_types"].items():
        node = kind["node_config"]
        aws = node.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        found[name] = aws or node.get("scheduling", {}).get("provisioningModel") == "SPOT"
    return found


@pytest.mark.parametrize("name", CLOUDS)
def test_only_what_can_be_taken_away_is_on_spot(load, name):
    assert spot_of(load(name)) == {"head": False, "shards": False, "jobs-spot": True, "gpu-spot": True}


def test_aws_bootstraps_against_a_simulated_account(load, monkeypatch):
    """Ray's own bootstrap: keys, subnets, security groups; the roles stay those of the file."""
    import boto3
    from moto import mock_aws
    from ray.autoscaler._private.aws.config import bootstrap_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    (Path.home() / ".ssh").mkdir()
    with mock_aws():
        config = prepared(load("aws"))
        done = bootstrap_aws(config)
        machines = boto3.client("ec2", config["provider"]["region"]).describe_instance_types(
            InstanceTypes=[kind["node_config"]["InstanceType"] for kind in config["available_node_types"].values()]
        )["InstanceTypes"]
    cores = {each["InstanceType"]: each["VCpuInfo"]["DefaultVCpus"] for each in machines}
    gpus = {each["InstanceType"]: sum(g["Count"] for g in each.get("GpuInfo", {}).get("Gpus", [])) for each in machines}
    for name, kind in done["available_node_types"].items():
        node = kind["node_config"]
        assert node["SubnetIds"]
        assert node["SecurityGroupIds"]
        assert node["KeyName"].startswith("ray-autoscaler")
        wanted = VARIABLES["XHASH_HEAD_PROFILE" if name == "head" else "XHASH_WORKER_PROFILE"]
        assert node["IamInstanceProfile"] == {"Arn": wanted}
        assert node["MetadataOptions"] == {"HttpTokens": "required"}
        assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"])
        if name != "head":
            assert kind["resources"]["CPU"] == cores[node["InstanceType"]]
            assert kind["resources"].get("GPU", 0) == gpus[node["InstanceType"]]


def test_gcp_machines_have_the_cores_that_are_declared(load):
    for name, kind in load("gcp")["available_node_types"].items():
        node = kind["node_config"]
        if name != "head":
            assert int(node["machineType"].rpartition("-")[2]) == kind["resources"]["CPU"]
        assert node["machineType"].startswith("g2-") == ("GPU" in kind["resources"])
        wanted = VARIABLES["XHASH_HEAD_ACCOUNT" if name == "head" else "XHASH_WORKER_ACCOUNT"]
        assert [account["email"] for account in node["serviceAccounts"]] == [wanted]
        (disk,) = node["disks"]
        assert disk["boot"]
        assert disk["autoDelete"]


def test_on_premise_takes_all_machines_that_are_named(load):
    config = load("on-premise")
    assert not {"available_node_types", "min_workers", "docker"} & set(config)
    done = prepared(config)
    (kind,) = done["available_node_types"].values()
    assert (kind["min_workers"], kind["max_workers"], done["max_workers"]) == (2, 2, 2)


def test_on_premise_refuses_node_types(load):
    import click

    config = {**load("on-premise"), "available_node_types": load("aws")["available_node_types"]}
    with pytest.raises(click.ClickException):
        prepared(config)


def render(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command of the documents."""
    words = [sys.executable, "cluster/render.py", *arguments]
    return subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)


def test_render_prints_the_file(monkeypatch):
    monkeypatch.setenv("XHASH_CLUSTER", "second")
    done = render("cluster/aws.yaml")
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert config["cluster_name"] == "second"
    assert "${" not in yaml.safe_dump(config)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cluster/aws.yaml"], ["XHASH_IMAGE", "Set it"]),
        (["cluster/nowhere.yaml"], ["nowhere.yaml", "No such file"]),
        ([], ["usage"]),
    ],
)
def test_what_cannot_be_rendered_is_one_line(monkeypatch, arguments, words):
    monkeypatch.delenv("XHASH_IMAGE")
    done = render(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    for word in words:
        assert word in line


def test_the_launchers_image_builds_on_ours_and_holds_what_the_launcher_needs():
    lines = (FOLDER / "Dockerfile").read_text()
    assert "FROM ${BASE}" in lines
    for word in ("openssh-client", "rsync", "boto3", "google-api-python-client"):
        assert word in lines
