"""Columns on a page: one line each in a table, and a card each with its distribution."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import polars as pl

from groundup.core.charts import format_number
from groundup.core.dataset import Dataset
from groundup.core.page import html_table
from groundup.data.inspection.columns import Column, Numbers
from groundup.data.inspection.images import Picture
from groundup.data.inspection.table import Table
from groundup.data.pages.figures import categories, distribution, spark

MOST_CARDS = 60
MOST_LINES = 300
PEEK_ROWS, PEEK_COLUMNS, PEEK_CHARACTERS = 8, 14, 60


def columns_table(table: Table) -> str:
    """Every column on a line: kind, gaps, values, distribution, how much of the target it tells."""
    told = {one.column: one for one in table.told}
    header = ["column", "kind", "missing", "distinct", "distribution", "in short"]
    header += ["tells"] if table.told else []
    linked = set(_with_cards(table)[:MOST_CARDS])
    rows = []
    for i, column in enumerate(table.columns[:MOST_LINES]):
        cells = [
            _name(column, i, table, linked=i in linked),
            f'<span class="badge">{column.kind}</span>',
            _missing(column),
            f"{column.distinct:,}",
            spark(_bins(column)),
            f'<span class="saw">{escape(summary(column))}</span>',
        ]
        if table.told:
            share = told[column.name].share if column.name in told else None
            cells.append("" if share is None else f"{_meter(share, 'tells')}{share:.0%}")
        rows.append(cells)
    more = len(table.columns) - MOST_LINES
    rest = f'<p class="note">and {more:,} more columns</p>' if more > 0 else ""
    return f'<div class="overview">{html_table(header, rows, (3,))}</div>{rest}'


def column_cards(table: Table) -> str:
    """A card for each column that has something to show, at most 60: the target first, then as they stand."""
    numbered = _with_cards(table)
    cards = "".join(_card(table.columns[i], i, table) for i in numbered[:MOST_CARDS])
    more = len(numbered) - MOST_CARDS
    rest = f'<p class="note">and {more:,} more columns, in the table above</p>' if more > 0 else ""
    return f'<div class="cards">{cards}</div>{rest}'


def _with_cards(table: Table) -> list[int]:
    """The places of the columns that have something to show, the target's first."""
    target = table.target.name if table.target is not None else None
    shown = [i for i, c in enumerate(table.columns) if c.numbers or c.lengths or c.top]
    return sorted(shown, key=lambda i: table.columns[i].name != target)


def summary(column: Column) -> str:
    """A few words on what stands in a column."""
    if not column.present:
        return "nothing"
    if column.times is not None:
        return f"{column.times.first:%Y-%m-%d} to {column.times.last:%Y-%m-%d}"
    if column.numbers is not None:
        numbers = column.numbers
        return " … ".join(map(_figure, (numbers.smallest, numbers.median, numbers.largest)))
    if column.kind == "text" and column.lengths is not None:
        return f"{column.lengths.median:.0f} characters, {column.words:.0f} words"
    return ", ".join(_cut(value, 13) for value, _ in column.top[:3]) + (", …" if column.distinct > 3 else "")


def gallery(pictures: Sequence[Picture]) -> str:
    """Pictures with their names and what is said of them."""
    shown = []
    for picture in pictures:
        said = f"<b>{escape(picture.said)}</b>" if picture.said else ""
        name = escape(picture.name)
        image = f'<img src="{picture.address}" alt="{name}" title="{name}" loading="lazy">'
        caption = f"{said}{escape(_file_name(picture.name))}"
        shown.append(f'<figure class="picture">{image}<figcaption>{caption}</figcaption></figure>')
    return f'<div class="pictures">{"".join(shown)}</div>'


def first_rows(dataset: Dataset) -> str:
    """The first rows as they were read."""
    names = dataset.columns[:PEEK_COLUMNS]
    shown = [dataset.frame.get_column(name).head(PEEK_ROWS).to_list() for name in names]
    rows = [[_cell(value) for value in row] for row in zip(*shown, strict=True)]
    numeric = [i for i, name in enumerate(names) if dataset.frame[name].dtype.is_numeric()]
    left = len(dataset.columns) - len(names)
    more = f'<p class="note">and {left} more columns</p>' if left else ""
    return f'<div class="peek">{html_table(names, rows, numeric)}</div>{more}'


