"""Waiting for what another thread, process or machine will do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_until(true: Callable[[], Any], or_else: Callable[[], str] = lambda: "", patience_s: float = 120.0) -> Any:
    """What becomes true.

    Args:
        true: Asked again and again.
        or_else: Why it no longer can become true, if so.
        patience_s: Longest wait: generous, the machine may be busy.
    """
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s:
        if found := true():
            return found
        reason = or_else()
        assert not reason, reason
        time.sleep(0.02)
    raise AssertionError(f"it did not happen within {patience_s:.0f} s")
