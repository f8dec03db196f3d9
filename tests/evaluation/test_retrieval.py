"""Retrieval both ways: parts add up to the whole, and sides that do not belong together are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core.shards import even_split
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.evaluation.average_precision import of_codes, of_scores
from xhash_ray.evaluation.relevance import check_same_classes, label_matrix, pack_labels, shares_a_label
from xhash_ray.evaluation.retrieval import (
    Retrievables,
    check_comparable,
    evaluate_rows,
    mean_average_precision,
    unit_rows,
)

CLASSES = 5


def some_labels(n: int, seed: int) -> list[list[int]]:
    """None, one or several labels each."""
    rng = np.random.default_rng(seed)
    return [np.flatnonzero(row).tolist() for row in rng.random((n, CLASSES)) < 0.25]


def codes(n: int, seed: int = 0, width: int = 2) -> Retrievables:
    """Random codes of both modalities."""
    rng = np.random.default_rng(seed)
    arrays = {name: rng.integers(0, 256, (n, width), dtype=np.uint8) for name in ("image", "text")}
    return Retrievables("codes", arrays, some_labels(n, seed))


def features(n: int, seed: int = 0, image: int = 6, text: int = 6) -> Retrievables:
    """Random features of both modalities."""
    rng = np.random.default_rng(seed)
    arrays = {
        "image": rng.standard_normal((n, image)).astype(np.float32),
        "text": rng.standard_normal((n, text)).astype(np.float32),
    }
    return Retrievables("features", arrays, some_labels(n, seed))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.integers(1, 12), st.integers(1, 5), st.sampled_from([codes, features]))
def test_parts_add_up_to_the_whole(seed, n, parts, make):
    queries, database = make(n, seed), make(20, seed + 1)
    whole = evaluate_rows(queries, database, CLASSES)
    pieces = [
        evaluate_rows(queries.rows(start, stop), database, CLASSES)
        for start, stop in even_split(n, parts)
        if stop > start
    ]
    assert set(whole) == {"image_to_text", "text_to_image", "queries", "without_relevant", "chance"}
    for name, value in whole.items():
        assert sum(piece[name] for piece in pieces) == pytest.approx(value)


def test_each_direction_ranks_the_other_modality():
    queries, database = codes(6, 1), codes(15, 2)
    relevant = shares_a_label(label_matrix(queries.labels, CLASSES), label_matrix(database.labels, CLASSES))
    sums = evaluate_rows(queries, database, CLASSES)
    forth = of_codes(queries.arrays["image"], database.arrays["text"], relevant)
    back = of_codes(queries.arrays["text"], database.arrays["image"], relevant)
    assert sums["image_to_text"] == pytest.approx(forth.sum())
    assert sums["text_to_image"] == pytest.approx(back.sum())


def test_features_are_ranked_by_cosine():
    queries, database = features(6, 1), features(15, 2)
    relevant = shares_a_label(label_matrix(queries.labels, CLASSES), label_matrix(database.labels, CLASSES))
    scores = unit_rows(queries.arrays["image"]) @ unit_rows(database.arrays["text"]).T
    sums = evaluate_rows(queries, database, CLASSES)
    assert sums["image_to_text"] == pytest.approx(of_scores(scores, relevant).sum())


def test_queries_and_chance_are_counted():
    arrays = {name: np.zeros((3, 1), np.uint8) for name in ("image", "text")}
    queries = Retrievables("codes", arrays, [[0], [1], []])
    database = Retrievables("codes", arrays, [[0], [0, 2], [2]])
    sums = evaluate_rows(queries, database, CLASSES)
    assert (sums["queries"], sums["without_relevant"]) == (3, 2)
    assert sums["chance"] == pytest.approx(2 / 3)


def test_the_length_of_a_feature_does_not_matter():
    queries, database = features(6, 1), features(15, 2)
    longer = Retrievables("features", {name: 8 * a for name, a in queries.arrays.items()}, queries.labels)
    assert evaluate_rows(longer, database, CLASSES) == pytest.approx(evaluate_rows(queries, database, CLASSES))


def test_unit_rows_have_length_one_and_zero_rows_stay_zero():
    rows = unit_rows(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_rows_cut_every_array_and_the_labels():
    part = codes(10).rows(2, 5)
    np.testing.assert_array_equal(part.arrays["text"], codes(10).arrays["text"][2:5])
    assert part.labels == codes(10).labels[2:5]


@pytest.mark.parametrize(
    ("queries", "database"),
    [(codes(2), codes(3)), (features(2), features(3)), (features(2, 0, 4, 6), features(2, 0, 6, 4))],
)
def test_comparable_sides_pass(queries, database):
    check_comparable(queries, database)


def test_codes_against_features_are_refused():
    with pytest.raises(Mismatch, match="queries are codes, database features"):
        check_comparable(codes(2), features(2))


@pytest.mark.parametrize(
    ("queries", "database", "words"),
    [
        (codes(2, width=2), codes(2, width=4), "Encode both with one model"),
        (features(2, 0, 4, 6), features(2, 0, 4, 6), "images of length 4 against texts of length 6"),
    ],
)
def test_sides_of_other_lengths_are_refused(queries, database, words):
    with pytest.raises(BadInput, match=words):
        check_comparable(queries, database)


def test_label_matrix_marks_labels():
    assert label_matrix([[0, 2], [], [1, 1]], 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("number", [-1, 3])
def test_labels_outside_the_classes_are_refused(number):
    with pytest.raises(BadInput, match=f"label number {number} of 3 classes"):
        label_matrix([[0], [number]], 3)


def test_items_that_share_a_label_are_relevant():
    left, right = label_matrix([[0, 1], [2], []], 3), label_matrix([[1], [2, 0], []], 3)
    assert shares_a_label(left, right).tolist() == [[True, True, False], [False, True, False], [False] * 3]


def test_map_of_codes_is_the_mean_of_the_definition():
    rng = np.random.default_rng(1)
    queries, database = (rng.integers(0, 256, (n, 3), dtype=np.uint8) for n in (9, 40))
    query_labels, labels = ((rng.random((n, CLASSES)) < 0.3).astype(np.float32) for n in (9, 40))
    query_labels[0] = 0  # nothing is relevant to this one
    relevant = shares_a_label(query_labels, labels)
    value = mean_average_precision(queries, database, query_labels, labels, threads=1)
    assert value == pytest.approx(of_codes(queries, database, relevant).mean())
    assert mean_average_precision(queries, database, query_labels > 0, labels.astype(np.int64)) == value
    assert mean_average_precision(queries[:0], database, query_labels[:0], labels) == 0.0


def test_labels_of_other_classes_are_refused():
    codes_, labels = np.zeros((2, 1), np.uint8), np.ones((2, 3))
    with pytest.raises(Mismatch, match="queries of 2 classes, items of 3"):
        check_same_classes(labels[:, :2], labels)
    assert mean_average_precision(codes_, codes_, labels, labels) == 1.0


def test_labels_are_packed_one_bit_per_class():
    matrix = np.zeros((2, 66))
    matrix[0, [0, 3, 65]] = [1, 0.5, 2]
    assert pack_labels(matrix).tolist() == [[0b1001, 0b10], [0, 0]]
    assert pack_labels(matrix[:, :0]).tolist() == [[0], [0]]
