"""What a finished verb prints for people."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from xhash_ray.reports import benches, drills, metrics, sizing
from xhash_ray.reports.tables import facts, table

CAPTION_WIDTH = 72


def render(verb: str, result: dict[str, Any]) -> str:
    """A verb's result for the terminal."""
    special = {"query": hits, "evaluate": precision, "demo": demo, "bench hamming": benches.bench}
    special["bench evaluation"] = benches.evaluations
    special |= {
        "methods": methods,
        "methods show": method,
        "metrics": metrics.listed,
        "bench methods": benches.zoo,
        "bench training": benches.loops,
        "bench hashing": benches.hashers,
        "bench jdsh": benches.epochs,
        "bench billion": benches.billion,
        "bench serve": benches.servers,
        "bench encode": benches.encoders,
        "bench extract": benches.extractors,
        "plan": sizing.plan,
        "bench machine": sizing.machine,
        "bench plan": sizing.comparison,
        "extract": worked,
        "encode": worked,
        "verify": verified,
        "bench rescoring": benches.orders,
        "index info": index_info,
        "drill": drills.drill,
    }
    return special.get(verb, facts)(result)


def hits(result: dict[str, Any]) -> str:
    """Ids, distances and what is known of each hit."""
    if not result["hits"]:
        return "no hits"
    rows = [[hit["distance"], hit["id"], describe(hit["metadata"])] for hit in result["hits"]]
    timing = ", ".join(f"{part} {value:.1f} ms" for part, value in result["timings_ms"].items())
    return table([["bits apart", "id", "pair"], *rows]) + f"\n\n{timing}"


def describe(metadata: dict[str, Any]) -> str:
    """A pair's caption, or its metadata, in one line."""
    text = metadata.get("caption") or ", ".join(f"{k}={v}" for k, v in metadata.items() if v is not None)
    line = " ".join(str(text).split())
    return line if len(line) <= CAPTION_WIDTH else line[: CAPTION_WIDTH - 1] + "…"


def precision(result: dict[str, Any]) -> str:
    """Measures as rows, directions as columns; several runs below each other."""
    runs = result.get("runs", {"": result})
    blocks = [one_run(name, run) for name, run in runs.items()]
    if len(runs) > 1:
        heads = [name.replace("_", " ") for name in next(iter(runs.values()))["map"]]
        rows = [[name, *(f"{value:.4f}" for value in run["map"].values())] for name, run in runs.items()]
        blocks.append(table([["MAP@all", *heads], *rows]))
    written = [*result.get("plots", ()), *([result["out"]] if "out" in result else ())]
    return "\n\n".join([*blocks, *(["\n".join(written)] if written else [])])


def one_run(name: str, run: dict[str, Any]) -> str:
    """One run: what a table of a paper has, and what ties could make of it."""
    head = f"{name + ': ' if name else ''}{run['kind']}, {run['queries']:,} queries against {run['database']:,} pairs"
    if run["without_relevant"]:
        head += f"; {run['without_relevant']:,} queries without relevant pairs count as 0"
    columns = list(run["map"])
    rows = [["measure", *(column.replace("_", " ") for column in columns)]]
    rows += [[label, *(f"{value:.4f}" for value in values)] for label, values in measures_of(run, columns)]
    cut = f"\n\nk = {run['k']} in the published definitions that have a cut-off" if run["definitions"] else ""
    return f"{head}\n\n{table(rows)}{cut}"


