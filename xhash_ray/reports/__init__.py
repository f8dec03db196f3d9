"""What a finished verb prints for people."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

CAPTION_WIDTH = 72


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as aligned columns; the first row is the head."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def render(verb: str, result: dict[str, Any]) -> str:
    """A verb's result for the terminal."""
    special = {"query": hits, "evaluate": precision, "demo": demo, "bench hamming": bench}
    special["bench evaluation"] = evaluations
    special |= {
        "methods": methods,
        "methods show": method,
        "bench methods": zoo,
        "bench training": loops,
        "bench jdsh": epochs,
        "bench billion": billion,
        "bench serve": servers,
        "bench rescoring": orders,
        "index info": index_info,
    }
    return special.get(verb, facts)(result)


def facts(result: dict[str, Any]) -> str:
    """One line per fact."""
    flat = {name: value for name, value in result.items() if not isinstance(value, dict)}
    width = max(len(name) for name in flat)
    return "\n".join(f"{name.replace('_', ' ').ljust(width)}  {worded(value)}" for name, value in flat.items())


def worded(value: Any) -> str:
    """A number with separators, anything else as it is."""
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


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


def bench(result: dict[str, Any]) -> str:
    """One line per engine and batch size."""
    head = (
        f"{result['codes']:,} {result['distribution']} codes of {result['bits']} bits, k = {result['k']}, "
        f"{result['threads']} threads; memory is read at {result['read_gb_per_s']} GB/s"
    )
    rows = [
        [
            r["engine"],
            r["queries"],
            f"{r['seconds'] * 1000:,.2f}",
            f"{r['codes_per_s'] / 1e9:.3f}",
            f"{r['times_ours']:.2f}",
            "yes" if r["same_distances"] else "NO",
            "" if r["of_bandwidth"] is None else f"{r['of_bandwidth']:.0%}",
        ]
        for r in result["rows"]
    ]
    names = ["engine", "queries", "ms", "10^9 codes/s", "times ours", "same distances", "of bandwidth"]
    return f"{head}\n\n" + table([names, *rows])


def evaluations(result: dict[str, Any]) -> str:
    """Seconds and ratio per engine, and what was checked."""
    sizes = f"{result['queries']:,} queries against {result['database']:,} codes of {result['bits']} bits, both ways"
    columns = ("seconds", "times_ours", "cpu_s", "cpu_times_ours")
    rows = [[row["engine"], *(f"{row[column]:,.1f}" for column in columns)] for row in result["rows"]]
    lines = [
        f"numpy loop: scaled up from {result['sample']} queries per direction",
        f"ours: {result['first_s']:.2f} s with the compiler's start, peak memory {result['peak_mb']:,} MB, "
        f"{result['threads']} threads",
        f"the loop's values lie between our lowest and highest over ties: {result['within_ties']}",
    ]
    head = ["engine", "seconds", "times ours", "CPU s", "times ours"]
    return "\n\n".join([sizes, table([head, *rows]), "\n".join(lines)])


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


def billion(result: dict[str, Any]) -> str:
    """Facts of a large index, then what larger ones need."""
    rows = [
        [f"{row['pairs']:,}", row["directions"], f"{row['nodes']:,}", f"{row['code_gb']:,}", row["scan_ms"],
         f"{row['nodes_for_100_ms']:,}"]
        for row in result["capacity"]
    ]  # fmt: skip
    head = ["pairs", "directions", "machines", "GB of codes", "ms a scan", "machines for 100 ms"]
    known = facts({name: value for name, value in result.items() if name != "capacity"})
    return known + "\n\nComputed for machines like this one:\n\n" + table([head, *rows])


def servers(result: dict[str, Any]) -> str:
    """Servers under load, side by side."""
    names = [name for name in result["rows"][0] if name != "server"]
    rows = [[name.replace("_", " "), *(row[name] for row in result["rows"])] for name in names]
    known = facts({name: value for name, value in result.items() if name != "rows"})
    return known + "\n\n" + table([["", *(row["server"] for row in result["rows"])], *rows])


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


def zoo(result: dict[str, Any]) -> str:
    """A zoo of methods: MAP@all in both directions, mean over seeds (and standard deviation)."""
    head = ["method", "bits", "database", "image to text", "text to image", "stuck", "duplicate", "seconds"]
    rows = [
        [
            row["method"],
            row["bits"],
            row["database"],
            f"{row['image_to_text']:.4f} ({row['image_to_text_spread']:.4f})",
            f"{row['text_to_image']:.4f} ({row['text_to_image_spread']:.4f})",
            row["stuck_bits"],
            row["duplicate_bits"],
            row["seconds"],
        ]
        for row in result["rows"]
    ]
    chance = ", ".join(f"{name} {value:.3f}" for name, value in result["chance"].items())
    refused = [f"{name} refused: {why}" for name, why in result["refused"].items()]
    return "\n".join([f"{result['how']}; chance {chance}", "", table([head, *rows]), "", *refused, result["out"]])


def loops(result: dict[str, Any]) -> str:
    """Training loops beside a bare one."""
    head = (
        f"{result['method']}, {result['bits']} bits, batches of {result['batch_size']:,}, {result['threads']} threads"
    )
    rows = [[row["loop"], f"{row['pairs_per_s']:,.0f}", f"{row['of_bare']:.3f}"] for row in result["rows"]]
    return f"{head}\n\n" + table([["loop", "pairs/s", "of the bare loop"], *rows])


def epochs(result: dict[str, Any]) -> str:
    """Epochs of JDSH beside the public loop's."""
    head = f"{result['pairs']:,} pairs, {result['bits']} bits, {result['threads']} threads"
    rows = [
        [row["loop"], f"{row['epoch_s']:.3f}", f"{row['pairs_per_s']:,.0f}", f"{row['times_public']:.2f}"]
        for row in result["rows"]
    ]
    return f"{head}\n\n" + table([["loop", "seconds of an epoch", "pairs/s", "times the public loop's"], *rows])


def orders(result: dict[str, Any]) -> str:
    """Orders of the candidates, by direction."""
    head = f"{result['method']}, {result['bits']} bits; the first {result['candidates']:,} by distance, reordered"
    rows = [
        [
            row["direction"].replace("_", " "),
            row["order"],
            f"{row['precision_at_10']:.4f}",
            f"{row['map']:.4f}",
            row["ms_per_query"],
        ]
        for row in result["rows"]
    ]
    return f"{head}\n\n" + table([["direction", "order by", "precision@10", "MAP of them", "ms a query"], *rows])


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
