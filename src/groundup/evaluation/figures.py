"""Figures of evaluation as inline SVG: what is confused with what, and how sure a model may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from groundup.core.charts import TEXT_WIDTH, Axis, grid, svg
from groundup.core.errors import DataError
from groundup.evaluation.evaluate import Outcome
from groundup.evaluation.metrics import confusion_matrix

Array = np.ndarray[Any, Any]

MOST_CLASSES = 60
"""More make a confusion matrix that nobody can read, and a report that is mostly that."""

MOST_CELLS_WITH_NUMBERS = 16


def confusion_chart(matrix: Array, labels: Sequence[str], title: str) -> str:
    """Counts [C, C], row the true class and column the predicted one; shaded by share of the row."""
    size = len(labels)
    if matrix.shape != (size, size):
        raise DataError(f"confusion_chart: {size} labels for a matrix of shape {matrix.shape}.")
    names = [label if len(label) <= 18 else label[:17] + "…" for label in labels]
    longest = TEXT_WIDTH * max(len(name) for name in names)
    cell = min(64.0, max(14.0, 440 / size))
    upright = longest < cell + 4
    left, top = 40 + longest, 46 if upright else 40 + 0.71 * longest
    width, height = int(left + cell * size + (16 if upright else 8 + 0.71 * longest)), int(top + cell * size + 12)
    middle = left + cell * size / 2
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    parts = [
        f'<text class="label middle" x="{middle:.1f}" y="14">predicted</text>',
        f'<text class="label middle" transform="translate(14 {top + cell * size / 2:.1f}) rotate(-90)">true</text>',
    ]
    for i, name in enumerate(names):
        parts.append(
            f'<text class="tick end" x="{left - 8:.1f}" y="{top + cell * (i + 0.5) + 4:.1f}">{escape(name)}</text>'
        )
        x = left + cell * (i + 0.5)
        turn = f'class="tick middle" x="{x:.1f}" y="{top - 8}"'
        if not upright:
            turn = f'class="tick" transform="translate({x + 4:.1f} {top - 6}) rotate(-45)"'
        parts.append(f"<text {turn}>{escape(name)}</text>")
    for i in range(size):
        for j in range(size):
            parts.append(
                _cell(left + cell * j, top + cell * i, cell, matrix[i, j], shares[i, j], (names[i], names[j]), size)
            )
    right = int(np.trace(matrix))
    told = f"{right:,} of {int(matrix.sum()):,} on the diagonal, where truth and prediction agree"
    return svg(title, told, parts, width, height)


class Bin(NamedTuple):
    """Samples of which a model was about as sure: how sure in the mean, the share that is right, how many."""

    sure: float
    right: float
    samples: int


def pictures_of(outcome: Outcome, labels: Sequence[str]) -> dict[str, Any]:
    """What a classifier's figures are drawn from, as plain tables: ``confusion`` with its labels, ``reliability``."""
    found: dict[str, Any] = {"reliability": [list(one) for one in reliability(outcome.decoded, outcome.targets)]}
    if len(labels) <= MOST_CLASSES:
        matrix = confusion_matrix(outcome.decoded, outcome.targets, len(labels))
        found["confusion"] = {"labels": list(labels), "counts": matrix.tolist()}
    return found


def reliability(decoded: Array, targets: Array, num_bins: int = 10) -> list[Bin]:
    """How often a model is right when it is so and so sure: probabilities [N, C], class numbers [N]."""
    sure = decoded.max(axis=1)
    right = decoded.argmax(axis=1) == targets
    place = np.minimum((sure * num_bins).astype(int), num_bins - 1)
    counts = np.bincount(place, minlength=num_bins)
    used = counts > 0
    mean_sure = np.bincount(place, weights=sure, minlength=num_bins)[used] / counts[used]
    mean_right = np.bincount(place, weights=right, minlength=num_bins)[used] / counts[used]
    return [Bin(*one) for one in zip(mean_sure.tolist(), mean_right.tolist(), counts[used].tolist(), strict=True)]


def reliability_chart(bins: Sequence[Bin], title: str) -> str:
    """The share that is right over how sure the model was; on the diagonal it is as sure as it may be.

    The expected calibration error stands beside it (Guo et al. 2017, equation 3).
    """
    total = sum(one.samples for one in bins)
    error = sum(one.samples * abs(one.right - one.sure) for one in bins) / total
    most = max(one.samples for one in bins)
    width, height, left, top, bottom = 440, 340, 58, 34, 44
    x_axis = Axis(0, 1, left, width - 120)
    y_axis = Axis(0, 1, height - bottom, top)
    parts = grid(x_axis, y_axis, "probability of the likeliest class", "share that is right", height)
    parts.append(f'<path class="axis dashed" d="M{x_axis.start} {y_axis.start}L{x_axis.end} {y_axis.end}"/>')
    for sure, right, count in bins:
        radius = 3 + 9 * math.sqrt(count / most)
        told = f"{count:,} samples: sure to {sure:.1%}, right in {right:.1%}"
        spot = f'cx="{x_axis.place(sure):.1f}" cy="{y_axis.place(right):.1f}" r="{radius:.1f}"'
        parts.append(f'<circle class="bubble" {spot}><title>{told}</title></circle>')
    where = f'x="{x_axis.end + 14:.0f}"'
    parts.append(f'<text class="value" {where} y="{top + 12}">{error:.1%}</text>')
    for line, words in enumerate(("expected", "calibration", "error")):
        parts.append(f'<text class="label" {where} y="{top + 28 + 15 * line}">{words}</text>')
    return svg(title, f"expected calibration error {error:.1%} over {total:,} samples", parts, width, height)


def _cell(x: float, y: float, size: float, count: int, share: float, names: tuple[str, str], classes: int) -> str:
    kind = "cell right" if names[0] == names[1] else "cell"
    told = escape(f"{count:,} of {names[0]} predicted as {names[1]} ({share:.1%})")
    box = f'x="{x + 1:.1f}" y="{y + 1:.1f}" width="{size - 2:.1f}" height="{size - 2:.1f}" rx="3"'
    shade = 0.1 + 0.9 * share if count else 0.0
    drawn = f'<rect class="cell under" {box}/><rect class="{kind}" {box} style="opacity:{shade:.3f}"/>'
    if classes <= MOST_CELLS_WITH_NUMBERS:
        tone = "count light" if share > 0.5 else "count" if count else "count none"
        drawn += f'<text class="{tone}" x="{x + size / 2:.1f}" y="{y + size / 2 + 4:.1f}">{count}</text>'
    return f"<g>{drawn}<title>{told}</title></g>"
