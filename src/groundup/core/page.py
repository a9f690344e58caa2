"""A page of HTML that needs nothing else: no script, no font, no network; light and dark, and fit to be printed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from html import escape

from groundup.core.charts import UNPRINTABLE
from groundup.core.dataset import Entry

SHOWN_REMOVALS = 40
"""How many removed rows of a step are listed; the reasons of all are counted."""


@dataclasses.dataclass(frozen=True)
class Tile:
    """A figure at the top of the page."""

    label: str
    value: str
    note: str = ""
    good: bool | None = None
    """Marks the tile as reached or missed; None leaves it plain."""


@dataclasses.dataclass(frozen=True)
class Section:
    """A titled part of the page; ``body`` is HTML from the functions of this module and of ``charts``."""

    title: str
    body: str
    note: str = ""


def page_html(
    title: str,
    sections: Sequence[Section],
    subtitle: str = "",
    tiles: Sequence[Tile] = (),
    facts: Mapping[str, str] | None = None,
    style: str = "",
) -> str:
    """The whole page: title, tiles with the figures that matter, sections, and at the end the facts it rests on.

    ``style`` is further CSS of one kind of page.
    """
    links = "".join(f'<a href="#{_anchor(s.title)}">{escape(s.title)}</a>' for s in sections)
    body = "".join(_section(section) for section in sections)
    head = f"<header><h1>{escape(title)}</h1><p class='subtitle'>{escape(subtitle)}</p></header>"
    foot = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in (facts or {}).items())
    page = (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head><body><main>"
        f"{head}{_tiles(tiles)}<nav>{links}</nav>{body}"
        f"<footer><dl>{foot}</dl></footer></main></body></html>\n"
    )
    return page.translate(UNPRINTABLE)


def figure(chart: str, caption: str = "") -> str:
    """A chart with a line under it."""
    under = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{chart}{under}</figure>"


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{escape(text)}</p>"


def side_by_side(*parts: str) -> str:
    """Two or more parts in columns where the page is wide enough."""
    return f'<div class="columns">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int] = ()) -> str:
    """A table of plain text; ``numeric`` are the columns that are aligned as numbers."""
    return html_table(header, [[escape(cell) for cell in row] for row in rows], numeric)


def ledger_table(entries: Sequence[Entry]) -> str:
    """Each step of the data's way: rows in and out, cells changed, and why rows went."""
    rows: list[list[str]] = []
    for entry in entries:
        gone = entry.rows_before - entry.rows_after
        change = f'<span class="minus">−{gone:,}</span>' if gone > 0 else ("" if not gone else f"+{-gone:,}")
        cells = sum(entry.cells_changed.values())
        rows.append(
            [
                f"<b>{escape(entry.step)}</b>",
                escape(entry.split or "all"),
                f"{entry.rows_before:,}",
                f"{entry.rows_after:,}",
                change,
                f"{cells:,}" if cells else "",
                _reasons(entry),
            ]
        )
    return html_table(["step", "rows of", "in", "out", "change", "cells changed", "why"], rows, (2, 3, 4, 5))


def recipe_block(text: str) -> str:
    """A recipe in TOML, coloured."""
    return f'<pre class="code">{_coloured(text)}</pre>'


def _section(section: Section) -> str:
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    return f'<section id="{_anchor(section.title)}"><h2>{escape(section.title)}</h2>{note}{section.body}</section>'


