"""Retrieval in every direction: parts add up to the whole, and sides that do not belong together are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core.shards import even_split
from xhash_ray.errors import BadInput, BadOption, Mismatch
from xhash_ray.evaluation import summary
from xhash_ray.evaluation.average_precision import of_codes, of_scores
from xhash_ray.evaluation.protocol import ACROSS, WITHIN, Protocol, curve_places
from xhash_ray.evaluation.published import DEFINITIONS
from xhash_ray.evaluation.relevance import (
    check_same_classes,
    label_matrix,
    pack_label_numbers,
    pack_labels,
    shares_a_label,
    widen,
)
from xhash_ray.evaluation.retrieval import (
    Retrievables,
    check_comparable,
    chosen_directions,
    evaluate_rows,
    mean_average_precision,
    measure_codes,
    own_rows,
    unit_rows,
)

CLASSES = 5
EVERYTHING = Protocol(tuple(name for name, _, _ in ACROSS + WITHIN), tuple(DEFINITIONS), 3, (1, 5, 100))


def label_rows(n: int, seed: int) -> np.ndarray:
    """None, one or several labels each, multi-hot."""
    return (np.random.default_rng(seed).random((n, CLASSES)) < 0.25).astype(np.float32)


def codes(n: int, seed: int = 0, width: int = 2) -> Retrievables:
    """Random codes of both modalities."""
    rng = np.random.default_rng(seed)
    arrays = {name: rng.integers(0, 256, (n, width), dtype=np.uint8) for name in ("image", "text")}
    return Retrievables("codes", arrays, pack_labels(label_rows(n, seed)), [f"{seed}-{row}" for row in range(n)])


def features(n: int, seed: int = 0, image: int = 6, text: int = 6) -> Retrievables:
    """Random features of both modalities."""
    rng = np.random.default_rng(seed)
    arrays = {
        "image": rng.standard_normal((n, image)).astype(np.float32),
        "text": rng.standard_normal((n, text)).astype(np.float32),
    }
    return Retrievables("features", arrays, pack_labels(label_rows(n, seed)), [f"{seed}-{row}" for row in range(n)])


def told(queries: Retrievables, database: Retrievables, protocol: Protocol = EVERYTHING) -> dict:
    """The result of a whole evaluation."""
    own = own_rows(queries, database, protocol.directions)
    sums = evaluate_rows(queries, database, protocol, own)
    return summary.of_run(sums, protocol, queries.kind, len(database.labels))


def without(items: Retrievables, row: int) -> Retrievables:
    """All items but one."""
    keep = np.arange(len(items.labels)) != row
    arrays = {name: array[keep] for name, array in items.arrays.items()}
    return Retrievables(items.kind, arrays, items.labels[keep], [items.ids[i] for i in np.flatnonzero(keep)])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 4), st.sampled_from([codes, features]))
def test_parts_add_up_to_the_whole(seed, n, parts, make):
    queries, database = make(n, seed), make(20, seed)
    own = own_rows(queries, database, EVERYTHING.directions)
    whole = evaluate_rows(queries, database, EVERYTHING, own)
    pieces = [
        evaluate_rows(queries.rows(*part), database, EVERYTHING, own[slice(*part)]) for part in even_split(n, parts)
    ]
    added = summary.add(pieces)
    assert list(added) == list(EVERYTHING.directions)
    for direction, values in whole.items():
        for name, value in values.items():
            np.testing.assert_allclose(added[direction][name], value, err_msg=f"{direction} {name}", atol=1e-12)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 999), st.sampled_from([codes, features]))
def test_the_order_of_the_database_changes_only_stable_definitions(seed, make):
    queries, database = make(4, seed + 1), make(30, seed)
    order = np.random.default_rng(seed).permutation(30)
    arrays = {name: array[order] for name, array in database.arrays.items()}
    shuffled = Retrievables(database.kind, arrays, database.labels[order], [database.ids[i] for i in order])
    before, after = told(queries, database), told(queries, shuffled)
    before.pop("definitions"), after.pop("definitions")
    assert before == after


def test_each_direction_ranks_its_modality():
    queries, database = codes(6, 1), codes(15, 2)
    relevant = shares_a_label(label_rows(6, 1), label_rows(15, 2))
    found = told(queries, database)["map"]
    for name, source, target in ACROSS + WITHIN:
        expected = of_codes(queries.arrays[source], database.arrays[target], relevant).mean()
        assert found[name] == pytest.approx(expected, abs=1e-5)


def test_features_are_ranked_by_cosine():
    queries, database = features(6, 1), features(15, 2)
    relevant = shares_a_label(label_rows(6, 1), label_rows(15, 2))
    scores = unit_rows(queries.arrays["image"]) @ unit_rows(database.arrays["text"]).T
    assert told(queries, database)["map"]["image_to_text"] == pytest.approx(
        of_scores(scores, relevant).mean(), abs=1e-5
    )


@pytest.mark.parametrize("make", [codes, features])
def test_within_a_modality_a_query_does_not_find_itself(make):
    database = make(12, 4)
    query = database.rows(7, 8)
    within = [name for name, _, _ in WITHIN]
    own = own_rows(query, database, EVERYTHING.directions)
    assert own.tolist() == [7]
    kept, dropped = told(query, database), told(query, without(database, 7))
    for measure in ("map", "lowest", "highest"):
        assert [kept[measure][name] for name in within] == [dropped[measure][name] for name in within]
    for definition in DEFINITIONS:
        assert [kept["definitions"][definition][n] for n in within] == [
            dropped["definitions"][definition][n] for n in within
        ]
    for name in within:
        assert kept["measures"][name]["chance"] == dropped["measures"][name]["chance"]
    assert kept["measures"]["image_to_text"]["chance"] != dropped["measures"]["image_to_text"]["chance"]


def test_strangers_are_not_dropped_and_across_nobody_is():
    assert own_rows(codes(3, 1), codes(4, 2), EVERYTHING.directions).tolist() == [-1] * 3
    assert own_rows(codes(3, 1), codes(4, 1), ("image_to_text",)) is None


def test_queries_and_chance_are_counted():
    arrays = {name: np.zeros((3, 1), np.uint8) for name in ("image", "text")}
    queries = Retrievables("codes", arrays, pack_labels(label_matrix([[0], [1], []], 3)))
    database = Retrievables("codes", arrays, pack_labels(label_matrix([[0], [0, 2], [2]], 3)))
    result = told(queries, database, Protocol())
    assert (result["queries"], result["without_relevant"], result["database"]) == (3, 2, 3)
    assert result["chance"] == pytest.approx(2 / 9, abs=1e-5)
    across = result["measures"]["text_to_image"]
    assert across["precision_at"] == pytest.approx(dict.fromkeys(["1", "10", "100", "1000"], 2 / 9), abs=1e-5)
    assert across["recall_at"]["1"] == pytest.approx(1 / 9, abs=1e-5)  # 2/3 of a hit, of 2; 0; 0
    assert (across["precision_within_radius_2"], across["empty_within_radius_2"]) == (pytest.approx(0.22222), 0)


def test_the_curve_of_precision_ends_at_chance():
    measures = told(codes(5, 1), codes(23, 2))["measures"]["image_to_text"]
    curves = measures["curves"]
    assert curves["places"] == [1, 2, 5, 10, 20, 23]
    assert curves["precision_at_places"][-1] == measures["chance"]
    assert curves["radius_recall"][-1] == pytest.approx(1 - measures["without_relevant"] / 5, abs=1e-5)
    assert (len(curves["recall"]), len(curves["precision"]), len(curves["radius_precision"])) == (21, 21, 17)


def test_every_measure_lies_where_it_can():
    result = told(codes(8, 5), codes(60, 6))
    for direction, value in result["map"].items():
        assert result["lowest"][direction] <= value <= result["highest"][direction]
        at_all = result["definitions"]["map_without_zero_hit_queries"][direction]
        share = 1 - result["measures"][direction]["without_relevant"] / 8
        assert result["lowest"][direction] - 1e-4 <= at_all * share <= result["highest"][direction] + 1e-4


def test_one_direction_without_a_cluster():
    queries, database = codes(9, 1), codes(40, 2)
    protocol = Protocol(("image_to_text",), ("map_at_k_over_hits",), 5, (1, 7))
    given_ = (queries.arrays["image"], database.arrays["text"], label_rows(9, 1), label_rows(40, 2))
    alone, run = measure_codes(*given_, protocol, threads=1), told(queries, database, protocol)
    assert alone["map"] == run["map"]["image_to_text"] == round(mean_average_precision(*given_), 5)
    assert alone["definitions"]["map_at_k_over_hits"] == run["definitions"]["map_at_k_over_hits"]["image_to_text"]
    assert alone["ndcg_at"] == run["measures"]["image_to_text"]["ndcg_at"]
    assert list(measure_codes(*given_)["recall_at"]) == ["1", "10", "100", "1000"]


def test_labels_of_different_widths_meet():
    few, many = (
        pack_label_numbers(np.array([0]), np.array([3]), 1),
        pack_label_numbers(np.array([0]), np.array([70]), 2),
    )
    queries, database = widen(few, many)
    assert (queries.tolist(), database.tolist()) == ([[8, 0]], [[0, 64], [0, 0]])
    with pytest.raises(BadInput, match="label number -1"):
        pack_label_numbers(np.array([0]), np.array([-1]), 1)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 69), max_size=4), min_size=1, max_size=6))
def test_label_numbers_and_matrices_pack_alike(labels):
    rows = np.repeat(np.arange(len(labels)), [len(each) for each in labels])
    numbers = np.array([number for each in labels for number in each], dtype=np.int64)
    packed, expected = widen(pack_label_numbers(rows, numbers, len(labels)), pack_labels(label_matrix(labels, 70)))
    np.testing.assert_array_equal(packed, expected)


def test_directions_are_chosen_by_name():
    assert chosen_directions(["all"]) == EVERYTHING.directions
    assert chosen_directions(("text_to_text",)) == ("text_to_text",)
    for wrong in ([], ["image_to_txt"]):
        with pytest.raises(BadOption, match="--directions"):
            chosen_directions(wrong)


def test_places_below_one_are_refused():
    with pytest.raises(BadInput, match="cut-offs: 0"):
        Protocol(cutoffs=(5, 0))


def test_curves_have_few_places():
    assert curve_places(1000) == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    assert curve_places(0) == []


def test_the_length_of_a_feature_does_not_matter():
    queries, database = features(6, 1), features(15, 2)
    longer = Retrievables("features", {name: 8 * a for name, a in queries.arrays.items()}, queries.labels, queries.ids)
    assert told(longer, database) == told(queries, database)


def test_unit_rows_have_length_one_and_zero_rows_stay_zero():
    rows = unit_rows(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_rows_cut_every_array_and_the_labels():
    part = codes(10).rows(2, 5)
    np.testing.assert_array_equal(part.arrays["text"], codes(10).arrays["text"][2:5])
    np.testing.assert_array_equal(part.labels, codes(10).labels[2:5])
    assert part.ids == ["0-2", "0-3", "0-4"]


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
