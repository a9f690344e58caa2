"""One page about data that were cleaned: what each step did, what was learned from which rows, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groundup.core.charts import Bar, bar_chart
from groundup.core.dataset import Entry
from groundup.core.page import Section, Tile, figure, ledger_table, page_html, recipe_block, side_by_side, table

MOST_BARS = 12


def cleaned_page(
    name: str, recipe: str, rows: Mapping[str, int], entries: Sequence[Entry], learned: Sequence[Mapping[str, Any]]
) -> str:
    """The page as HTML that needs nothing else."""
    removed = sum(entry.num_removed for entry in entries)
    cells = sum(sum(entry.cells_changed.values()) for entry in entries)
    tiles = [Tile(f"rows of {split}", f"{count:,}") for split, count in rows.items()]
    tiles += [Tile("rows removed", f"{removed:,}"), Tile("cells changed", f"{cells:,}")]
    sections = [Section("What each step did", _figures(entries) + ledger_table(entries))]
    if learned:
        note = "Every statistic is learned from train alone; nothing of validation or test was seen."
        sections.append(Section("What was learned", statistics_table(learned), note))
    sections.append(Section("Recipe", recipe_block(recipe)))
    return page_html(name, sections, "Data cleaned by groundup", tiles)


def statistics_table(learned: Sequence[Mapping[str, Any]]) -> str:
    """Each statistic with the split that it was learned from, and the rows that it saw."""
    lines = [[one["step"], one["split"], f"{one['rows']:,}", ", ".join(one["columns"][:20]) or "-"] for one in learned]
    return table(["step", "learned from", "rows seen", "columns"], lines, (2,))


def _figures(entries: Sequence[Entry]) -> str:
    """Cells changed and rows removed, as bars, where there were any."""
    cells = [(f"{e.step} ({e.split or 'all'})", sum(e.cells_changed.values())) for e in entries]
    gone: dict[str, int] = {}
    for entry in entries:
        for reason, count in entry.reasons().items():
            gone[reason] = gone.get(reason, 0) + count
    charts = []
    for title, found in (("cells changed", cells), ("rows removed", list(gone.items()))):
        bars = [Bar(label, float(count)) for label, count in found if count][:MOST_BARS]
        if bars:
            charts.append(figure(bar_chart(bars, title, width=430), title))
    return side_by_side(*charts) if charts else ""
