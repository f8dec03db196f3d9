"""`xhash methods`: every method with what it needs, every setting with where it comes from."""

import json
import subprocess
import sys

import pytest

from xhash_ray import methods
from xhash_ray.catalogue import list_methods, show_method
from xhash_ray.cli import main
from xhash_ray.errors import BadOption
from xhash_ray.options import Methods, MethodsShow


def test_the_list_has_every_method_the_supervised_last():
    listed = list_methods(Methods())["methods"]
    assert {each["name"] for each in listed} == set(methods.available())
    supervised = [each["supervised"] for each in listed]
    assert supervised == sorted(supervised)
    for each in listed:
        assert ("labels" in each["needs"]) == each["supervised"]


@pytest.mark.parametrize("name", methods.available())
def test_a_method_shows_its_settings_with_their_sources(name):
    shown = show_method(MethodsShow(name=name))
    assert [each["name"] for each in shown["settings"]] == [
        field for field in methods.load(name).settings_type.__dataclass_fields__
    ]
    assert all(each["meaning"] and each["source"] for each in shown["settings"])


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(BadOption, match="Did you mean 'jdsh'"):
        show_method(MethodsShow(name="jdhs"))


def test_the_command_line_lists_and_shows(capsys):
    assert main(["methods"]) == 0
    assert "SIGIR 2020" in capsys.readouterr().out
    assert main(["methods", "show", "jdsh"]) == 0
    assert "MIRFlickr-25K" in capsys.readouterr().out
    assert main(["methods", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["methods"]
    assert main(["methods", "show", "jdhs"]) == 2
    assert "Did you mean 'jdsh'" in capsys.readouterr().err


def test_a_reader_that_leaves_early_sees_no_trace():
    command = [sys.executable, "-m", "xhash_ray.cli", "methods"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
