"""What benchmarks print for people."""

from __future__ import annotations

from typing import Any

from xhash_ray.reports.tables import facts, table


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


def hashers(result: dict[str, Any]) -> str:
    """What each method's codes cost to make."""
    lengths = f"{result['image_length']} and {result['text_length']} numbers"
    head = f"{result['pairs']:,} pairs of {lengths}, {result['bits']} bits, {result['threads']} threads"
    rows = [[row["method"], f"{row['us_per_pair']:.2f}", f"{row['times_jdsh']:.2f}"] for row in result["rows"]]
    return f"{head}\n\n" + table([["method", "microseconds a pair", "times JDSH's"], *rows])


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


def encoders(result: dict[str, Any]) -> str:
    """Encoding beside a bare loop, and where that loop's time goes."""
    what = f"{result['pairs']:,} pairs, {result['feature_gb']} GB of features"
    size = f"{what}, to {result['bits']} bits, {result['method']}"
    rows = [[row["loop"], f"{row['pairs_per_s']:,.0f}", f"{row['of_bare']:.3f}"] for row in result["rows"]]
    parts = ", ".join(f"{name} {share:.0%}" for name, share in result["bare_parts"].items())
    lines = [
        f"the bare loop's time: {parts}",
        f"ours: {result['bottleneck']}; memory of the machine fell by {result['peak_mb']:,} MB at most",
    ]
    return "\n\n".join([size, table([["loop", "pairs/s", "of the bare loop"], *rows]), "\n".join(lines)])


def extractors(result: dict[str, Any]) -> str:
    """Extraction beside a bare loop."""
    size = f"{result['pairs']:,} pairs, {result['model']}, batches of {result['batch_size']:,}"
    rows = [[row["loop"], f"{row['pairs_per_s']:,.0f}", f"{row['of_bare']:.3f}"] for row in result["rows"]]
    busy = ", ".join(f"{name} {share:.0%}" for name, share in result["busy"].items())
    lines = [
        f"ours, busy: {busy}",
        f"first unit after {result['first_unit_s']} s; with the start {result['whole_pairs_per_s']:,.0f} pairs/s",
    ]
    return "\n\n".join([size, table([["loop", "pairs/s", "of the bare loop"], *rows]), "\n".join(lines)])
