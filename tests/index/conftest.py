"""A small index and its model, for the tests of this room."""

from tests.index.samples import index, model  # noqa: F401 (fixtures)
