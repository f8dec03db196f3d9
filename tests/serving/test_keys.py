"""API keys: roles, rotation, and errors that never show a key."""

import os

import pytest

from xhash_ray.errors import BadInput
from xhash_ray.serving.keys import Keys

READ, ADMIN = "r" * 20, "a" * 20


def keys_at(path, text: str, changed_s: int) -> None:
    """A key file of a certain age."""
    path.write_text(text)
    os.utime(path, (changed_s, changed_s))


def test_roles_and_rotation(tmp_path):
    path = tmp_path / "keys"
    keys_at(path, f"# ours\nread {READ}\n\nadmin {ADMIN}\n", 1)
    keys = Keys(str(path))
    assert keys.role(f"Bearer {READ}") == "read"
    assert keys.role(f"Bearer {ADMIN}") == "admin"
    assert [keys.role(given) for given in (None, "", "Bearer ", f"Bearer {READ}x", READ[:-1])] == [None] * 5
    keys_at(path, f"read {'n' * 20}\n", 2)
    assert keys.role(f"Bearer {READ}") is None
    assert keys.role(f"Bearer {'n' * 20}") == "read"
    keys_at(path, "nonsense", 3)
    assert keys.role(f"Bearer {'n' * 20}") == "read", "a broken file locks nobody out"
    path.unlink()
    assert keys.role(f"Bearer {'n' * 20}") == "read"


def test_without_a_file_everybody_reads_and_nobody_is_admin():
    assert Keys(None).role(None) == "read"
    assert Keys(None).role("Bearer anything") == "read"


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "no key"), ("read short", "line 1"), (f"# x\nwrite {READ}", "line 2"), (f"read {READ} more", "line 1")],
)
def test_a_file_without_good_keys_is_refused(tmp_path, text, found):
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(BadInput, match=found) as refused:
        Keys(str(path))
    assert READ not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        Keys(str(tmp_path / "nowhere"))
