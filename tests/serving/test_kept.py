"""What is kept: the lately used, never more than so many, and nothing that could not be made."""

import pytest

from xhash_ray.serving.kept import Kept


def test_the_longest_unused_is_let_go_before_the_next_is_made():
    kept: Kept[int, int] = Kept(2)
    sizes = []

    def make(number: int) -> int:
        sizes.append(len(kept.values))
        return 10 * number

    for number in (1, 2, 1, 3):
        assert kept.get(number, lambda number=number: make(number)) == 10 * number
    assert list(kept.values) == [1, 3], "1 was used after 2"
    assert max(sizes) < 2, "room is made first"


def test_the_last_used_is_the_last():
    kept: Kept[int, str] = Kept(2)
    assert kept.last() is None
    for number in (1, 2, 1):
        kept.get(number, lambda number=number: f"made {number}")
    assert kept.last() == "made 1"


def test_what_cannot_be_made_is_not_kept():
    kept: Kept[int, int] = Kept(2)
    with pytest.raises(ZeroDivisionError):
        kept.get(1, lambda: 1 // 0)
    assert kept.get(1, lambda: 5) == 5
