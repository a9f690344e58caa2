"""What a recipe makes of data, on a page: the parts, what moved between them, leaks, statistics, augmentation."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from groundup.core.charts import format_number
from groundup.core.dataset import Entry, Splits
from groundup.core.page import Section, figure, html_table, ledger_table, paragraph, side_by_side, table
from groundup.core.preprocessing import step_name
from groundup.data.inspection.drift import MOVED, STEADY, Drift, drifts
from groundup.data.pages.figures import categories
from groundup.data.pixels import to_png
from groundup.data.prepare.columns import spellings

MOST_DRIFT, MOST_LEAKS, MOST_CLASSES = 12, 20, 12
SHOWN_COLUMNS = 6


def split_sections(splits: Splits, leaks: Sequence[Any], target: str | None) -> list[Section]:
    """The three parts, what moved between them, and rows that stand in two of them."""
    parts = splits.parts()
    total = sum(len(part) for part in parts.values()) or 1
    rows = [[name, f"{len(part):,}", f"{len(part) / total:.1%}"] for name, part in parts.items()]
    body = table(["part", "rows", "share"], rows, (1, 2)) + _target_by_part(splits, target)
    found = [Section("Split", body)]
    moved = drifts(splits.train, splits.test if len(splits.test) else splits.valid)[:MOST_DRIFT]
    if moved:
        against = "test" if len(splits.test) else "validation"
        note = f"From train to {against}. Below {STEADY:g} steady, above {MOVED:g} another population (Siddiqi 2006)"
        note += ", unless chance alone does as much in samples so small."
        found.append(Section("What moved", drift_table(moved, ("train", against)), note))
    found.append(Section("Leaks", _leaks(leaks)))
    return found


def drift_table(moved: Sequence[Drift], names: tuple[str, str]) -> str:
    """Each column's stability index and distance, its means and gaps on both sides."""
    rows = []
    for one in moved:
        kind = "fail" if one.moved else "look" if one.stirred else "pass"
        word = {"fail": "moved", "look": "a little", "pass": "steady"}[kind]
        new = ", ".join(one.new[:4]) + (", …" if len(one.new) > 4 else "")
        means = ("", "") if one.means is None else tuple(map(format_number, one.means))
        rows.append(
            [
                f"<b>{escape(one.column)}</b>",
                f'<span class="mark {kind}">{word}</span>',
                f"{one.stability:.3f}",
                "" if one.distance is None else f"{one.distance:.3f}",
                *means,
                f"{one.missing[0]:.1%} · {one.missing[1]:.1%}" if any(one.missing) else "",
                escape(new),
            ]
        )
    header = ["column", "", "stability index", "distance", f"mean of {names[0]}", f"of {names[1]}", "missing", "new"]
    return html_table(header, rows, (2, 3, 4, 5, 6))


def ledger_section(entries: Sequence[Entry]) -> Section:
    """What each step did before the data were split."""
    return Section("Ledger", ledger_table(entries), "Rows in and out of each step, and why rows went.")


def fitted_section(steps: Sequence[Any], samples: Any) -> Section | None:
    """Each statistic with the rows that it saw; None where nothing was fitted."""
    rows = []
    for step in (*steps, samples):
        learned = getattr(step, "learned", None)
        if isinstance(learned, Mapping):
            seen = learned.get("rows")
            rows.append([step_name(step), "train", f"{seen:,}" if isinstance(seen, int) else "", _learned(learned)])
    if not rows:
        return None
    note = "Every statistic was learned on train alone, from so many rows; the other parts and predictions only use it."
    return Section("Statistics", table(["step", "saw", "rows", "learned"], rows, (2,)), note)


def augmented_section(shown: Sequence[Any]) -> Section | None:
    """Samples before and after each step of augmentation, as training sees them."""
    if not shown:
        return None
    blocks = []
    for one in shown:
        cells = []
        for name, value in one.stages:
            cells.append(
                f'<figure class="picture">{_drawn(value)}<figcaption><b>{escape(name)}</b></figcaption></figure>'
            )
        row = "versions" if isinstance(one.stages[0][1], str) else "pictures"
        blocks.append(f'<h3 class="group">{escape(one.name)}</h3><div class="{row}">{"".join(cells)}</div>')
    note = "From left to right: before, then each step behind those before it. Train alone is changed, anew each epoch."
    return Section("Augmentation", "".join(blocks), note)


