"""What all tests share: checked shapes, real data by environment variable, programs, skips that CI refuses."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Shapes and types in signatures are checked while tests run, and cost nothing otherwise.
install_import_hook(
    ["xhash_ray.core", "xhash_ray.datasets", "xhash_ray.methods", "xhash_ray.evaluation"], "beartype.beartype"
)

# A machine that is slow or stands still for a while fails no test. What CI's own profile says besides stays.
settings.register_profile(
    "patient", settings.get_profile("ci" if os.environ.get("CI") else "default"), deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("patient")

MISSING_PROGRAM = "missing program: "
REPOSITORY = Path(__file__).parents[1]
WITH_RAY = "tests/runtime/"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes each takes whole files, and one of them all files that need Ray's one head."""
    from xdist.scheduler import LoadScopeScheduling

    class Shares(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return WITH_RAY if nodeid.startswith(WITH_RAY) else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return Shares(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs Ray begins: it takes longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(WITH_RAY))


@pytest.fixture
def program():
    """Finds a system program, or skips saying so; in CI such a skip is a failure (see below)."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{MISSING_PROGRAM}{name}")
        return path

    return find


@contextmanager
def network_lock(how: int) -> Iterator[None]:
    """Holds the lock of this machine's network addresses, shared or for oneself alone (fcntl.LOCK_SH, LOCK_EX)."""
    path = Path(tempfile.gettempdir(), f"xhash-tests-network-{os.getuid()}")
    with path.open("w") as file:
        fcntl.flock(file, how)
        yield


@pytest.fixture
def network_at_rest() -> Iterator[None]:
    """Nobody adds or removes addresses meanwhile: browsers drop what they ask for then (ERR_NETWORK_CHANGED)."""
    with network_lock(fcntl.LOCK_SH):
        yield


@pytest.fixture(scope="module")
def network_of_ones_own() -> Iterator[None]:
    """Leave to add and remove addresses of this machine, for the tests of a module."""
    with network_lock(fcntl.LOCK_EX):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets: XHASH_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("XHASH_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data is absent: no {folder.name}/ (set XHASH_DATA)")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI, a test that was skipped for a missing program has failed."""
    report = yield
    reason = str(report.longrepr[2]) if report.skipped and isinstance(report.longrepr, tuple) else ""
    if os.environ.get("CI") == "true" and MISSING_PROGRAM in reason:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: {reason}; CI installs what tests need, see .ci/run"
    return report
