"""Files made of others are up to date: Kubernetes gets deploy/serve.yaml and Prometheus' rules, as they are."""

from __future__ import annotations

import importlib.util
import shutil
import tomllib

import pytest
import yaml

from tests.deploy.conftest import DEPLOY, JOBS, KUBERNETES, SIZES
from xhash_ray import cli, config
from xhash_ray.options import VERBS


@pytest.fixture
def generate():
    """deploy/kubernetes/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", KUBERNETES / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve_config():
    """What deploy/serve.yaml says."""
    return yaml.safe_load((DEPLOY / "serve.yaml").read_text())


@pytest.mark.parametrize("size", SIZES)
def test_the_application_is_the_one_of_serve_yaml(size, one, generate):
    written = yaml.safe_load(one(size, "RayService")["spec"]["serveConfigV2"])
    expected = serve_config()
    expected["applications"][0]["args"] |= generate.SIZES[size.replace("base", "base/search")]
    assert written == expected


def test_the_alerts_are_prometheus_rules(one):
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())
    assert one("base", "PrometheusRule")["spec"]["groups"] == rules["groups"]
    assert any("alert" in rule for group in rules["groups"] for rule in group["rules"])


def test_made_files_are_up_to_date(generate, capsys):
    assert generate.main(["--check"]) == 0, f"run deploy/kubernetes/generate.py for {capsys.readouterr().out}"


def test_an_edit_is_noticed_and_carried_over(generate, tmp_path, monkeypatch, capsys):
    here = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, here)
    monkeypatch.setattr(generate, "HERE", here)
    monkeypatch.setattr(generate, "SERVE", shutil.copy(DEPLOY / "serve.yaml", tmp_path / "serve.yaml"))
    generate.main([])
    capsys.readouterr()
    edited = serve_config()
    edited["applications"][0]["args"]["index"] = "s3://mine/index"
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(edited))
    assert generate.main(["--check"]) == 1
    names = capsys.readouterr().out.splitlines()
    assert names == [f"{folder}/serveconfig.yaml" for folder in generate.SIZES]
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    text = (here / "overlays" / "large" / "serveconfig.yaml").read_text()
    assert "index: s3://mine/index" in yaml.safe_load(text)["spec"]["serveConfigV2"]


def test_the_exporter_and_the_jobs_mean_the_same_index(one, built):
    (application,) = serve_config()["applications"]
    (exporter,) = [it for it in built("base") if it["kind"] == "Deployment"]
    args = exporter["spec"]["template"]["spec"]["containers"][0]["args"]
    recipe = tomllib.loads(one("base", "ConfigMap")["data"]["recipe.toml"])
    assert args[args.index("--index") + 1] == recipe["index-build"]["out"] == application["args"]["index"]


@pytest.mark.parametrize("folder", JOBS)
def test_a_jobs_command_and_recipe_are_understood(folder, one, tmp_path):
    spec = one(folder, "RayJob")["spec"]
    program, *words = spec["entrypoint"].split()
    at = words.index("--config") + 1
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    (mounted,) = [it["mountPath"] for it in head["volumeMounts"] if it["name"] == "recipe"]
    assert program == "xhash"
    assert words[at] == f"{mounted}/recipe.toml"
    words[at] = str(tmp_path / "recipe.toml")
    (tmp_path / "recipe.toml").write_text(one(folder, "ConfigMap")["data"]["recipe.toml"])
    parsed, unknown = cli.parser().parse_known_args(words)
    assert not unknown
    options = config.build(VERBS[parsed.verb], cli.values_of(parsed), parsed.verb)
    assert options.out.startswith("s3://")
    assert parsed.json


def test_the_exporters_command_is_understood(built):
    (exporter,) = [it for it in built("base") if it["kind"] == "Deployment"]
    program, *words = exporter["spec"]["template"]["spec"]["containers"][0]["args"]
    parsed, unknown = cli.parser().parse_known_args(words)
    assert program == "xhash"
    assert not unknown
    assert cli.values_of(parsed)["host"] == "0.0.0.0"