def _card(column: Column, i: int, table: Table) -> str:
    heading = f"<h3>{escape(column.name)} {_badges(column, table)}</h3>"
    lines = [f"{column.present:,} values, {column.missing:,} missing, {column.distinct:,} distinct"]
    chart = ""
    if column.numbers is not None and column.numbers.count:
        lines.append(_of_numbers(column.numbers))
        few = bool(column.top) and len(column.top) > 1 and column.distinct <= 5
        chart = (
            categories(column.top, column.present, column.name, column.distinct)
            if few
            else distribution(column.numbers, column.name)
        )
    elif column.kind == "text" and column.lengths is not None:
        lines.append(f"characters: {_of_numbers(column.lengths)}")
        chart = distribution(column.lengths, f"the length of {column.name}")
    elif column.top:
        chart = categories(column.top, column.present, column.name, column.distinct)
    why = next((drop.why for drop in table.drops if drop.column == column.name), "")
    lines += [f"Left out: {why}."] if why else []
    told = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'<article class="card" id="column-{i}">{heading}{told}{chart}</article>'


def _of_numbers(numbers: Numbers) -> str:
    parts = [f"mean {format_number(numbers.mean)} ± {format_number(numbers.deviation)}"]
    parts.append(f"median {_figure(numbers.median)}")
    parts.append(f"{_figure(numbers.smallest)} to {_figure(numbers.largest)}")
    if numbers.outliers:
        parts.append(f"{numbers.outliers:,} beyond {format_number(numbers.low)} or {format_number(numbers.high)}")
    if numbers.zeros > 0.05 * numbers.count and numbers.smallest != numbers.largest:
        parts.append(f"{numbers.zeros / numbers.count:.0%} zeros")
    if abs(numbers.skew) > 2:
        parts.append(f"skewness {numbers.skew:.1f}")
    return ", ".join(parts)


def _name(column: Column, i: int, table: Table, *, linked: bool) -> str:
    role = _badges(column, table, kind=False)
    if not linked:
        return f"<b>{escape(column.name)}</b> {role}"
    return f'<a class="column" href="#column-{i}">{escape(column.name)}</a> {role}'


def _badges(column: Column, table: Table, *, kind: bool = True) -> str:
    found = [f'<span class="badge">{column.kind}</span>'] if kind else []
    if table.target is not None and column.name == table.target.name:
        found.append('<span class="badge target">target</span>')
    drop = next((drop for drop in table.drops if drop.column == column.name), None)
    if drop is not None:
        found.append(f'<span class="badge out" title="{escape(drop.why)}">{drop.kind}</span>')
    return " ".join(found)


def _missing(column: Column) -> str:
    if not column.missing:
        return '<span class="none">none</span>'
    return f"{_meter(column.missing_share)}{column.missing_share:.1%}"


def _meter(share: float, kind: str = "") -> str:
    return f'<span class="meter {kind}"><i style="width:{max(2.0, 100 * share):.0f}%"></i></span>'


def _bins(column: Column) -> Sequence[int]:
    if column.numbers is not None:
        return column.numbers.histogram.counts
    if column.kind == "text" and column.lengths is not None:
        return column.lengths.histogram.counts
    return [count for _, count in column.top]


def _figure(value: float) -> str:
    """As elsewhere, but for whole numbers of four digits, which may be years."""
    return f"{value:.0f}" if 1000 <= abs(value) < 10_000 and value == round(value) else format_number(value)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return '<span class="none">missing</span>'
    if isinstance(value, (bytes, bytearray)):
        return escape(f"{len(value):,} bytes")
    if isinstance(value, (list, pl.Series)):
        return "[…]"
    return escape(_cut(f"{value:.6g}" if isinstance(value, float) else str(value), PEEK_CHARACTERS))


def _cut(text: str, most: int) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def _file_name(name: str, most: int = 26) -> str:
    """Without folders, and of a long one its two ends."""
    last = name.rpartition("/")[2]
    return last if len(last) <= most else f"{last[: most // 2]}…{last[-most // 2 + 1 :]}"