def measures_of(run: dict[str, Any], columns: Sequence[str]) -> list[tuple[str, list[float]]]:
    """Label and one value per direction of every measure of a run."""
    labels = (("map", "MAP@all, expected over ties"), ("lowest", "  worst order"), ("highest", "  best order"))
    found = [(label, [run[name][column] for column in columns]) for name, label in labels]
    each = [run["measures"][column] for column in columns]
    found.append(("chance", [values["chance"] for values in each]))
    for name, label in (("precision_at", "precision@"), ("recall_at", "recall@"), ("ndcg_at", "NDCG@")):
        found += [(f"{label}{place}", [values[name][place] for values in each]) for place in each[0][name]]
    near = (("precision_within_radius_2", "precision within radius 2"), ("empty_within_radius_2", "  queries without"))
    found += [(label, [values[name] for values in each]) for name, label in near if name in each[0]]
    found += [(name, [of[column] for column in columns]) for name, of in run["definitions"].items()]
    return found


def demo(result: dict[str, Any]) -> str:
    """The closing table of the demonstration."""
    floats, codes = result["map_float"], result["map_codes"]
    rows = [
        ["what", "float features", f"{result['bits']}-bit codes"],
        ["MAP@all, image finds text", f"{floats['image_to_text']:.4f}", f"{codes['image_to_text']:.4f}"],
        ["MAP@all, text finds image", f"{floats['text_to_image']:.4f}", f"{codes['text_to_image']:.4f}"],
        ["MAP@all by chance", f"{result['chance']:.4f}", f"{result['chance']:.4f}"],
        ["bytes per pair", f"{result['float_bytes_per_pair']:,}", f"{result['code_bytes_per_pair']:,}"],
    ]
    lines = [
        f"{result['pairs']:,} pairs, {result['shards']} shards, whole path in {result['seconds']:.0f} s",
        f"text query over HTTP: median {result['query_ms_p50']:.1f} ms, p99 {result['query_ms_p99']:.1f} ms",
        f"contact sheet: {result['contact_sheet']}",
    ]
    return table(rows) + "\n\n" + "\n".join(lines)


def methods(result: dict[str, Any]) -> str:
    """One line per hashing method."""
    rows = [
        [each["name"], each["year"], "yes" if each["supervised"] else "no", each["needs"], each["paper"]]
        for each in result["methods"]
    ]
    return table([["method", "year", "supervised", "needs", "paper"], *rows])


def method(result: dict[str, Any]) -> str:
    """A hashing method and its settings."""
    rows = [[each["name"], each["default"], each["meaning"], each["source"]] for each in result["settings"]]
    lines = [
        f"{result['name']}: {result['paper']}",
        f"supervised: {'yes' if result['supervised'] else 'no'}; needs {result['needs']}",
        f"steps on a batch: {', '.join(result['phases']) or 'none, it is fitted at once'}",
        f"against stuck and duplicate bits: {result['against_collapse']}",
    ]
    return "\n".join(lines) + "\n\n" + table([["setting", "default", "meaning", "source"], *rows])


def index_info(result: dict[str, Any]) -> str:
    """Facts of an index, then its generations."""
    rows = [
        [
            entry["generation"],
            entry["change"],
            time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry["created_unix_s"])),
            f"{entry['rows']:,}",
            entry["segments"],
        ]
        for entry in result["history"]
    ]
    known = facts({name: value for name, value in result.items() if name != "history"})
    return known + "\n\n" + table([["generation", "change", "created (UTC)", "rows", "segments"], *rows])


def worked(result: dict[str, Any]) -> str:
    """What a stage over units did; what it put aside stands last, where it is seen."""
    known = {
        name: value for name, value in result.items() if name not in {"rejected_by", "rejects"} and value is not None
    }
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in result["rejected_by"].items())
    return facts(known) + (f"\n\n{result['rejected']:,} rejected ({kinds}): {result['rejects']}" if kinds else "")


def verified(result: dict[str, Any]) -> str:
    """What was compared with what, and that nothing is wrong."""
    pairs = ", ".join(f"{count:,} in {name}" for name, count in result["pairs"].items())
    told = f"{result['ids']:,} ids of the input joined: {pairs}, {result['rejected']:,} rejected; every pair once"
    return "\n".join([*result["checked"], told, f"{result['files']:,} files looked at in {result['seconds']} s"])
