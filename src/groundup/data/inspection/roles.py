"""Which columns have no business in a model, and why: ids, constants, leaks, free text, values that hardly repeat."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal

from groundup.data.inspection.columns import Column
from groundup.data.inspection.relations import Target, Told

Reason = Literal["id", "constant", "empty", "leak", "text", "scattered", "time", "image"]

MOSTLY_MISSING = 0.7
ROWS_PER_CATEGORY = 8
NEARLY_CONSTANT = 0.999
WORDY = 5.0
"""Words of a string from which on it is text, not a name."""

_NAMES_ROWS = re.compile(r"(?<=[a-z])(ID|Id)$|(?i:(^|[_\W])(id|uuid|guid|index|idx|no|nr|row|key|rownum)$)")
_GROUP = re.compile(
    r"patient|subject|person|user|customer|client|household|session|author|speaker|site|hospital|animal|individual",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Drop:
    """A column that is left out, and why."""

    column: str
    kind: Reason
    why: str


def what_to_drop(columns: Sequence[Column], target: Target | None, told: Sequence[Told]) -> list[Drop]:
    """One entry for each column that no model should see, in the order of the columns."""
    alone = {one.column: one for one in told}
    found = []
    for column in columns:
        if target is not None and column.name == target.name:
            continue
        drop = _unfit(column) or _leak(column, alone.get(column.name), target)
        if drop is not None:
            found.append(drop)
    return found


def is_id(column: Column) -> bool:
    """Whether it names rows: every value once, and counted up, short strings, or a name that says so."""
    if column.kind == "id":
        return True
    named = bool(_NAMES_ROWS.search(column.name))
    if column.distinct < column.present or column.present < 10:
        return named and column.present >= 10 and column.distinct > 0.9 * column.present
    if column.numbers is not None:
        numbers = column.numbers
        counted = numbers.whole and numbers.largest - numbers.smallest == column.rows - 1
        return numbers.whole and (named or counted)
    return column.kind in ("category", "text") and (column.words <= 2.0 or named)


def find_group(columns: Sequence[Column], target: str | None) -> Column | None:
    """A column by whose values rows belong together, such as a patient's number: rows of one must share a split."""
    for column in columns:
        named = _GROUP.search(column.name) and _NAMES_ROWS.search(column.name)
        repeated = 10 <= column.distinct < 0.8 * column.present and column.kind in ("number", "category", "text", "id")
        whole = column.numbers is None or column.numbers.whole
        if named and repeated and whole and not column.missing and column.name != target:
            return column
    return None


def _unfit(column: Column) -> Drop | None:
    """What the column alone tells."""
    name = column.name
    if not column.present:
        return Drop(name, "empty", "every value is missing")
    if column.kind == "image":
        return Drop(name, "image", "holds images or lists, and the samples are rows of numbers")
    if column.distinct == 1:
        value = column.top[0][0] if column.top else "the same value"
        return Drop(
            name, "constant", f"always {_short(value)}" if not column.missing else f"{_short(value)} or missing"
        )
    if column.kind == "time":
        return Drop(name, "time", "a moment does not come again; the rows after it are what a model is for")
    if is_id(column):
        return Drop(name, "id", "names single rows")
    if column.top_share >= NEARLY_CONSTANT:
        return Drop(name, "constant", f"{_short(column.top[0][0])} on {column.top_share:.1%} of the rows")
    if column.missing_share > MOSTLY_MISSING:
        return Drop(name, "empty", f"missing on {_almost(column.missing_share)} of the rows")
    if column.kind in ("category", "text"):
        return _scattered(column)
    return None


def _scattered(column: Column) -> Drop | None:
    name, distinct = column.name, column.distinct
    if column.words >= WORDY or (column.lengths is not None and column.lengths.mean > 60):
        return Drop(name, "text", f"free text, {column.words:.0f} words in the mean")
    if column.kind == "text" or distinct * ROWS_PER_CATEGORY > max(column.present, 80):
        return Drop(name, "scattered", f"{distinct:,} different values on {column.present:,} rows")
    return None


def _leak(column: Column, told: Told | None, target: Target | None) -> Drop | None:
    if told is None or target is None or not told.leaks:
        return None
    if target.task == "classify":
        why = f"tells {target.name} by itself on {told.alone:.1%} of the rows"
    else:
        why = f"rises and falls with {target.name} (rank correlation {told.alone:.4f})"
    return Drop(column.name, "leak", why)


def _almost(share: float) -> str:
    """A share below 1 in percent, never rounded up to all."""
    return f"{share:.0%}" if share < 0.995 else f"{share:.1%}" if share < 0.9995 else "all but a few"


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
