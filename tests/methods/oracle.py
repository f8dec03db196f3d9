"""What the tests of several methods write as plain loops over Python numbers."""

import math

import torch

from xhash_ray import methods
from xhash_ray.methods.base import Batch, Method, Shape, TrainingPairs, World

Row = list[float]
Rows = list[Row]


def inner(x: Row, y: Row) -> float:
    """Inner product."""
    return sum(a * b for a, b in zip(x, y, strict=True))


def cosine(x: Row, y: Row) -> float:
    """Cosine of two vectors, 0 where one of them is zero."""
    lengths = math.sqrt(inner(x, x)) * math.sqrt(inner(y, y))
    return inner(x, y) / lengths if lengths else 0.0


def unit(x: Row) -> Row:
    """A vector brought to length 1."""
    length = math.sqrt(inner(x, x))
    return [value / length for value in x]


def squashed(rows: Rows, a: float = 1.0) -> Rows:
    """tanh(a h), each row brought to length 1."""
    return [unit([math.tanh(a * value) for value in row]) for row in rows]


def inners(X: Rows, Y: Rows) -> Rows:
    """Inner products of every row of X with every row of Y."""
    return [[inner(x, y) for y in Y] for x in X]


def mean_square(X: Rows, Y: Rows) -> float:
    """Mean over all entries of (x - y)^2."""
    values = [(a - b) ** 2 for x, y in zip(X, Y, strict=True) for a, b in zip(x, y, strict=True)]
    return sum(values) / len(values)


def affinities(features: Rows, mean: Row) -> Rows:
    """(1 + cosine) / 2 of centred features."""
    centred = [[value - m for value, m in zip(row, mean, strict=True)] for row in features]
    return [[(1 + cosine(x, y)) / 2 for y in centred] for x in centred]


def affinities_as_they_are(features: Rows) -> Rows:
    """Cosines of features without negative values."""
    return [[cosine(x, y) for y in features] for x in features]


def entrywise(function, *matrices: Rows) -> Rows:
    """A function of the entries at one place of several matrices."""
    return [[function(*entries) for entries in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def transposed(X: Rows) -> Rows:
    """Columns as rows."""
    return [list(column) for column in zip(*X, strict=True)]


def ready(name: str, signed: bool, n: int = 6, lengths: tuple[int, int] = (5, 4), **settings) -> tuple[Method, Batch]:
    """A small method in evaluation mode (running means, no dropout) and a batch for it."""
    generator = torch.Generator().manual_seed(n)
    image, text = (torch.randn(n, length, generator=generator) for length in lengths)
    if not signed:
        image, text = image.abs(), text.abs()
    torch.manual_seed(7)
    method = methods.create(name, Shape(8, *lengths, classes=2), {"hidden": 32, "batch_size": n, **settings})
    labels = torch.nn.functional.one_hot(torch.arange(n) % 2, 2).float()
    method.prepare(TrainingPairs(image, text, labels, n), 1)
    method.start_epoch(0)
    return method.eval(), Batch(image, text, labels, torch.arange(n))


def terms(method: Method, batch: Batch, phase: str | None = None) -> dict[str, float]:
    """The terms of one phase as numbers."""
    found = method(batch, phase or method.phases[0], World())
    return {name: value.item() for name, value in found.items()}
