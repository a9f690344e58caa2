"""A model's tree drawn: boxes in boxes, with shapes, and bars for where parameters and operations lie."""

from __future__ import annotations

import dataclasses
from html import escape

from groundup.core.charts import WIDTH, svg
from groundup.core.plan import format_bytes
from groundup.core.structure import Layer, format_count, format_shape

ROW, INDENT, TOP = 26, 14, 30
MOST_ROWS = 150
BAR = 64
"""Pixels of the longest bar."""

COLUMNS = {"gives": 420, "parameters": 600, "operations": 720, "memory": 890}
"""Column -> where it ends, or for shapes begins."""


@dataclasses.dataclass(frozen=True)
class _Row:
    layer: Layer
    depth: int
    below: int
    """Rows that lie inside this one."""


def structure_chart(model: Layer) -> str:
    """The tree of a model as SVG: equal neighbours are one row, boxes hold what lies inside."""
    rows = _rows(model.folded(), 0)
    left_out = len(rows) - MOST_ROWS
    rows = rows[:MOST_ROWS]
    height = TOP + ROW * len(rows) + (ROW if left_out > 0 else 8)
    parts = _boxes(rows)
    for name, x in COLUMNS.items():
        end = "" if name == "gives" else " end"
        parts.append(f'<text class="label{end}" x="{x}" y="18">{name}</text>')
    totals = (max(1, model.num_parameters), max(1.0, model.flops))
    for number, row in enumerate(rows):
        parts += _row(row, TOP + ROW * number, totals)
    if left_out > 0:
        y = TOP + ROW * len(rows) + 17
        parts.append(f'<text class="label" x="12" y="{y}">and {left_out} more, in structure.json</text>')
    told = f"{model.kind}: {format_count(model.num_parameters)} parameters in {len(rows)} rows"
    return svg(f"{model.kind}, layer by layer", told, parts, WIDTH, height)


def _rows(layer: Layer, depth: int) -> list[_Row]:
    inner = [row for child in layer.children for row in _rows(child, depth + 1)]
    return [_Row(layer, depth, len(inner)), *inner]


def _boxes(rows: list[_Row]) -> list[str]:
    """A frame around each layer that holds others, the outer ones first."""
    parts = []
    for number, row in enumerate(rows):
        below = min(row.below, len(rows) - number - 1)
        if below:
            x, y = 4 + INDENT * row.depth, TOP + ROW * number + 2
            size = f'width="{WIDTH - 8 - 2 * INDENT * row.depth}" height="{ROW * (below + 1) - 4}"'
            style = "fill:none;stroke:var(--rule)"
            parts.append(f'<rect x="{x}" y="{y}" {size} rx="6" style="{style}"/>')
    return parts


def _row(row: _Row, y: int, totals: tuple[int, float]) -> list[str]:
    layer, base = row.layer, y + 17
    x = 12 + INDENT * row.depth
    times = f"{layer.times} x " if layer.times > 1 else ""
    name = f"{layer.name}  " if layer.name else ""
    told = f"{times}{layer.kind}: {format_shape(layer.input_shape)} gives {format_shape(layer.output_shape)}"
    parts = [
        f'<text class="value" x="{x}" y="{base}"><title>{escape(told)}</title>'
        f'<tspan style="fill:var(--soft)">{escape(name)}</tspan>{escape(times + layer.kind)}</text>',
        f'<text class="tick" x="{COLUMNS["gives"]}" y="{base}">{escape(format_shape(layer.output_shape))}</text>',
    ]
    shown = (
        ("parameters", layer.parameters_of_all, totals[0], format_count(layer.parameters_of_all)),
        ("operations", layer.flops, totals[1], format_count(layer.flops)),
    )
    for column, amount, total, text in shown:
        end = COLUMNS[column]
        if amount:
            parts.append(f'<text class="tick end" x="{end}" y="{base}">{text}</text>')
            if not row.below:
                width = max(1.0, BAR * amount / total)
                box = f'x="{end - BAR}" y="{base + 4}" width="{width:.1f}" height="3"'
                parts.append(f'<rect class="bar ours" {box} rx="1"/>')
    if layer.memory_bytes:
        text = format_bytes(layer.memory_bytes)
        parts.append(f'<text class="tick end" x="{COLUMNS["memory"]}" y="{base}">{text}</text>')
    return parts
