"""WebDataset tars: what samples are made of, packed tars, damaged ones."""

import io
import json
import tarfile

import pytest

from tests.corpus.forms import EXPECTED, PACKED, read_all, sample, tar, tar_bytes, tars_of_json
from xhash_ray.corpus.pairs import Pair, Reject
from xhash_ray.corpus.sources import open_corpus
from xhash_ray.errors import BadInput


def test_captions_labels_and_ids_come_from_json_and_cls(tmp_path):
    facts = json.dumps({"id": "own", "caption": "from json", "year": 2001}).encode()
    members = [
        ("d/1.png", b"x"),
        ("d/1.json", facts),
        ("d/1.cls", b"3\n"),
        ("2.seg.png", b"?"),
        ("2.WEBP", b"y"),
    ]
    tar(tmp_path / "a.tar", [*members, ("2.caption", b"from file"), ("2.json", b"no json"), ("3.jpg", b"z")])
    first, second, third = read_all(open_corpus(str(tmp_path / "a.tar")))
    assert first == Pair("own", b"x", ("from json",), ("3",), {"year": 2001})
    assert second == Pair("2", b"y", ("from file",))
    assert third == Reject("3", f"{tmp_path}/a.tar", 2, "read", "missing text", "text is missing or empty")


def test_keys_have_their_folders(tmp_path):
    tar(tmp_path / "a.tar", [("x/1.jpg", b"x"), ("x/1.txt", b"t"), ("y/1.jpg", b"y"), ("y/1.txt", b"u")])
    assert [pair.id for pair in read_all(open_corpus(str(tmp_path)))] == ["x/1", "y/1"]


@pytest.mark.parametrize(
    ("members", "texts"),
    [
        ([("1.txt", b"one\ntwo\n")], ("one\ntwo",)),
        ([("1.json", b'{"caption": ["one", "two"]}')], ("one", "two")),
        ([("1.json", b'{"captions": ["one", "two"], "year": 1}')], ("one", "two")),
        ([("1.json", b'{"text": ["one", null]}')], ("one",)),
        ([("1.json", b'["one", "two"]')], ("one", "two")),
        ([("1.txt", b"one"), ("1.json", b'{"caption": ["two"]}')], ("one",)),
    ],
)
def test_several_captions_are_a_list(tmp_path, members, texts):
    tar(tmp_path / "a.tar", [("1.jpg", b"x"), *members])
    assert [pair.texts for pair in read_all(open_corpus(str(tmp_path)))] == [texts]


def test_roles_may_be_files_of_other_suffixes_or_names_in_the_json(tmp_path):
    members = [("1.input.jpg", b"in"), ("1.Output.JPG", b"out"), ("1.txt", b"usual"), ("1.long.txt", b"long")]
    tar(tmp_path / "a.tar", [*members, ("1.json", b'{"uid": 7, "title": "of json", "tag": "t"}')])
    columns = {"image": "output.jpg", "text": "long.txt", "id": "uid", "labels": "tag"}
    assert read_all(open_corpus(str(tmp_path), columns)) == [Pair("7", b"out", ("long",), ("t",), {"title": "of json"})]
    (pair,) = read_all(open_corpus(str(tmp_path), {**columns, "text": "title"}))
    assert pair.texts == ("of json",)
    (pair,) = read_all(open_corpus(str(tmp_path), {**columns, "text": "nowhere"}))
    assert pair.texts == ("usual",), "what is mapped in vain leaves the usual file"
    (reject,) = read_all(open_corpus(str(tmp_path)))
    assert reject.kind == "missing image"


def test_what_webdataset_passes_over_is_no_sample(tmp_path):
    members = [("__meta__/1.txt", b"?"), ("._1.jpg", b"?"), ("README", b"?"), ("1.jpg", b"x"), ("1.txt", b"t")]
    tar(tmp_path / "a.tar", [("__classes__", b"?"), *members, (".DS_Store", b"?")])
    assert read_all(open_corpus(str(tmp_path))) == [Pair("1", b"x", ("t",))]