def _tiles(tiles: Sequence[Tile]) -> str:
    def one(tile: Tile) -> str:
        kind = {None: "tile", True: "tile reached", False: "tile missed"}[tile.good]
        note = f'<div class="tile-note">{escape(tile.note)}</div>' if tile.note else ""
        label = f'<div class="tile-label">{escape(tile.label)}</div>'
        return f'<div class="{kind}">{label}<div class="tile-value">{escape(tile.value)}</div>{note}</div>'

    rows = -(-len(tiles) // 5)  # as even as can be, at most five in a row
    across = f' style="--across:{-(-len(tiles) // max(1, rows))}"'
    return f'<div class="tiles"{across}>{"".join(one(tile) for tile in tiles)}</div>' if tiles else ""


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int] = ()) -> str:
    """A table whose cells are HTML already; ``header`` is plain text."""

    def cells(kind: str, row: Sequence[str]) -> str:
        return "".join(
            f'<{kind} class="number">{cell}</{kind}>' if i in numeric else f"<{kind}>{cell}</{kind}>"
            for i, cell in enumerate(row)
        )

    head = cells("th", [escape(name) for name in header])
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _reasons(entry: Entry) -> str:
    told = [f"{count:,} × {escape(kind)}" for kind, count in sorted(entry.reasons().items(), key=lambda item: -item[1])]
    told += [escape(note) for note in entry.notes]
    shown = "<br>".join(told)
    if not entry.removed:
        return shown
    lines = "".join(f"<li><b>{escape(n)}</b> {escape(why)}</li>" for n, why in entry.removed[:SHOWN_REMOVALS])
    more = entry.num_removed - len(entry.removed[:SHOWN_REMOVALS])
    rest = f"<li>and {more:,} more, in the run's ledger</li>" if more > 0 else ""
    return f"{shown}<details><summary>which</summary><ul>{lines}{rest}</ul></details>"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


_TOKENS = re.compile(
    r'(?P<comment>#[^\n]*)|(?P<text>"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\')|(?P<table>^\s*\[\[?[^\]\n]+\]\]?)'
    r"|(?P<key>[A-Za-z_][\w.-]*(?=\s*=))|(?P<value>\b(?:true|false)\b|[-+]?\b\d[\d_.]*(?:e[-+]?\d+)?\b)",
    re.MULTILINE,
)


def _coloured(text: str) -> str:
    found: list[str] = []
    at = 0
    for match in _TOKENS.finditer(text):
        found.append(escape(text[at : match.start()]))
        found.append(f'<span class="t-{match.lastgroup}">{escape(match.group())}</span>')
        at = match.end()
    return "".join(found) + escape(text[at:])


