"""Every layout, on small files written as the real ones are: the same pairs come out whatever the file."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from tests.datasets import layout_files as files
from tests.datasets.layout_files import N, image_matrix, label_matrix, text_matrix
from xhash_ray.datasets.layouts import LAYOUTS
from xhash_ray.datasets.matrices import MatrixPairs, open_matrices
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.options import VERBS


def read(pairs: MatrixPairs, rows_per_block: int = 7):
    """All pairs, block by block."""
    blocks = list(pairs.blocks(rows_per_block))
    assert all(len(block.ids) <= rows_per_block for block in blocks)
    ids = [name for block in blocks for name in block.ids]
    labels = [row for block in blocks for row in block.labels]
    image, text = (np.concatenate([getattr(block, role) for block in blocks]) for role in ("image", "text"))
    return ids, image, text, labels


def assert_is_the_set(pairs: MatrixPairs) -> None:
    """The arrays of layout_files, in order."""
    ids, image, text, labels = read(pairs)
    assert ids == [f"{row:06d}" for row in range(N)]
    np.testing.assert_array_equal(image, image_matrix())
    np.testing.assert_array_equal(text, text_matrix())
    np.testing.assert_array_equal(pairs.label_matrix(), label_matrix())
    assert labels[0] == np.flatnonzero(label_matrix()[0]).tolist()


def test_the_options_name_every_layout():
    (field,) = [field for field in VERBS["import"].__dataclass_fields__.values() if field.name == "layout"]
    assert set(field.metadata["choices"]) == {*LAYOUTS, "parquet"}


@pytest.mark.parametrize(
    ("layout", "prefix", "image_file"),
    [
        ("mirflickr", "mirflickr25k", "iall-vgg"),
        ("nuswide10", "nus-wide-tc10", "xall-vgg"),
        ("nuswide21", "nus-wide-tc21", "xall-vgg-clean"),
    ],
)
def test_one_file_per_array(tmp_path, layout, prefix, image_file):
    pairs = open_matrices(layout, str(files.by_letter(tmp_path, prefix, image_file)))
    assert pairs.given is None
    assert_is_the_set(pairs)


@pytest.mark.parametrize("write", [files.matlab5, files.matlab73, files.python_h5])
@pytest.mark.parametrize("as_folder", [False, True])
def test_all_arrays_in_one_file(tmp_path, write, as_folder):
    path = tmp_path / "FLICKR-25K.mat"
    write(path, XAll=image_matrix(), YAll=text_matrix(), LAll=label_matrix())
    assert_is_the_set(open_matrices("one-file", str(tmp_path if as_folder else path)))


@pytest.mark.parametrize("write", [files.matlab73, files.python_h5])
def test_square_arrays_are_read_as_their_writer_meant(tmp_path, write):
    square = np.arange(16.0).reshape(4, 4)
    write(tmp_path / "x.h5", XAll=square, YAll=square + 1, LAll=np.eye(4, dtype=np.uint8)[[1, 0, 2, 3]])
    _, image, text, _ = read(open_matrices("one-file", str(tmp_path)))
    np.testing.assert_array_equal(image, square)
    np.testing.assert_array_equal(text, square + 1)


def test_arrays_of_mixed_writers_agree_on_the_pairs(tmp_path):
    """JDSH transposes YAll of NUS-WIDE, UCCH does not: either file is read."""
    folder = files.by_letter(tmp_path, "nus-wide-tc10", "xall-vgg")
    (folder / "nus-wide-tc10-yall.mat").unlink()
    files.python_h5(folder / "nus-wide-tc10-yall.mat", YAll=text_matrix())
    assert_is_the_set(open_matrices("nuswide10", str(folder)))


def test_sparse_texts(tmp_path):
    scipy.io.savemat(
        tmp_path / "x.mat",
        {"XAll": image_matrix(), "YAll": scipy.sparse.csc_matrix(text_matrix()), "LAll": label_matrix()},
    )
    assert_is_the_set(open_matrices("one-file", str(tmp_path)))


def test_npy_folder(tmp_path):
    for name, values in (("image", image_matrix()), ("text", text_matrix()), ("labels", label_matrix())):
        np.save(tmp_path / f"{name}.npy", values)
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\n")
    pairs = open_matrices("npy", str(tmp_path))
    assert_is_the_set(pairs)
    assert pairs.classes == ("a", "b", "c", "d")


def test_one_class_number_per_pair(tmp_path):
    np.save(tmp_path / "flickr_vgg19.npy", image_matrix())
    np.save(tmp_path / "tags.npy", text_matrix())
    np.save(tmp_path / "label.npy", np.arange(N) % 3)
    assert open_matrices("npy", str(tmp_path)).label_matrix().argmax(axis=1).tolist() == [row % 3 for row in range(N)]


def test_wiki(tmp_path):
    pairs = open_matrices("wiki", str(files.wiki(tmp_path)))
    ids, image, _, labels = read(pairs)
    assert (ids[0], ids[20], len(ids)) == ("query-000000", "train-000000", 60)
    assert pairs.given.tolist() == ["query"] * 20 + ["train"] * 40
    np.testing.assert_array_equal(image, np.roll(image_matrix(60), 20, axis=0))
    assert (labels[3], pairs.classes[3]) == ([3], "history")


def test_coco_with_its_queries(tmp_path):
    queries = np.array([5, 2, 59])
    pairs = open_matrices("coco-shi", str(files.coco_shi(tmp_path, queries)))
    assert_is_the_set(pairs)
    assert np.flatnonzero(pairs.given == "query").tolist() == [2, 5, 59]


def write_parts(folder, train: np.ndarray, letters: str = "I T L") -> None:
    """Three .mat files: rows 0-9 are queries, 10-59 the database, `train` the training rows."""
    image, text, labels = image_matrix(), text_matrix(), label_matrix()
    rows = {"query": np.arange(10), "train": train, "database": np.arange(10, N)}
    for part, suffix in (("query", "te"), ("train", "tr"), ("database", "db")):
        values = zip(letters.split(), (image, text, labels), strict=True)
        arrays = {f"{letter}_{suffix}": array[rows[part]] for letter, array in values}
        (files.matlab73 if part == "database" else files.matlab5)(folder / f"mir_{part}.mat", **arrays)


def test_parts_whose_training_rows_are_database_rows(tmp_path):
    write_parts(tmp_path, np.array([40, 12, 30]))
    pairs = open_matrices("parts", str(tmp_path))
    assert np.flatnonzero(pairs.given == "train").tolist() == [12, 30, 40]
    assert (pairs.rows, pairs.facts) == (N, {"train_in_database": True})
    np.testing.assert_array_equal(read(pairs)[1], image_matrix())


def test_parts_whose_training_rows_are_their_own(tmp_path):
    write_parts(tmp_path, np.array([0, 1]))
    pairs = open_matrices("parts", str(tmp_path))
    assert (pairs.given == "train").sum() == 2
    assert (pairs.rows, pairs.facts) == (N + 2, {"train_in_database": False})


def test_parts_that_overlap_by_half_are_refused(tmp_path):
    write_parts(tmp_path, np.array([0, 40]))
    with pytest.raises(Mismatch, match="1 of 2 training rows are in the database"):
        open_matrices("parts", str(tmp_path))


@pytest.mark.parametrize(
    "names",
    [
        "XTest YTest testL XDatabase YDatabase databaseL",
        "VTest YTest testL VDatabase YDatabase databaseL",
        "ImgQuery TagQuery LabQuery ImgDataBase TagDataBase LabDataBase",
    ],
)
def test_parts_under_other_names(tmp_path, names):
    arrays = [image_matrix(), text_matrix(), label_matrix()]
    values = [array[:10] for array in arrays] + [array[10:] for array in arrays]
    files.python_h5(tmp_path / "set.h5", **dict(zip(names.split(), values, strict=True)))
    pairs = open_matrices("parts", str(tmp_path))
    assert pairs.given.tolist() == ["query"] * 10 + ["database"] * (N - 10)
    np.testing.assert_array_equal(read(pairs)[2], text_matrix())


def pixels() -> np.ndarray:
    """uint8 as MATLAB has them: width x height x 3 x n."""
    return np.zeros((4, 4, 3, N), dtype=np.uint8)


def test_pixels_are_refused_with_a_way_out(tmp_path):
    files.matlab73(tmp_path / "mirflickr25k-iall.mat", IAll=pixels())
    files.matlab5(tmp_path / "mirflickr25k-yall.mat", YAll=text_matrix())
    files.matlab5(tmp_path / "mirflickr25k-lall.mat", LAll=label_matrix())
    with pytest.raises(BadInput, match=r"pixels, 60 x 3 x 4 x 4 .*--image-features FILE"):
        open_matrices("mirflickr", str(tmp_path))
    np.save(tmp_path / "clip.npy", image_matrix())
    assert_is_the_set(open_matrices("mirflickr", str(tmp_path), image_features=str(tmp_path / "clip.npy")))


def test_features_beside_the_pixels_are_preferred(tmp_path):
    path = tmp_path / "FLICKR-25K.mat"
    files.matlab73(path, images=pixels(), XAll=image_matrix(), YAll=text_matrix(), LAll=label_matrix())
    assert_is_the_set(open_matrices("one-file", str(path)))


def test_texts_from_another_file(tmp_path):
    path = tmp_path / "set" / "x.mat"
    files.matlab5(path, XAll=image_matrix(), YAll=image_matrix(), LAll=label_matrix())
    files.matlab73(tmp_path / "doc2vec.mat", doc2vec=text_matrix())
    assert_is_the_set(open_matrices("one-file", str(path), text_features=str(tmp_path / "doc2vec.mat")))


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"YAll": text_matrix(50)}, r"different numbers of pairs: image 60 x 5 .*text 7 x 50 .*labels 60 x 4"),
        ({"LAll": label_matrix() * 2}, "row 0, class 0 is 2.* zeros and ones"),
        ({"LAll": np.where(label_matrix() > 0, np.nan, 0.0)}, "class 0 is nan"),
        ({"LAll": np.full((N, 1), -1.0)}, "class numbers in .*row 0 is -1.0"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, replaced, words):
    with pytest.raises(BadInput, match=words):
        open_matrices("mirflickr", str(files.by_letter(tmp_path, "mirflickr25k", "iall-vgg", **replaced)))


def test_missing_files_and_variables_are_named_with_what_is_there(tmp_path):
    with pytest.raises(BadInput, match=r"no file mirflickr25k-iall-vgg.mat or .*there are: none"):
        open_matrices("mirflickr", str(tmp_path))
    files.matlab5(tmp_path / "set.mat", XAll=image_matrix(), Tags=text_matrix())
    with pytest.raises(BadInput, match=r"text in .*no variable YAll: set.mat has XAll, Tags"):
        open_matrices("one-file", str(tmp_path))


@pytest.mark.parametrize("name", ["x.mat", "x.h5", "image.npy"])
def test_broken_files_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"no such format" * 20)
    with pytest.raises(BadInput, match=f"reading .*{name}: not readable"):
        open_matrices("npy" if name.endswith("npy") else "one-file", str(tmp_path))


def test_remote_and_absent_places_are_refused():
    with pytest.raises(BadInput, match="remote place"):
        open_matrices("npy", "s3://bucket/set")
    with pytest.raises(BadInput, match="no such file or folder"):
        open_matrices("npy", "/nowhere/at/all")


def test_a_missing_package_is_said(tmp_path, monkeypatch):
    files.matlab5(tmp_path / "x.mat", XAll=image_matrix(), YAll=text_matrix(), LAll=label_matrix())
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(BadInput, match=r"h5py is not installed. pip install 'xhash-ray\[datasets\]'"):
        open_matrices("one-file", str(tmp_path))
