"""What an evaluation measures, and in which directions."""

from collections.abc import Sequence
from dataclasses import dataclass

from xhash_ray.errors import BadInput

ACROSS = (("image_to_text", "image", "text"), ("text_to_image", "text", "image"))
WITHIN = (("image_to_image", "image", "image"), ("text_to_text", "text", "text"))
MODALITIES_OF = {name: (source, target) for name, source, target in ACROSS + WITHIN}
WITHIN_NAMES = {name for name, _, _ in WITHIN}


@dataclass(frozen=True)
class Protocol:
    """What is measured.

    Attributes:
        directions: Names from MODALITIES_OF.
        definitions: Names from `published.DEFINITIONS`, beside the tie-aware measures.
        k: Cut-off of the published definitions.
        cutoffs: Places N of precision@N, recall@N and NDCG@N, ascending.
    """

    directions: Sequence[str] = ("image_to_text", "text_to_image")
    definitions: Sequence[str] = ()
    k: int = 50
    cutoffs: Sequence[int] = (1, 10, 100, 1000)

    def __post_init__(self) -> None:
        """Raises BadInput for cut-offs below 1."""
        if min([self.k, *self.cutoffs]) < 1:
            raise BadInput("cut-offs", f"{min([self.k, *self.cutoffs])}", "Give places from 1 on")


def curve_places(items: int) -> list[int]:
    """Where the precision@N curve is taken: 1, 2, 5, 10, ... and the whole database, whose precision is chance."""
    series = [step * 10**power for power in range(len(str(items))) for step in (1, 2, 5)]
    return [*(place for place in series if place < items), *([items] if items else [])]