_STYLE = """
:root{--page:#f6f7f9;--card:#fff;--ink:#191c20;--soft:#5b6470;--rule:#e3e6ea;--axis:#b3bac3;--accent:#2d5bd7;
--quiet:#b9c1cc;--good:#12805c;--good-bg:#e4f5ee;--bad:#b3261e;--bad-bg:#fdebe9;--code:#f3f5f8;
--c1:#2d5bd7;--c2:#c9620a;--c3:#12805c;--c4:#8a3fc7;--c5:#b8325a;--c6:#5b6470;--cell:#2d5bd7;--wrong:#c9620a}
@media (prefers-color-scheme:dark){:root{--page:#0f1216;--card:#171b21;--ink:#e7eaee;--soft:#98a2ae;--rule:#262c34;
--axis:#4a535e;--accent:#7ea2ff;--quiet:#4b5563;--good:#57d2a3;--good-bg:#12302a;--bad:#ff8f86;--bad-bg:#3a1b1a;
--code:#11151a;--c1:#7ea2ff;--c2:#f0a35e;--c3:#57d2a3;--c4:#c79bff;--c5:#ff8fb1;--c6:#98a2ae;
--cell:#6f95fb;--wrong:#f0a35e}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main{max-width:1040px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:30px;line-height:1.2;letter-spacing:-.02em;margin:0}
h2{font-size:18px;letter-spacing:-.01em;margin:0 0 4px}
.subtitle{color:var(--soft);margin:6px 0 0}
.tiles{display:grid;grid-template-columns:repeat(var(--across),1fr);gap:12px;margin:28px 0 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:14px 16px;
border-top:3px solid var(--quiet)}
.tile.reached{border-top-color:var(--good)}.tile.missed{border-top-color:var(--bad)}
.tile-label{color:var(--soft);font-size:13px}
.tile-value{font-size:23px;font-weight:650;letter-spacing:-.02em;line-height:1.25;font-variant-numeric:tabular-nums}
.tile-note{color:var(--soft);font-size:13px}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:24px 0 8px;font-size:14px}
nav a{color:var(--soft);text-decoration:none;border-bottom:1px solid transparent}
nav a:hover{color:var(--accent);border-color:currentColor}
section{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:22px 24px;margin:16px 0;
scroll-margin-top:16px}
.note{color:var(--soft);margin:0 0 14px;max-width:75ch}
figure{margin:10px 0 0;overflow-x:auto}figcaption{color:var(--soft);font-size:13px;margin-top:4px}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:8px 28px}
.scroll{overflow-x:auto;margin-top:8px}
table{border-collapse:collapse;width:100%;font-size:14px}
th{color:var(--soft);font-weight:500;font-size:13px;text-align:left;white-space:nowrap}
th,td{padding:8px 14px 8px 0;border-bottom:1px solid var(--rule);vertical-align:top}
tr:last-child td{border-bottom:0}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.interval,.unit{color:var(--soft);font-size:12.5px}
.minus{color:var(--bad)}
.warn{color:var(--ink);background:var(--rule)}
.mark{display:inline-block;border-radius:99px;padding:1px 10px;font-size:13px;font-weight:600;white-space:nowrap}
.pass{color:var(--good);background:var(--good-bg)}.fail{color:var(--bad);background:var(--bad-bg)}
.mend{color:var(--bad);margin-top:2px}
details{margin-top:4px}summary{cursor:pointer;color:var(--accent);font-size:13px}
details ul{margin:6px 0 0;padding-left:18px;color:var(--soft);font-size:13px;max-height:320px;overflow:auto}
details b{color:var(--ink);font-weight:500}
pre.code{background:var(--code);border:1px solid var(--rule);border-radius:8px;padding:14px 16px;margin:8px 0 0;
overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere;
font:13px/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.sample{color:var(--soft)}.sample b{color:var(--ink);font-weight:600}
.t-comment{color:var(--soft);font-style:italic}.t-table{color:var(--c4);font-weight:600}.t-key{color:var(--c1)}
.t-text{color:var(--c3)}.t-value{color:var(--c2)}
footer{color:var(--soft);font-size:13px;margin-top:28px}
footer dl{display:flex;flex-wrap:wrap;gap:6px 28px;margin:0}
footer div{display:flex;gap:8px;min-width:0}footer dd{margin:0;color:var(--ink);overflow-wrap:anywhere}
.chart{display:block;width:100%;height:auto;font:12px system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans","DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
.chart text{fill:var(--soft)}
.chart .end{text-anchor:end}.chart .middle,.chart .count{text-anchor:middle}
.chart .name{font-weight:600}.chart .value{fill:var(--ink);font-weight:600}
.chart .rule{stroke:var(--rule);fill:none}.chart .axis{stroke:var(--axis);fill:none}
.chart .dashed{stroke-dasharray:4 4}
.chart .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.chart .faint{fill:none;stroke-width:1;opacity:.28;stroke-linejoin:round}
.chart .dot{stroke:var(--card);stroke-width:1.5}.chart .spot{opacity:0}
.chart .bar{fill:var(--quiet)}.chart .bar.ours{fill:var(--accent)}
.chart .whisker{stroke:var(--ink);stroke-width:1.5;fill:none;opacity:.75}
.chart .cell{fill:var(--wrong)}.chart .cell.right{fill:var(--cell)}.chart .cell.under{fill:var(--code)}
.chart .count{fill:var(--ink)}.chart .count.light{fill:var(--card);font-weight:600}.chart .count.none{opacity:.35}
.chart .bubble{fill:var(--accent);opacity:.75;stroke:var(--card)}
@media (max-width:860px){.tiles{grid-template-columns:repeat(auto-fit,minmax(150px,1fr))}}
@media (max-width:560px){main{padding:24px 14px 40px}section{padding:16px}.columns{grid-template-columns:1fr}}
@media print{body{background:#fff}section,.tile{break-inside:avoid}nav{display:none}}
"""
