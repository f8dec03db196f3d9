"""Features at rest: what is written is read, and a row without numbers is named by its id."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.errors import BadInput
from xhash_ray.storage import tables, writing
from xhash_ray.storage.features import from_matrix, load_features, open_features, to_features, to_half, to_matrix
from xhash_ray.storage.where import parse_where


def matrix(n: int, length: int, kind: type = np.float32, seed: int = 0) -> np.ndarray:
    """Rows of normal numbers."""
    return np.random.default_rng(seed).standard_normal((n, length)).astype(kind)


def feature_table(n: int = 5, kind: type = np.float32, **columns: object) -> pa.Table:
    """A table of the format: image features of 3 numbers, text features of 4."""
    content = {
        "id": pa.array([f"pair-{row}" for row in range(n)], pa.string()),
        "image": from_matrix(matrix(n, 3, kind, 1)),
        "text": from_matrix(matrix(n, 4, kind, 2)),
    }
    return pa.table({name: column for name, column in (content | columns).items() if column is not None})


def with_hole(values: np.ndarray, row: int) -> pa.Array:
    """A feature column in which one row is null."""
    rows = [None if number == row else line.tolist() for number, line in enumerate(values)]
    return pa.array(rows, pa.list_(pa.float32(), values.shape[1]))


def stored(folder, table: pa.Table) -> str:
    """The table as one file."""
    tables.write_table(f"{folder}/features.parquet", table)
    return f"{folder}/features.parquet"


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_what_is_written_is_read(tmp_path, kind):
    table = feature_table(kind=kind, labels=pa.array([[0], [1, 2], [], [2], [0]], pa.list_(pa.int32())))
    features = load_features(stored(tmp_path, table))
    assert features.ids == [f"pair-{row}" for row in range(5)]
    assert features.image.dtype == features.text.dtype == np.float32
    np.testing.assert_array_equal(features.image, matrix(5, 3, kind, 1).astype(np.float32))
    np.testing.assert_array_equal(features.text, matrix(5, 4, kind, 2).astype(np.float32))
    assert features.labels == [[0], [1, 2], [], [2], [0]]


def test_what_is_known_before_reading(tmp_path):
    parts = [tables.write_table(f"{tmp_path}/part.parquet", feature_table())]
    writing.commit(str(tmp_path), parts, {"encoder": {"model": "m"}, "classes": ["cat", "dog"]})
    found = open_features(str(tmp_path))
    assert (found.image_length, found.text_length, found.has_labels) == (3, 4, False)
    assert (found.encoder, found.classes) == ({"model": "m"}, ("cat", "dog"))


def test_without_manifest_encoder_and_classes_are_unknown(tmp_path):
    found = open_features(stored(tmp_path, feature_table()))
    assert (found.encoder, found.classes) == ({}, ())


def test_a_missing_list_of_labels_is_an_empty_one(tmp_path):
    labels = pa.array([[0], None, [2]], pa.list_(pa.int32()))
    assert load_features(stored(tmp_path, feature_table(3, labels=labels))).labels == [[0], [], [2]]


def test_unlabelled_features_have_no_labels(tmp_path):
    assert load_features(stored(tmp_path, feature_table())).labels is None


@pytest.mark.parametrize("string", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("integer", [pa.int8(), pa.int32(), pa.int64()])
def test_other_widths_of_the_same_kinds_are_read(tmp_path, string, integer):
    ids = pa.array(["a", "b"], string)
    labels = pa.array([[1], [2]], pa.large_list(integer))
    features = load_features(stored(tmp_path, feature_table(2, id=ids, labels=labels)))
    assert (features.ids, features.labels) == (["a", "b"], [[1], [2]])


def test_a_condition_chooses_rows(tmp_path):
    uri = stored(tmp_path, feature_table(split=["a", "b", "a", "b", "b"]))
    features = load_features(uri, parse_where("split=a"))
    assert features.ids == ["pair-0", "pair-2"]
    np.testing.assert_array_equal(features.image, matrix(5, 3, seed=1)[[0, 2]])


@pytest.mark.parametrize("condition", ["id=nobody", None])
def test_no_rows_are_bad_input(tmp_path, condition):
    uri = stored(tmp_path, feature_table(5 if condition else 0))
    with pytest.raises(BadInput, match="no rows"):
        load_features(uri, parse_where(condition))


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_missing_row_is_named_by_its_id(tmp_path, modality):
    column = with_hole(matrix(5, 3), 3)
    with pytest.raises(BadInput, match=rf"{modality} feature of id 'pair-3' .*1 such rows"):
        load_features(stored(tmp_path, feature_table(**{modality: column})))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("modality", ["image", "text"])
def test_what_is_no_number_is_named_by_its_id(tmp_path, modality, value):
    values = matrix(5, 3)
    values[2, 1] = values[4, 0] = value
    with pytest.raises(BadInput, match=rf"{modality} feature of id 'pair-2' .*2 such rows"):
        load_features(stored(tmp_path, feature_table(**{modality: from_matrix(values)})))


def test_a_hole_inside_a_row_is_named_by_its_id(tmp_path):
    column = pa.array([[1.0, 2.0], [1.0, None], [3.0, 4.0]], pa.list_(pa.float32(), 2))
    with pytest.raises(BadInput, match="image feature of id 'pair-1'"):
        load_features(stored(tmp_path, feature_table(3, image=column)))


@pytest.mark.parametrize("holed", [False, True])
def test_slices_and_chunks_give_their_own_rows(holed):
    values = matrix(9, 3)
    column = with_hole(values, 4) if holed else from_matrix(values)
    expected = values.copy()
    if holed:
        expected[4] = np.nan
    chunks = pa.chunked_array([column.slice(1, 2), column.slice(3, 0), column.slice(3, 4)])
    np.testing.assert_array_equal(to_matrix(chunks), expected[1:7])


def test_a_column_without_chunks_is_empty():
    assert to_matrix(pa.chunked_array([], pa.list_(pa.float32(), 3))).shape == (0, 3)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 12),
    st.integers(1, 6),
    st.sampled_from([np.float16, np.float32]),
    st.integers(0, 9),
    st.data(),
)
def test_matrices_survive_the_format(n, length, kind, seed, data):
    values = matrix(n, length, kind, seed)
    cut = data.draw(st.integers(0, n))
    column = from_matrix(values)
    np.testing.assert_array_equal(to_matrix(pa.chunked_array([column[:cut], column[cut:]])), values.astype(np.float32))


def test_a_table_in_memory_becomes_arrays():
    assert to_features(feature_table(2), "memory").ids == ["pair-0", "pair-1"]


@pytest.mark.parametrize("column", ["id", "image", "text"])
def test_a_missing_column_is_named(tmp_path, column):
    with pytest.raises(BadInput, match=f"column '{column}' is missing"):
        open_features(stored(tmp_path, feature_table(**{column: None})))


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("image", pa.array([[1.0], [1.0, 2.0]], pa.list_(pa.float32())), "'image' is list<"),
        ("text", pa.array([[1], [2]], pa.list_(pa.int32(), 1)), "'text' is fixed_size_list<"),
        ("text", pa.array(["a", "b"]), "'text' is string"),
        ("id", pa.array([1, 2]), "ids are int64"),
        ("labels", pa.array(["cat", "dog"]), "labels are string"),
        ("labels", pa.array([["cat"], ["dog"]]), "labels are list<"),
    ],
)
def test_a_column_of_another_type_is_refused_with_its_type(tmp_path, column, values, words):
    with pytest.raises(BadInput, match=words):
        open_features(stored(tmp_path, feature_table(2, **{column: values})))


def test_features_beyond_float16_are_refused():
    np.testing.assert_array_equal(to_half(np.float32([[0.5, -65504]]), "a"), np.float16([[0.5, -65504]]))
    with pytest.raises(BadInput, match="beyond what float16 holds"):
        to_half(np.float32([[1.0, 7e4]]), "a")
