"""The machine's file: comes back as it was written, and nothing wrong in it is let pass."""

import json

import pytest

from tests.sizing.machines import machine
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.sizing.machine import FORMAT_VERSION, Machine, read_machine, write_machine


@pytest.fixture
def file(tmp_path):
    """A machine file."""
    path = tmp_path / "machine.json"
    write_machine(str(path), machine(price_per_hour=0.5))
    return path


def changed(file, **values):
    """The file with other values; None takes a key away."""
    known = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in known.items() if value is not None}))
    return str(file)


def test_it_comes_back_as_it_was_written(file):
    assert read_machine(str(file)) == machine(price_per_hour=0.5)
    write_machine(str(file), machine())
    assert read_machine(str(file)) == machine(), "an older one is replaced"


def test_prices_network_and_host_may_be_missing(file):
    path = changed(file, price_per_hour=None, network_bytes_per_s=None, host=None)
    assert read_machine(path) == machine(host={})


def test_every_key_says_what_it_is():
    assert all(field.metadata["help"] for field in Machine.__dataclass_fields__.values())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cores": None}, r"machine\.json: no 'cores' \(that a process may use\)"),
        ({"scans": None}, "no 'scans'"),
        ({"price_per_our": 1.0}, r"unknown key 'price_per_our'\. Did you mean 'price_per_hour'"),
        ({"request_s": 0}, "request_s = 0. Give a number above 0"),
        ({"group_s": -1}, "group_s = -1. Give a number of at least 0"),
        ({"memory_bytes": "much"}, "memory_bytes = 'much'"),
        ({"cores": True}, "cores = True"),
        ({"scans": []}, "no scans"),
        ({"scans": [{"bits": 64, "queries": 1}]}, "scans holds"),
        ({"scans": [{"bits": 64, "queries": 1, "codes_per_s": 0}]}, "scans: codes_per_s = 0"),
        ({"model": 7}, "model = 7"),
        ({"host": [1]}, r"host = \[1\]"),
        ({"format_version": None}, "format_version None"),
        ({"format_version": "1"}, "format_version '1'"),
    ],
)
def test_what_is_wrong_in_it_is_said(file, values, said):
    with pytest.raises(BadInput, match=said) as caught:
        read_machine(changed(file, **values))
    assert "\n" not in str(caught.value)


def test_a_number_that_is_none_is_refused(file):
    file.write_text(file.read_text().replace("0.5", "NaN"))
    with pytest.raises(BadInput, match="price_per_hour = nan"):
        read_machine(str(file))


def test_a_newer_version_is_refused(file):
    with pytest.raises(Mismatch, match=f"format_version {FORMAT_VERSION + 1}, this version reads {FORMAT_VERSION}"):
        read_machine(changed(file, format_version=FORMAT_VERSION + 1, new_key=1))


def test_no_file_and_no_json_are_said(tmp_path):
    with pytest.raises(BadInput, match="not there"):
        read_machine(str(tmp_path / "none.json"))
    (tmp_path / "text.json").write_text("cores = 2")
    with pytest.raises(BadInput, match="not JSON"):
        read_machine(str(tmp_path / "text.json"))
