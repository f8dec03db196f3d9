"""What every hashing method promises, whatever paper it comes from."""

import dataclasses
import functools
import sys
from typing import Any

import numpy as np
import pytest
import torch

from xhash_ray import methods
from xhash_ray.errors import BadInput, BadOption, Mismatch
from xhash_ray.learning.loop import fit, schedule
from xhash_ray.learning.sources import Resident
from xhash_ray.methods.artefacts import bit_health, code_health, facts_of, model_card, to_method, weights_of
from xhash_ray.methods.base import Batch, Method, Shape, TrainingPairs, World
from xhash_ray.storage.artefact import Artefact, read_artefact, write_artefact

SHAPE = Shape(bits=16, image_length=12, text_length=10, classes=4)
PAIRS, BATCH, EPOCHS = 96, 32, 6
SMALL = {"epochs": EPOCHS, "batch_size": BATCH, "hidden": 64}  # for methods that have such a setting
SMALL |= {"semantic": 16, "label_passes": 3, "image_passes": 3, "text_passes": 3}

every_method = pytest.mark.parametrize("name", methods.available())


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small matrices: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def paired_features(seed: int = 1) -> TrainingPairs:
    """Features of both modalities, made from what a pair has in common and some noise; classes by its part."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(PAIRS, 4, generator=generator)
    image, text = (
        shared @ torch.randn(4, length, generator=generator) + 0.1 * torch.randn(PAIRS, length, generator=generator)
        for length in (SHAPE.image_length, SHAPE.text_length)
    )
    labels = torch.nn.functional.one_hot(shared.argmax(dim=1), SHAPE.classes).float()
    return TrainingPairs(image, text, labels, PAIRS)


def source(seed: int = 3) -> Resident:
    """The paired features as training data."""
    image, text, labels, _ = paired_features()
    return Resident(image, text, labels, BATCH, seed, World())


def created(name: str, shape: Shape = SHAPE, **settings: Any) -> Method:
    """A method with fixed first weights, small and trained for few epochs."""
    torch.manual_seed(5)
    known = {field.name for field in dataclasses.fields(methods.load(name).settings_type)}
    small = {setting: value for setting, value in SMALL.items() if setting in known}
    return methods.create(name, shape, small | settings)


def train(name: str, seed: int = 3) -> tuple[Method, list[float]]:
    """A method after a short training, and its loss per epoch."""
    method, losses = created(name), []
    fit(method, source(seed), World(), seed, lambda _, terms: losses.append(terms["loss"]))
    return method, losses


trained = functools.cache(train)


def prepared(name: str) -> Method:
    """A method before its first step."""
    method = created(name)
    method.prepare(paired_features(), 3)
    method.start_epoch(0)
    return method


def terms_of(method: Method, batch: Batch) -> dict[str, float]:
    """Every term of every phase on one batch."""
    found = {}
    for phase in phases_of(method):
        torch.manual_seed(11)
        found |= {f"{phase}.{name}": value.item() for name, value in method(batch, phase, World()).items()}
    return found


def phases_of(method: Method) -> list[str]:
    """The phases that the passes of a whole training name, less those without gradients."""
    named = dict.fromkeys(phase for entry in schedule(method) for phase in entry.phases)
    return [phase for phase in named if phase not in method.gradient_free]


def batch_of(rows: torch.Tensor) -> Batch:
    """Some of the paired features."""
    image, text, labels, _ = paired_features()
    return Batch(image[rows], text[rows], labels[rows], rows)


def test_there_are_methods():
    assert "jdsh" in methods.available()
    assert not set(methods.available()) & methods.SHARED


@every_method
def test_it_is_declared(name):
    kind = methods.load(name)
    assert issubclass(kind, Method)
    assert str(kind.year) in kind.paper
    assert kind.against_collapse.strip()
    assert len(set(kind.phases)) == len(kind.phases)
    assert kind.adversaries <= set(kind.phases)


@every_method
def test_its_docstring_reads_like_the_paper(name):
    text = sys.modules[methods.load(name).__module__].__doc__
    for heading in ("Paper ", "Symbols", "Loss ", "Where we differ"):
        assert f"\n{heading}" in text


@every_method
def test_every_setting_names_its_source_and_meaning(name):
    for field in dataclasses.fields(methods.load(name).settings_type):
        assert field.metadata.get("source", "").strip(), field.name
        assert field.metadata.get("help", "").strip(), field.name


@every_method
def test_a_supervised_method_refuses_unlabelled_pairs(name):
    if methods.load(name).supervised:
        with pytest.raises(BadInput, match="no labels"):
            created(name, SHAPE._replace(classes=0))
    else:
        created(name, SHAPE._replace(classes=0)).prepare(paired_features()._replace(labels=None), 3)


@every_method
@pytest.mark.parametrize("bits", [8, 24, 64])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_codes_have_bits_over_eight_bytes(name, bits, rows):
    method = created(name, SHAPE._replace(bits=bits))
    image, text, _, _ = pairs = paired_features()
    method.prepare(pairs, 3)
    for modality, features in (("image", image[:rows]), ("text", text[:rows])):
        codes = method.eval().encode(modality, features)
        assert (codes.shape, codes.dtype) == ((rows, bits // 8), np.uint8)


@every_method
def test_outputs_are_real_rows_of_bits(name):
    method = prepared(name).eval()
    image, text, _, _ = paired_features()
    for outputs in (method.image_outputs(image), method.text_outputs(text)):
        assert outputs.shape == (PAIRS, SHAPE.bits)
        assert outputs.dtype == torch.float32
        assert outputs.isfinite().all()


@every_method
def test_terms_are_finite_scalars(name):
    method = prepared(name)
    for phase in phases_of(method):
        terms = method(batch_of(torch.arange(BATCH)), phase, World())
        assert terms
        assert all(value.shape == () and value.isfinite() for value in terms.values())


@every_method
def test_the_loss_falls(name):
    method, losses = trained(name)
    assert len(losses) == (EPOCHS if schedule(method) else 1)
    assert losses[-1] < losses[0] or (not phases_of(method) and not any(losses))


@every_method
def test_every_phase_moves_weights(name):
    method = prepared(name)
    for phase in phases_of(method):
        before = {key: value.clone() for key, value in method.state_dict().items()}
        optimizer = method.optimizer_of(phase)
        sum(method(batch_of(torch.arange(BATCH)), phase, World()).values()).backward()
        optimizer.step()
        assert any(not torch.equal(value, before[key]) for key, value in method.state_dict().items())


@every_method
def test_the_order_of_a_batch_changes_no_term(name):
    method = prepared(name).eval()  # dropout off: its mask belongs to places in the batch, not to pairs
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(2))
    plain, permuted = terms_of(method, batch_of(torch.arange(BATCH))), terms_of(method, batch_of(order))
    assert permuted == pytest.approx(plain, rel=1e-4, abs=1e-6)


@every_method
def test_a_code_depends_on_its_own_row_and_modality_alone(name):
    method, _ = trained(name)
    image, text, _, _ = paired_features()
    for modality, features in (("image", image), ("text", text)):
        together = method.encode(modality, features)
        alone = np.concatenate([method.encode(modality, features[row : row + 1]) for row in range(PAIRS)])
        assert np.unpackbits(together ^ alone).mean() < 0.01  # sums of other lengths may round a sign differently


@every_method
def test_trained_codes_bring_pairs_together(name):
    method, _ = trained(name)
    image, text, _, _ = paired_features()
    codes = [np.unpackbits(method.encode(*given), axis=1) for given in (("image", image), ("text", text))]
    own = (codes[0] != codes[1]).sum(axis=1).mean()
    other = (codes[0] != np.roll(codes[1], 1, axis=0)).sum(axis=1).mean()
    assert own < other


@every_method
@pytest.mark.parametrize(("setting", "nearest"), [("epoch", "epochs"), ("batchsize", "batch_size")])
def test_an_unknown_setting_names_the_nearest(name, setting, nearest):
    with pytest.raises(BadOption, match=f"unknown option '{setting}'.*Did you mean '{nearest}'"):
        created(name, **{setting: 1})


@every_method
def test_a_setting_of_the_wrong_type_is_refused(name):
    with pytest.raises(BadOption, match="'many' is not of type int"):
        created(name, epochs="many")


@every_method
@pytest.mark.parametrize("bits", [0, 7, 60, 2048])
def test_a_bad_code_length_is_refused(name, bits):
    with pytest.raises(BadInput, match=f"{bits} bits"):
        created(name, SHAPE._replace(bits=bits))


@every_method
def test_settings_come_back_with_defaults_filled_in(name):
    found = methods.settings_of(created(name))
    assert (found["epochs"], found["batch_size"]) == (EPOCHS, BATCH)
    assert methods.settings_of(methods.create(name, SHAPE, found)) == found


@every_method
def test_a_stored_model_gives_the_same_codes(name, tmp_path):
    method, _ = trained(name)
    facts = {**facts_of(name, method), "encoder": {}, "training": {"pairs": PAIRS}}
    assert not [key for key in weights_of(method) if key.split(".")[0] in method.training_only]
    write_artefact(str(tmp_path), facts, weights_of(method), model_card(facts))
    again = to_method(read_artefact(str(tmp_path)))
    assert not again.training
    for modality, features in zip(("image", "text"), paired_features(2)[:2], strict=True):
        np.testing.assert_array_equal(again.encode(modality, features), method.encode(modality, features))


@every_method
def test_weights_that_do_not_fit_are_refused(name):
    method = created(name)
    facts = facts_of(name, method)
    weights = weights_of(method)
    weights.pop(next(iter(weights)))
    with pytest.raises(Mismatch, match=f"loading a {name} model"):
        to_method(Artefact(facts, weights))


@every_method
def test_the_same_seed_gives_the_same_weights_and_another_gives_others(name):
    first, second, other = (weights_of(train(name, seed)[0]) for seed in (3, 3, 4))
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value)
    differs = any(not np.array_equal(other[key], value) for key, value in first.items())
    assert differs or not methods.load(name).phases


@every_method
def test_training_leaves_the_method_ready_to_encode(name):
    method, _ = trained(name)
    assert not method.training


@every_method
def test_the_model_card_names_method_paper_and_settings(name):
    method = created(name)
    card = model_card({**facts_of(name, method), "training": {"pairs": 96}})
    for words in (name, methods.load(name).paper, "16 bits", *methods.settings_of(method), "pairs: 96"):
        assert words in card


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(BadOption, match=r"unknown method 'jdhs'.*Did you mean 'jdsh'"):
        methods.load("jdhs")


@pytest.mark.parametrize("name", sorted(methods.SHARED))
def test_shared_files_are_no_methods(name):
    with pytest.raises(BadOption, match="unknown method"):
        methods.load(name)


@every_method
def test_code_health_counts_stuck_bits_and_distinct_codes(name):
    method = prepared(name).eval()
    image, text, _, _ = paired_features()
    method.encode = lambda modality, rows: np.tile(np.array([[0x00, 0x0F]], np.uint8), (len(rows), 1))
    health = code_health(method, image, text)
    found = {"stuck_bits": 16, "duplicate_bits": 0, "mean_bit": 0.25, "distinct": round(1 / PAIRS, 4)}
    assert health["image"] == health["text"] == found


def test_a_bit_that_repeats_another_or_its_opposite_is_a_duplicate():
    bits = np.random.default_rng(3).integers(0, 2, (400, 8))
    bits[:, 3], bits[:, 5] = bits[:, 1], 1 - bits[:, 1]
    assert bit_health(np.packbits(bits.astype(np.uint8), axis=1))["duplicate_bits"] == 2
