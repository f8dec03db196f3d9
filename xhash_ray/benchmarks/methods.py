"""`xhash bench methods`: many methods, code lengths and seeds on one feature set, in one table.

Every training is one line of results.jsonl, written when it is done, with what it depends on (method file, settings,
features): a second run does what is missing or has changed. Nothing is selected on queries: each figure is the last
epoch of a training with the method's defaults, or with the settings of a recipe.
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xhash_ray import methods
from xhash_ray.benchmarks.feature_sets import DATABASES, FeatureSets, Part, Protocol, open_feature_sets
from xhash_ray.benchmarks.zoo_plot import draw_zoo
from xhash_ray.benchmarks.zoo_table import markdown, tabulate
from xhash_ray.config import read_recipe
from xhash_ray.errors import BadOption, XhashError, nearest
from xhash_ray.evaluation import average_precision
from xhash_ray.evaluation.relevance import shares_a_label
from xhash_ray.evaluation.retrieval import DIRECTIONS, mean_average_precision, unit_rows
from xhash_ray.learning.loop import Loop
from xhash_ray.learning.sources import Resident
from xhash_ray.methods.artefacts import bit_health
from xhash_ray.methods.base import Method, Shape, World
from xhash_ray.options.bench import BenchMethods
from xhash_ray.progress import Progress
from xhash_ray.storage import uri as places

RESULTS, TABLE, PLOT = "results.jsonl", "table.md", "map.png"


@dataclass(frozen=True)
class Task:
    """One training and the databases it is searched in.

    Attributes:
        method: Name.
        bits: Code length.
        seed: Of weights and order.
        databases: Columns that come from this training.
        settings: The method's, where they differ from its defaults.
        depends_on: Digest of the method's file, its settings and the features.
    """

    method: str
    bits: int
    seed: int
    databases: tuple[str, ...]
    settings: Mapping[str, Any]
    depends_on: str

    @property
    def key(self) -> str:
        """What names a finished line."""
        return f"{self.method}/{self.bits}/{self.seed}/{'+'.join(self.databases)}/{self.depends_on}"


def bench_methods(options: BenchMethods) -> dict[str, Any]:
    """Trains what is missing and tabulates everything asked for.

    Returns:
        `features`, `how` (they were cut), `chance` and `cosine` (plain features, where comparable) by column; `rows`,
        one per method, code length and column: mean and spread of MAP over seeds, seconds, bit health; `refused`.

    Raises:
        BadInput: for features that cannot be a benchmark, unknown methods or settings.
    """
    sets = open_feature_sets(options.features)
    tasks = plan_tasks(options, sets)
    out = places.normalise(options.out)
    lines = {line["key"]: line for line in read_lines(out)}
    missing = [task for task in tasks if task.key not in lines]
    progress = Progress("bench methods", len(tasks), "trainings")
    progress.say(f"{len(tasks)} trainings, {len(tasks) - len(missing)} of them done before; {sets.how}")
    for line in run_all(missing, options):
        append_line(out, line)
        lines[line["key"]] = line
        progress.say(told(line))
    result = tabulate([lines[task.key] for task in tasks if task.key in lines])
    known = {"features": options.features, "how": sets.how, "pairs": sizes(sets), **baselines(sets, options.databases)}
    places.write_bytes(places.join(out, TABLE), markdown({**known, **result}).encode())
    if result["rows"]:
        places.write_bytes(places.join(out, PLOT), draw_zoo({**known, **result}))
    return {**known, **result, "out": out, "seconds": round(progress.seconds, 1)}


def plan_tasks(options: BenchMethods, sets: FeatureSets) -> list[Task]:
    """Every training, one seed after the other, so that a table of one seed is there early."""
    names = methods.named(options.methods)
    for name in options.databases:
        if name not in DATABASES:
            raise BadOption("--databases", f"'{name}'", nearest(name, DATABASES))
    if not all(bits.isdecimal() for bits in map(str, options.bits)):
        raise BadOption("--bits", ",".join(map(str, options.bits)), "Give numbers separated by commas: 16,32,64")
    digest = sets.queries.digest() + sets.train.digest() + (sets.rest.digest() if len(sets.rest) else "")
    columns = [tuple(options.databases)] if sets.trains_alike() else [(name,) for name in options.databases]
    chosen = {name: settings_for(name, options) for name in names}
    return [
        Task(name, int(bits), seed, databases, chosen[name], depends_on(name, chosen[name], digest))
        for seed in range(1, options.seeds + 1)
        for name in names
        for bits in options.bits
        for databases in columns
    ]


def settings_for(name: str, options: BenchMethods) -> dict[str, Any]:
    """A method's settings: its recipe's, then those given for all methods that have them."""
    known = {field.name for field in fields(methods.load(name).settings_type)}
    everywhere = {field.name for each in methods.available() for field in fields(methods.load(each).settings_type)}
    for setting in options.settings:
        if setting not in everywhere:
            raise BadOption("xhash bench methods", f"no method has a setting '{setting}'", nearest(setting, everywhere))
    recipe: dict[str, Any] = {}
    if options.recipes and (Path(options.recipes) / f"{name}.toml").is_file():
        path = str(Path(options.recipes) / f"{name}.toml")
        recipe = read_recipe(path, "train", ["train", "import", "encode", "evaluate"]).get("settings", {})
    return {**recipe, **{key: value for key, value in options.settings.items() if key in known}}


def depends_on(name: str, settings: Mapping[str, Any], digest: str) -> str:
    """12 hexadecimal digits over the method's file, what it imports from others, its settings and the features."""
    folder = Path(methods.__file__).parent
    code = b"".join((folder / f"{part}.py").read_bytes() for part in (name, *sorted(imported(name) | methods.SHARED)))
    told = json.dumps(settings, sort_keys=True, default=str).encode()
    return hashlib.sha256(code + told + digest.encode()).hexdigest()[:12]


