"""The frame of a closing report: one HTML page that needs nothing else, light or dark as its reader has it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

# Series: Okabe & Ito's palette, told apart by colour-blind readers too; some darker on white, all lighter on black.
STYLE = """
:root{color-scheme:light dark;--paper:#fff;--panel:#f6f7f9;--ink:#1d2129;--soft:#5b6472;--grid:#d9dde3;
--good:#00714f;--bad:#b3261e;--bad-paper:#fdf0ee;--font:system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
--series-0:#0072b2;--series-1:#d55e00;--series-2:#009e73;--series-3:#b8578f;--series-4:#b87f00;--series-5:#3a9fd6}
@media (prefers-color-scheme:dark){:root{--paper:#14171c;--panel:#1c2027;--ink:#e6e9ee;--soft:#9aa4b2;--grid:#363c46;
--good:#4cc79a;--bad:#ff8a80;--bad-paper:#2c1b1b;
--series-0:#56a8e0;--series-1:#f0883e;--series-2:#3cc495;--series-3:#dd92bd;--series-4:#e6b23c;--series-5:#8ed1f5}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 var(--font)}
main{max-width:1080px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:26px;line-height:1.25;margin:0 0 4px}
h2{font-size:17px;margin:36px 0 10px}
p{margin:0 0 8px}
.soft{color:var(--soft)}
.finished{color:var(--good)}.failed{color:var(--bad)}
.reason{background:var(--bad-paper);border-left:4px solid var(--bad);border-radius:4px;padding:10px 14px;margin:16px 0;
white-space:pre-wrap;overflow-wrap:anywhere}
.verdict{background:var(--panel);border-radius:8px;padding:12px 16px;margin:16px 0 0}
.halves{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:0 36px}
.halves>*{min-width:0}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:5px 14px 5px 0;border-bottom:1px solid var(--grid)}
tr>:last-child{padding-right:0}
th{font-weight:500;color:var(--soft)}
tbody th{width:38%}
td{overflow-wrap:anywhere}
.rejects{font-size:13.5px}.rejects th{white-space:nowrap}.rejects td{min-width:7em}
.rejects td.long{min-width:13em}.rejects td.short,.rejects td.number{min-width:0;white-space:nowrap}
.rejects td.number,.rejects th.number{text-align:right}
figure{margin:0}figcaption{font-weight:600;margin:0 0 4px}
svg{display:block;width:100%;height:auto}
svg *{stroke-linejoin:round;stroke-linecap:butt}
svg text{font-family:var(--font)}
@media print{main{padding:0}h2{break-after:avoid}figure,tr{break-inside:avoid}}
""".strip()
# Whatever a reason or a setting holds, a browser loads and runs nothing for it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: Its name.
        kind: "number" (to the right), "short" (never broken), "long" (wants room), "" for other text.
    """

    head: str
    kind: str = ""


def page(title: str, blocks: Sequence[str]) -> str:
    """A whole document.

    Args:
        title: Plain text.
        blocks: HTML, from the functions below.
    """
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{text(POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{text(title)}</title>",
            f"<style>{STYLE}</style></head>",
            "<body><main>",
            *(block for block in blocks if block),
            "</main></body></html>\n",
        ]
    )


def text(content: object) -> str:
    """Anything as text that HTML shows as it is; control characters, which HTML forbids, are replaced."""
    shown = "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in str(content))
    return html.escape(shown)


def element(name: str, content: object, kind: str = "") -> str:
    """An element around plain text."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<{name}{attribute}>{text(content)}</{name}>"


def facts(rows: Sequence[tuple[str, object]]) -> str:
    """A table of names and values."""
    lines = [f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in rows]
    return "<table><tbody>\n" + "\n".join(lines) + "\n</tbody></table>"


def listing(columns: Sequence[Column], rows: Sequence[Sequence[object]], kind: str) -> str:
    """A table with a head; one that is wider than the page scrolls."""
    head = "".join(element("th", column.head, column.kind) for column in columns)
    lines = [
        "<tr>" + "".join(element("td", cell, column.kind) for column, cell in zip(columns, row, strict=True)) + "</tr>"
        for row in rows
    ]
    body = "\n".join(lines)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
    )


def figure(caption: str, svg: str) -> str:
    """A plot under its title."""
    return f"<figure><figcaption>{text(caption)}</figcaption>\n{svg}</figure>"


def halves(blocks: Sequence[str]) -> str:
    """Blocks side by side where the page is wide enough."""
    return '<div class="halves">' + "\n".join(f"<div>{block}</div>" for block in blocks) + "</div>"
