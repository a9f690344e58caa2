"""What later data has that train did not, and what is to be done with it: declared in the recipe, counted always."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import Any, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnNew:
    """What is done at prediction with what train did not have. Each case is counted, whatever is done.

    ``pass`` hands the value on to the steps of the preparation, as they were fitted; ``missing`` makes it a missing
    value, ``fill`` train's median or most frequent value, ``clip`` the nearest value that train had; ``refuse`` is an
    error that names column, row and value. A missing value is new where train had none in its column.
    """

    missing_value: Literal["pass", "fill", "refuse"] = "pass"
    new_category: Literal["pass", "missing", "fill", "refuse"] = "pass"
    out_of_range: Literal["pass", "clip", "missing", "refuse"] = "pass"
    missing_column: Literal["refuse", "missing", "fill"] = "refuse"


DECLARED_NOTHING = OnNew()
"""What holds where a recipe says nothing."""


@dataclasses.dataclass(frozen=True)
class New:
    """What a column had that train did not: which case, in how many rows, the first of them, and what was done."""

    case: Literal["missing value", "new category", "out of range", "missing column"]
    column: str
    rows: tuple[int, ...]
    """Positions."""
    example: str
    done: str

    def said(self, names: Sequence[str]) -> str:
        """For people."""
        done = {
            "pass": "passed on", "fill": "filled", "missing": "made missing", "clip": "clipped", "": "counted"
        }[self.done]  # fmt: skip
        if self.case == "missing column":
            return f"{self.column}: the column is not there; {done}"
        what = {
            "missing value": "missing, and train had none",
            "new category": "of a category that train did not have",
            "out of range": "outside train's range",
        }[self.case]
        example = f" ({self.example} at {names[self.rows[0]]})" if self.example else f" (at {names[self.rows[0]]})"
        return f"{self.column}: {len(self.rows)} {what}{example}; {done}"


class Counters:
    """How often what train did not have was met since the counters were made: case -> column -> rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.cases: dict[str, dict[str, int]] = {}
        self._lock = threading.Lock()

    def add(self, rows: int, new: Sequence[New]) -> None:
        """Count one call with so many rows."""
        with self._lock:
            self.rows += rows
            for one in new:
                columns = self.cases.setdefault(one.case, {})
                columns[one.column] = columns.get(one.column, 0) + len(one.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain tables."""
        with self._lock:
            return {"rows": self.rows, **{case: dict(columns) for case, columns in self.cases.items()}}

    def __repr__(self) -> str:
        return f"Counters({self.to_dict()})"
