"""Errors: one line of what was asked, found and to be done; exit codes; the nearest known name."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.errors import BadInput, BadOption, Mismatch, Unreachable, XhashError, nearest

KINDS = [XhashError, BadInput, BadOption, Mismatch, Unreachable]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_one_line_of_three_parts(kind):
    error = kind("reading x", "no such file", "Check the name")
    assert str(error) == "reading x: no such file. Check the name"
    assert (error.asked, error.found, error.do) == ("reading x", "no such file", "Check the name")


@pytest.mark.parametrize(
    ("kind", "code"), [(XhashError, 1), (Unreachable, 1), (BadInput, 2), (BadOption, 2), (Mismatch, 2)]
)
def test_exit_codes(kind, code):
    assert kind("a", "b", "c").exit_code == code


@pytest.mark.parametrize("kind", KINDS)
def test_errors_travel_between_processes(kind):
    error = pickle.loads(pickle.dumps(kind("asked", "found", "do")))
    assert type(error) is kind
    assert str(error) == "asked: found. do"


@pytest.mark.parametrize(("kind", "parent"), [(BadOption, BadInput), (Mismatch, BadInput), (Unreachable, XhashError)])
def test_errors_form_a_tree(kind, parent):
    assert issubclass(kind, parent)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("epoch", "Did you mean 'epochs'? Known: batch_size, epochs, seed"),
        ("batchsize", "Did you mean 'batch_size'? Known: batch_size, epochs, seed"),
        ("zzzzzz", "Known: batch_size, epochs, seed"),
    ],
)
def test_the_nearest_name(name, hint):
    assert nearest(name, ["seed", "epochs", "batch_size"]) == hint


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=10), st.lists(st.text(min_size=1, max_size=8), max_size=6))
def test_the_nearest_name_is_a_known_one_and_all_are_listed(name, known):
    hint = nearest(name, known)
    assert hint.endswith(f"Known: {', '.join(sorted(known))}")
    if hint.startswith("Did you mean"):
        assert any(hint.startswith(f"Did you mean '{other}'? ") for other in known)


def test_a_known_name_is_its_own_nearest():
    assert nearest("seed", ["seed", "seeds"]).startswith("Did you mean 'seed'?")


def test_nothing_known_is_said_too():
    assert nearest("a", []) == "Known: "
