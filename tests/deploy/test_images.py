"""The Dockerfile: linted, and its steps done as far as that goes without a container engine. No image is built here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from tests.conftest import REPOSITORY
from tests.deploy.conftest import DEPLOY
from tests.deploy.dockerfile import context, instructions, sources
from xhash_ray import __version__

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def said():
    """Its instructions."""
    return instructions(DOCKERFILE)


@pytest.fixture(scope="module")
def sent():
    """Files that a build may copy."""
    return context(REPOSITORY)


def lint(tool, path):
    """What hadolint finds."""
    command = [tool("hadolint"), "--no-fail", "--format", "json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return {finding["code"] for finding in json.loads(done.stdout)}


def test_the_linter_finds_nothing(tool):
    assert lint(tool, DOCKERFILE) == set()


def test_the_linter_would_find_something(tool, tmp_path):
    worse = DOCKERFILE.read_text().replace(
        "USER 10001:10001", "USER root\nRUN cd /tmp && sudo true\nRUN pip install torch"
    )
    (tmp_path / "Dockerfile").write_text(worse)
    assert {"DL3002", "DL3003", "DL3004", "DL3013"} <= lint(tool, tmp_path / "Dockerfile")


def test_everything_that_is_copied_is_sent_and_nothing_else(said, sent):
    copied = [source for it in said if it.word == "COPY" for source in sources(it)]
    assert copied
    for source in copied:
        assert source in sent or any(name.startswith(f"{source}/") for name in sent), source
    assert all(any(name == source or name.startswith(f"{source}/") for source in copied) for name in sent)
    assert not any("__pycache__" in name for name in sent)


def test_dependencies_are_their_own_layers(said):
    """What changes every day comes after what takes minutes, and does not reach into it."""
    stages = {it.stage: [other for other in said if other.stage == it.stage] for it in said if it.stage}
    assert set(stages) == {"requirements", "dependencies", "package", "runtime", "cuda", "cpu"}
    copied = {
        stage: [source for it in its if it.word == "COPY" for source in sources(it)] for stage, its in stages.items()
    }
    assert copied["requirements"] == ["pyproject.toml"]
    assert copied["dependencies"] == ["deploy/constraints.txt"]
    assert "xhash_ray" in copied["package"]
    assert copied["runtime"] == copied["cuda"] == copied["cpu"] == []
    runtime = [it.text for it in stages["runtime"]]
    assert [text for text in runtime if "--from=dependencies" in text] < [
        text for text in runtime if "from=package" in text
    ]


def test_the_list_of_requirements_is_the_projects(said, tmp_path):
    (run,) = [it for it in said if it.stage == "requirements" and it.word == "RUN"]
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    python = f"{sys.executable} "
    subprocess.run(["bash", "-ec", run.text.replace("python ", python, 1)], cwd=tmp_path, check=True, timeout=600)
    assert (tmp_path / "requirements.txt").read_text().splitlines() == PROJECT["dependencies"]


@pytest.mark.parametrize("url", ["", "https://wheels.invalid/cpu"])
def test_torch_comes_from_the_index_that_is_given(url, said, tmp_path):
    (run,) = [it for it in said if it.stage == "dependencies" and "torch" in it.text]
    script = re.sub(r"^(--mount=\S+ +)+", "", run.text).replace("/opt/xhash/bin/pip", "echo")
    done = subprocess.run(
        ["bash", "-ec", script], env={"TORCH_INDEX_URL": url}, capture_output=True, text=True, check=True, timeout=600
    )
    words = done.stdout.split()
    assert words[-2:] == ["torch", "torchvision"]
    assert ("--index-url" in words) == bool(url)
    assert not url or words[words.index("--index-url") + 1] == url


def test_the_wheel_that_is_installed_has_everything(said, sent, tmp_path):
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    wanted = [name for it in said if it.stage == "package" and it.word == "COPY" for name in sources(it)]
    for name in sent:
        if any(name == it or name.startswith(f"{it}/") for it in wanted):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    command += ["--wheel-dir", str(wheels), str(source)]
    subprocess.run(command, check=True, timeout=600)
    (wheel,) = wheels.iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= {name for name in sent if name.startswith("xhash_ray/") and not name.endswith(".md")}
    (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "xhash = xhash_ray.cli:main" in zipfile.ZipFile(wheel).read(entry_points).decode()


def test_it_runs_as_nobody_in_particular_and_says_what_it_is(said):
    runtime = [it for it in said if it.stage == "runtime"]
    assert [it.text for it in runtime if it.word == "USER"] == ["10001:10001"]
    assert not [it for it in said if it.word == "USER" and it.stage != "runtime"]
    assert f"VERSION={__version__}" in [it.text for it in said if it.word == "ARG"]
    (check,) = [it for it in runtime if it.word == "HEALTHCHECK"]
    program = json.loads(check.text.partition("CMD ")[2])
    assert program[:2] == ["python", "-c"]
    compile(program[2], "healthcheck", "exec")
    (labels,) = [it.text for it in runtime if it.word == "LABEL"]
    names = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels))
    assert names == {"title", "description", "licenses", "version", "revision"}
    assert all(json.loads(it.text)[0] in PROJECT["scripts"] for it in runtime if it.word == "CMD")


def test_no_host_of_a_registry_is_written_down(said):
    for it in said:
        assert "://" not in it.text.replace("http://127.0.0.1", ""), it
        if it.word == "FROM":
            assert "/" not in it.text, it
