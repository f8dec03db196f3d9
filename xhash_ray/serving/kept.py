"""The few things lately used that are worth their memory: generations, models, filters."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """Values by key, made when they are first asked for; of more than `most` the one longest unused is let go.

    One thread makes a value at a time, and room is made before: there are never more than `most`. Those that are there
    can be had meanwhile.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.values: OrderedDict[Key, Value] = OrderedDict()
        self.lock, self.making = threading.Lock(), threading.Lock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key. Raises what `make` raises; nothing is kept then."""
        found = self.known(key)
        if found is None:
            with self.making:
                found = self.known(key)
                if found is None:
                    with self.lock:
                        while len(self.values) >= self.most:
                            self.values.popitem(last=False)
                    found = (make(),)
                    with self.lock:
                        self.values[key] = found[0]
        return found[0]

    def last(self) -> Value | None:
        """The value used last; None where there is none."""
        with self.lock:
            return next(reversed(self.values.values()), None)

    def all(self) -> dict[Key, Value]:
        """All that is there; none counts as used."""
        with self.lock:
            return dict(self.values)

    def known(self, key: Key) -> tuple[Value] | None:
        """The value of a key in a tuple, None where it is not there."""
        with self.lock:
            if key not in self.values:
                return None
            self.values.move_to_end(key)
            return (self.values[key],)