def imported(name: str) -> set[str]:
    """Files of methods/ that a method's file imports, directly or through others."""
    folder, found, left = Path(methods.__file__).parent, set[str](), [name]
    while left:
        named = re.findall(r"^from xhash_ray\.methods\.(\w+) import", (folder / f"{left.pop()}.py").read_text(), re.M)
        left += set(named) - found
        found |= {*named}
    return found


def run_all(tasks: Sequence[Task], options: BenchMethods) -> Iterator[dict[str, Any]]:
    """Lines of finished trainings, in the order in which they finish."""
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, options.processes))
    if options.processes <= 1:
        for task in tasks:
            yield run(task, options.features, threads)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        for done in as_completed([pool.submit(run, task, options.features, threads) for task in tasks]):
            yield done.result()


@functools.lru_cache(maxsize=1)
def loaded(features: str) -> FeatureSets:
    """A process' copy of the feature set."""
    return open_feature_sets(features)


def run(task: Task, features: str, threads: int) -> dict[str, Any]:
    """One training and its MAP in every column; a method that refuses the data gives a line that says why."""
    torch.set_num_threads(threads)
    sets = loaded(features)
    line = {"key": task.key, **asdict(task)}
    try:
        protocols = {name: sets.protocol(name) for name in task.databases}
        method, seconds, pairs_per_s = trained(task, next(iter(protocols.values())).train)
    except XhashError as error:
        return {**line, "refused": str(error)}
    found = {name: scores(method, protocol, threads) for name, protocol in protocols.items()}
    return {**line, "seconds": round(seconds, 2), "pairs_per_s": round(pairs_per_s, 1), "columns": found}


def trained(task: Task, train: Part) -> tuple[Method, float, float]:
    """A trained method, the seconds it took and the pairs/s of its last epoch."""
    shape = Shape(task.bits, train.image.shape[1], train.text.shape[1], train.labels.shape[1])
    torch.manual_seed(task.seed)
    method = methods.create(task.method, shape, task.settings)
    image, text, labels = (torch.from_numpy(array) for array in (train.image, train.text, train.labels))
    size = min(method.settings.batch_size, len(train))
    source = Resident(image, text, labels, size, task.seed, World(), whole=bool(method.gradient_free))
    last: dict[str, float] = {}
    started_s = time.perf_counter()
    Loop(method, source, World(), task.seed, lambda _, report: last.update(report)).run()
    return method, time.perf_counter() - started_s, last.get("pairs_per_s", 0.0)


def scores(method: Method, protocol: Protocol, threads: int) -> dict[str, Any]:
    """MAP in both directions and the health of the database's codes."""
    queries, database = (
        {name: method.encode(name, torch.from_numpy(getattr(part, name))) for name in ("image", "text")}
        for part in (protocol.queries, protocol.database)
    )
    labels = protocol.queries.labels, protocol.database.labels
    found: dict[str, Any] = {
        name: mean_average_precision(queries[source], database[target], *labels, threads)
        for name, source, target in DIRECTIONS
    }
    return {**found, "health": {name: bit_health(codes) for name, codes in database.items()}}


def baselines(sets: FeatureSets, databases: Sequence[str]) -> dict[str, Any]:
    """Chance, and plain cosine of the features where images and texts have one length, by column."""
    chance, cosine = {}, {}
    for name in databases:
        protocol = sets.protocol(name)
        relevant = shares_a_label(protocol.queries.labels, protocol.database.labels)
        chance[name] = float(relevant.mean())
        if protocol.queries.image.shape[1] == protocol.queries.text.shape[1]:
            cosine[name] = {way: cosine_map(protocol, source, target, relevant) for way, source, target in DIRECTIONS}
    return {"chance": chance, "cosine": cosine}


def cosine_map(protocol: Protocol, source: str, target: str, relevant: np.ndarray) -> float:
    """MAP@all of plain cosines."""
    similar = unit_rows(getattr(protocol.queries, source)) @ unit_rows(getattr(protocol.database, target)).T
    return float(average_precision.of_scores(similar, relevant).mean())


def sizes(sets: FeatureSets) -> dict[str, int]:
    """Pairs of every part."""
    return {"queries": len(sets.queries), "train": len(sets.train), "rest": len(sets.rest)}


def read_lines(out: str) -> list[dict[str, Any]]:
    """Finished trainings; a line that a killed run left half written is passed over."""
    place = places.join(out, RESULTS)
    lines = []
    for text in places.read_bytes(place).decode().splitlines() if places.exists(place) else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def append_line(out: str, line: dict[str, Any]) -> None:
    """Adds a finished training, in one step."""
    place = places.join(out, RESULTS)
    before = places.read_bytes(place) if places.exists(place) else b""
    places.write_bytes(place, before + json.dumps(line).encode() + b"\n")


def told(line: dict[str, Any]) -> str:
    """One line for the terminal."""
    head = f"{line['method']}, {line['bits']} bits, seed {line['seed']}"
    if "refused" in line:
        return f"{head}: refused ({line['refused']})"
    ways = [name for name, _, _ in DIRECTIONS]
    parts = [f"{name} {' / '.join(f'{found[way]:.3f}' for way in ways)}" for name, found in line["columns"].items()]
    return f"{head}: {', '.join(parts)}, {line['seconds']:.1f} s"
