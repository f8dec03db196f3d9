"""The rooms of the house: who may import whom, and that ray stays in the engine room.

Floors, from the ground up. A file imports only lower floors and its own room, so rooms of one floor do not
know each other. `ray` is imported in runtime/ and cli.py alone.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xhash_ray

PACKAGE = Path(xhash_ray.__file__).parent
FLOORS = (
    ("errors",),
    ("config", "telemetry", "core", "progress", "reports"),
    ("options", "exposition", "dashboards"),
    ("storage",),
    ("corpus", "datasets", "features", "methods", "index", "evaluation", "client", "sizing"),
    ("learning", "serving", "pipeline"),
    ("asking", "catalogue", "exporter", "metrics", "benchmarks", "drilling"),
    ("runtime",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MAY_IMPORT_RAY = {"runtime", "cli"}
PURE = [room for room in FLOOR if room not in MAY_IMPORT_RAY]

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.modules["ray"] = None
for name in sys.argv[1:]:
    room = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(room, "__path__", []), name + "."):
        importlib.import_module(module.name)
assert not [name for name in sys.modules if name.startswith("ray.")]
"""


def room_of(file: Path, package: Path) -> str:
    """The room a file belongs to: its folder or its own name; "" for the package's front door."""
    first = file.relative_to(package).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def absolute_name(node: ast.ImportFrom, file: Path, package: Path) -> str:
    """The module that a `from` names, relative ones resolved."""
    if not node.level:
        return node.module or ""
    folders = [package.name, *file.relative_to(package).parts[:-1]]
    return ".".join([*folders[: len(folders) + 1 - node.level], *([node.module] if node.module else [])])


def imported(file: Path, package: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of everything a file imports, wherever in it; names taken from modules included."""
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = absolute_name(node, file, package)
            names += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return names


def breach(room: str, name: str, package: str) -> str | None:
    """Why a room may not import a name, None when it may."""
    top, _, rest = name.partition(".")
    other = rest.partition(".")[0]
    if top == "ray":
        return None if room in MAY_IMPORT_RAY else "imports ray outside runtime/ and cli.py"
    if top != package or other.startswith("__") or other == room:
        return None
    if room not in FLOOR or other not in FLOOR:
        return f"imports {other} without both rooms having a floor"
    if FLOOR[other] >= FLOOR[room]:
        return f"imports {other}, which is not below {room or 'the front door'}"
    return None


def breaches(package: Path) -> list[str]:
    """Every import of a package that breaks the rules: file, line and why."""
    found = []
    for file in sorted(package.rglob("*.py")):
        room = room_of(file, package)
        if room and room not in FLOOR:
            found.append(f"{file.relative_to(package)}: room '{room}' has no floor")
            continue
        for line, name in imported(file, package):
            reason = breach(room, name, package.name)
            if reason:
                found.append(f"{file.relative_to(package)}:{line}: {reason}")
    return found


def planted(folder: Path, name: str, text: str) -> list[str]:
    """What is found in a small house with one file of the given text."""
    package = folder / "xhash_ray"
    for path, content in {"__init__.py": "", "errors.py": "", "core/__init__.py": "", name: text}.items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(content)
    return breaches(package)


def test_every_import_goes_down():
    assert breaches(PACKAGE) == []


def test_the_checker_sees_the_house():
    files = list(PACKAGE.rglob("*.py"))
    assert len(files) > 30
    assert {room_of(file, PACKAGE) for file in files} >= {"core", "runtime", "cli", "errors"}
    assert any(name.startswith("ray") for _, name in imported(PACKAGE / "runtime" / "cluster.py", PACKAGE))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("core/bits.py", "import xhash_ray.storage.uri", "core/bits.py:1: imports storage"),
        ("core/bits.py", "from xhash_ray.config import build", "imports config, which is not below core"),
        ("core/bits.py", "from xhash_ray import cli", "imports cli"),
        ("core/bits.py", "from ..storage import uri", "imports storage"),
        ("core/bits.py", "from .. import storage", "imports storage"),
        ("errors.py", "from .config import build", "imports config"),
        ("index/shard.py", "x = 1\nfrom xhash_ray.methods import base", "index/shard.py:2: imports methods"),
        ("methods/deep/er.py", "def f():\n    from xhash_ray.index import shard", "imports index"),
        ("reports.py", "from xhash_ray.runtime import api", "imports runtime"),
        ("core/bits.py", "import ray", "imports ray outside"),
        ("core/bits.py", "import numpy, ray.data as data", "imports ray outside"),
        ("index/shard.py", "def f():\n    from ray import serve", "index/shard.py:2: imports ray outside"),
        ("__init__.py", "from xhash_ray.core import bits", "imports core without"),
        ("attic.py", "", "room 'attic' has no floor"),
        ("index/shard.py", "import xhash_ray.attic", "imports attic without"),
    ],
)
def test_the_checker_catches_a_planted_breach(tmp_path, name, text, reason):
    (found,) = planted(tmp_path, name, text)
    assert reason in found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "core/bits.py",
            "from xhash_ray.errors import BadInput\nfrom xhash_ray.core import topk\nfrom . import topk",
        ),
        ("core/bits.py", "import numpy\nimport rayleigh\n# import ray"),
        (
            "cli.py",
            "import ray\nfrom xhash_ray import __version__, reports, runtime\nimport xhash_ray.core.bits",
        ),
        ("runtime/deep/x.py", "import ray.data\nfrom xhash_ray.corpus import units\nfrom ... import errors"),
    ],
)
def test_the_checker_lets_good_imports_pass(tmp_path, name, text):
    assert planted(tmp_path, name, text) == []


def test_every_pure_room_imports_without_ray():
    rooms = [f"xhash_ray.{room}" for room in PURE] + ["xhash_ray.runtime.collectives"]
    finished = subprocess.run([sys.executable, "-c", IMPORT_ALL, *rooms], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_gateways_and_shards_start_without_torch():
    """Five seconds that only the encoder's process has to pay."""
    code = "import sys, xhash_ray.runtime.serving; assert not {'torch', 'open_clip', 'numba'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
