"""What all tests share: checked shapes, real data by environment variable, programs, skips that CI refuses."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Shapes and types in signatures are checked while tests run, and cost nothing otherwise.
install_import_hook(
    ["xhash_ray.core", "xhash_ray.datasets", "xhash_ray.methods", "xhash_ray.evaluation"], "beartype.beartype"
)

MISSING_PROGRAM = "missing program: "
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def program():
    """Finds a system program, or skips saying so; in CI such a skip is a failure (see below)."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{MISSING_PROGRAM}{name}")
        return path

    return find


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