def _target_by_part(splits: Splits, target: str | None) -> str:
    """How the target lies in each part: the share of each class, or mean and deviation."""
    if target is None or target not in splits.train.frame.columns:
        return ""
    if splits.train.kinds[target] == "number" and splits.train.frame[target].n_unique() > MOST_CLASSES:
        rows = []
        for name, part in splits.parts().items():
            column = part.frame[target].drop_nulls().cast(float)
            if len(column):
                mean, spread = float(column.mean() or 0), float(column.std(ddof=0) or 0)  # type: ignore[arg-type]
                rows.append([name, format_number(mean), format_number(spread)])
        return f'<h3 class="group">{escape(target)}</h3>' + table(["part", "mean", "deviation"], rows, (1, 2))
    charts = []
    for name, part in splits.parts().items():
        counts = spellings(part.frame[target]).drop_nulls().alias("value").value_counts(name="rows counted")
        top = sorted(((str(v), int(n)) for v, n in counts.iter_rows()), key=lambda pair: pair[0])
        if top:
            chart = categories(top[:MOST_CLASSES], sum(n for _, n in top), f"{target} in {name}", len(top))
            charts.append(figure(chart, f"{target} in {name}"))
    return side_by_side(*charts)


def _leaks(leaks: Sequence[Any]) -> str:
    if not leaks:
        return '<p class="good">No row of validation or test stands in train as well.</p>'
    rows = [[leak.split, leak.name, leak.like, f"{leak.similarity:.2f}"] for leak in leaks[:MOST_LEAKS]]
    more = paragraph(f"and {len(leaks) - MOST_LEAKS:,} more") if len(leaks) > MOST_LEAKS else ""
    told = f"{len(leaks):,} rows of validation or test stand in an earlier part as well, exactly or nearly."
    return paragraph(told) + table(["part", "row", "like", "similarity"], rows, (3,)) + more


def _learned(learned: Mapping[str, Any]) -> str:
    """A few words on what a step knows."""
    columns = learned.get("columns")
    if not isinstance(columns, Mapping):
        parts = [f"{name} {_short(value)}" for name, value in learned.items() if name not in ("rows", "kinds")]
        return "; ".join(parts[:SHOWN_COLUMNS])
    told = []
    for name, entry in list(columns.items())[:SHOWN_COLUMNS]:
        values = ", ".join(f"{key} {_short(value)}" for key, value in entry.items() if key != "kind") if entry else ""
        told.append(f"{name}: {values}" if values else str(name))
    more = len(columns) - SHOWN_COLUMNS
    return "; ".join(told) + (f"; and {more} more columns" if more > 0 else "")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return format_number(value)
    if isinstance(value, (list, tuple, np.ndarray)):
        first = ", ".join(_short(item) for item in list(value)[:4])
        return f"[{first}{', …' if len(value) > 4 else ''}]"
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{k} {_short(v)}" for k, v in list(value.items())[:3]) + ("…}" if len(value) > 3 else "}")
        )
    return str(value)[:40]


def _drawn(value: Any) -> str:
    """An image as a picture, a text as text, numbers in short."""
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
        data = base64.b64encode(to_png(value, "augmentation")).decode()
        return f'<img class="pixels" src="data:image/png;base64,{data}" alt="">'
    if isinstance(value, str):
        return f'<div class="saw">{escape(value[:400])}</div>'
    numbers = np.asarray(value, dtype=np.float64)
    if numbers.ndim >= 2 and len(numbers) > 4:  # a window: its first series as a line
        return _tiny_line(numbers.reshape(len(numbers), -1)[:, 0])
    shown = ", ".join(format_number(float(v)) for v in numbers.ravel()[:12])
    return f'<div class="saw">{escape(shown)}{", …" if numbers.size > 12 else ""}</div>'


def _tiny_line(values: Any) -> str:
    fine = values[np.isfinite(values)]
    if not len(fine):
        return '<div class="none">nothing</div>'
    low, high = float(fine.min()), float(fine.max())
    points = " ".join(
        f"{100 * i / max(1, len(values) - 1):.1f},{38 - 34 * (float(v) - low) / ((high - low) or 1.0):.1f}"
        for i, v in enumerate(values)
        if np.isfinite(v)
    )
    line = f'<polyline points="{points}" fill="none" style="stroke:var(--c1);stroke-width:1.2"/>'
    return f'<svg class="chart" viewBox="0 0 100 42" aria-hidden="true">{line}</svg>'
