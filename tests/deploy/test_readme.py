"""What deploy/README.md says of Kubernetes and Compose: commands that make what manifests name, and true figures."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
import yaml

from tests.deploy.conftest import DEPLOY, JOBS, KUBERNETES, SIZES
from tests.deploy.pods import quantity, secret_keys
from xhash_ray.serving.keys import parse_keys

README = (DEPLOY / "README.md").read_text()
COMMANDS = [line.strip() for line in README.splitlines() if line.startswith("    ")]


def run(command, folder, **variables):
    """A line of the README, in a folder."""
    environment = {**os.environ, **variables}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def secrets(tool, program, tmp_path):
    """What the README's commands make, by name."""
    program("openssl")
    (tmp_path / "keys.txt").write_text("read 0123456789abcdef\n")
    found = {}
    for command in COMMANDS:
        if "create secret" in command:
            asked = command.replace("kubectl", tool("kubectl"), 1) + " --dry-run=client --output yaml"
            made = yaml.safe_load(run(asked, tmp_path, KEY_ID="id", SECRET_KEY="key"))
            assert made["metadata"]["namespace"] == "xhash"
            found[made["metadata"]["name"]] = made["data"]
    return found


def test_every_secret_that_is_named_is_documented_with_its_keys(secrets, built):
    named = {it for folder in (*SIZES, *JOBS) for manifest in built(folder) for it in secret_keys(manifest)}
    assert {name for name, _ in named} == set(secrets)
    for name, key in named:
        assert not key or secrets[name][key], (name, key)
    assert set(secrets["xhash-ray-token"]) == {"auth_token"}  # the key that KubeRay reads
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(secrets["xhash-s3"])


def test_the_file_of_keys_lies_where_the_application_looks(secrets, one):
    service = one("base", "RayService")["spec"]
    args = yaml.safe_load(service["serveConfigV2"])["applications"][0]["args"]
    (group,) = service["rayClusterConfig"]["workerGroupSpecs"]
    (mount,) = [it for it in group["template"]["spec"]["containers"][0]["volumeMounts"] if it["name"] == "keys"]
    assert args["keys"] in {f"{mount['mountPath']}/{name}" for name in secrets["xhash-keys"]}


def test_every_label_that_policies_ask_of_namespaces_is_given(built):
    given = {word for command in COMMANDS if "label namespace" in command for word in command.split() if "=" in word}
    asked = {
        f"{key}={value}"
        for manifest in built("base")
        if manifest["kind"] == "NetworkPolicy"
        for rule in manifest["spec"].get("ingress", [])
        for peer in rule["from"]
        for key, value in peer.get("namespaceSelector", {}).get("matchLabels", {}).items()
    }
    assert asked == given


def test_every_folder_that_is_applied_can_be_built(built):
    applied = [command.split()[-1] for command in COMMANDS if "apply -k" in command]
    assert {path.removeprefix("deploy/kubernetes/") for path in applied} == {*JOBS, *SIZES, "base/common"} - {"base"}
    assert all(built(path.removeprefix("deploy/kubernetes/")) for path in applied)


@pytest.mark.parametrize("size", SIZES)
def test_the_table_of_sizes_is_true(size, one):
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{size.rpartition('/')[2]}` |")]
    service = one(size, "RayService")
    (workers,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    args = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["args"]
    count, unit, machines, cores, memory, groups = re.findall(r"\d+|[mb]illion", row)
    pairs = int(count) * {"million": 10**6, "billion": 10**9}[unit]
    assert pairs == int(service["metadata"]["annotations"]["xhash/pairs"])
    assert (int(machines), int(cores)) == (workers["replicas"], quantity(limits["cpu"]))
    assert int(memory) * 2**30 == quantity(limits["memory"])
    assert int(groups) == args["processes"]


def test_compose_is_set_up_by_what_is_said(program, tmp_path):
    program("openssl")
    compose = tmp_path / "deploy" / "compose"
    compose.mkdir(parents=True)
    (compose / ".env.example").write_text((DEPLOY / "compose" / ".env.example").read_text())
    lines = [line for line in COMMANDS if line.startswith(("cp", "mkdir", "openssl", "echo", "chmod"))]
    run("\n".join(lines), tmp_path)
    named = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["secrets"]
    assert {it["file"] for it in named.values()} == {f"secrets/{path.name}" for path in (compose / "secrets").iterdir()}
    keys = parse_keys((compose / "secrets" / "api-keys").read_text(), "api-keys")
    assert sorted(keys.values()) == ["admin", "read"]
    assert (compose / "secrets").stat().st_mode & 0o777 == 0o700


def test_what_is_edited_by_hand_exists():
    for name in re.findall(r"`(base/[\w./-]+\.(?:yaml|toml))`", README):
        assert (KUBERNETES / name).is_file(), name
