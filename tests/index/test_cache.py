"""The folder of local copies of an index on object storage."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.index.segments import IndexFile, cache, fetched
from xhash_ray.storage import uri as places


def test_only_its_owner_may_enter_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XHASH_CACHE", str(tmp_path / "cache"))
    assert stat.S_IMODE(cache().stat().st_mode) == 0o700


def test_one_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XHASH_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(BadInput, match=r"another user's folder.*XHASH_CACHE"):
        cache()


def test_a_file_that_is_not_what_its_generation_says_is_neither_used_nor_kept(tmp_path, monkeypatch):
    """Codes are checked whenever they are loaded; ids and metadata are where they are fetched."""
    monkeypatch.setenv("XHASH_CACHE", str(tmp_path / "cache"))
    place = "memory://index/segment.arrow"
    places.write_bytes(place, b"as it was written")
    facts = IndexFile("segment.arrow", 1, 17, hashlib.sha256(b"as it was written").hexdigest(), 1)
    places.write_bytes(place, b"as it was wrItten")
    with pytest.raises(Mismatch, match=r"segment\.arrow.*SHA-256"):
        fetched(place, facts)
    assert list((tmp_path / "cache").iterdir()) == []
    places.write_bytes(place, b"as it was written")
    assert Path(fetched(place, facts)).read_bytes() == b"as it was written"
