"""Codes of the queries that came last, by modality: do they still look like what is stored?"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

KEPT = 4096
ENOUGH = 200  # fewer say little: shares of ones of so many are off by 0.03 by chance


class QuerySample:
    """The last queries of each modality.

    Args:
        most: That are kept of each.
    """

    def __init__(self, most: int = KEPT) -> None:
        self.most, self.model = most, ""
        self.codes: dict[str, deque[bytes]] = {}

    def add(self, model: str, modality: str, code: bytes) -> None:
        """Keeps a code; those of another model are forgotten, for their bits mean something else.

        Args:
            model: Its fingerprint.
            modality: Of the query.
            code: uint8 [bits / 8].
        """
        if model != self.model:
            self.model, self.codes = model, {}
        kept = self.codes.get(modality)
        if kept is None:
            kept = self.codes[modality] = deque(maxlen=self.most)
        kept.append(code)

    def taken(self, model: str) -> Mapping[str, UInt8[np.ndarray, "n bytes"]]:
        """What is kept of a model's queries, uint8 [n, bits / 8] by modality; of modalities with enough of them.

        Called where `add` is: not from another thread.
        """
        if model != self.model:
            return {}
        return {
            modality: np.frombuffer(b"".join(kept), np.uint8).reshape(len(kept), -1)
            for modality, kept in self.codes.items()
            if len(kept) >= ENOUGH
        }