def test_a_sample_whose_json_says_no_id_has_none_in_the_survey(tmp_path):
    tar(tmp_path / "a.tar", [("1.jpg", b"x"), ("1.txt", b"t"), ("1.json", b'{"id": null}'), *sample(EXPECTED[0])])
    source = open_corpus(str(tmp_path))
    assert read_all(source)[0].kind == "missing id"
    assert source.survey(source.parts(1)[0]).ids == ["", "p00"]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.zst", "a.tzst", "a.tar.bz2", "a.tbz2", "a.txz"])
@pytest.mark.parametrize("packing", list(PACKED))
def test_tars_may_be_packed_whatever_their_names_say(tmp_path, name, packing):
    content = tar_bytes([member for pair in EXPECTED for member in sample(pair)])
    (tmp_path / name).write_bytes(PACKED[packing](content))
    source = open_corpus(str(tmp_path))
    assert read_all(source) == EXPECTED
    (part,) = source.parts(1)
    found = dict(source.located(part))
    assert source.image(part, found["p07"]) == EXPECTED[7].image


def test_one_tar_can_be_named_itself(tmp_path):
    assert read_all(open_corpus(f"{tars_of_json(tmp_path)}/000.tar")) == EXPECTED[:5]


def test_only_what_is_wanted_is_read(tmp_path):
    """A tar that is not packed is gone through by its headers: most of it is never read."""
    from xhash_ray.corpus import streams

    big = [("1.jpg", b"x" * 10_000_000), ("1.txt", b"t"), ("2.npy", b"y" * 10_000_000), ("2.txt", b"t")]
    tar(tmp_path / "a.tar", big)
    source = open_corpus(str(tmp_path), needs=("text",))
    count, read = [], streams.Stored.read

    def counting(self, size=-1):
        content = read(self, size)
        count.append(len(content))
        return content

    streams.Stored.read = counting
    try:
        assert [pair.id for pair in read_all(source)] == ["1", "2"]
        assert source.survey(source.parts(1)[0]).ids == ["1", "2"]
    finally:
        streams.Stored.read = read
    assert sum(count) < 100_000


@pytest.mark.parametrize("offset", [100, 700, 0], ids=["in a head", "in content", "between members"])
@pytest.mark.parametrize("packing", [None, *PACKED])
def test_a_cut_off_tar_is_named(tmp_path, offset, packing):
    """A member of 600 bytes takes three blocks of 512: one head, two of content."""
    members = [(f"{number}.{suffix}", b"x" * 600) for number in range(9) for suffix in ("jpg", "txt")]
    content = tar_bytes(members)
    cut = content[: 9 * 1536 + offset] if packing is None else PACKED[packing](content)[: -1 - offset // 50]
    (tmp_path / "a.tar").write_bytes(cut)
    with pytest.raises(BadInput, match=r"a\.tar: damaged"):
        read_all(open_corpus(str(tmp_path)))


@pytest.mark.parametrize(
    "content", [b"", b"no tar at all", bytes(range(256)) * 8, b"\x1f\x8b", b"\x28\xb5\x2f\xfd" + b"x" * 600, b"BZh"]
)
@pytest.mark.parametrize("verb", ["survey", "read", "located"])
def test_a_tar_that_is_none_is_named(tmp_path, content, verb):
    (tmp_path / "a.tar").write_bytes(content)
    source = open_corpus(str(tmp_path))
    (part,) = source.parts(1)
    with pytest.raises(BadInput, match=r"a\.tar: damaged"):
        list(getattr(source, verb)(part)) if verb != "survey" else source.survey(part)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_every_format_of_tar(tmp_path, form):
    key = "a_folder/" * 10 + "ü1"
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as archive:
        for name, content in ((f"{key}.jpg", b"x"), (f"{key}.txt", b"t")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    assert read_all(open_corpus(str(tmp_path))) == [Pair(key, b"x", ("t",))]
