"""What a step changed and removed, kept so that it can be undone exactly: the ledger with its before and after.

A ``Change`` holds the cells that are no longer what they were, the rows that went, the columns that went or took
another type, and the order of the rows where it changed. ``undo`` puts all of it back, and proves by the fingerprint
that what comes out is what went in.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from groundup.core.dataset import ROW, Dataset, Kind, Split
from groundup.core.errors import DataError

Array = np.ndarray[Any, Any]

BEFORE, AFTER = "before", "after"


@dataclasses.dataclass(frozen=True)
class Change:
    """What one step did to one split, as far as it is needed to take it back."""

    step: str
    split: Split | None
    before: str
    """The fingerprint of the data that it was given."""
    after: str
    """The fingerprint of what it made of them."""
    columns: tuple[str, ...]
    """Every column that there was, in order, ``_row`` among them."""
    kinds: Mapping[str, Kind]
    cells: Mapping[str, pl.DataFrame] = dataclasses.field(default_factory=dict)
    """Column -> (_row, before, after) of each cell that changed."""
    removed: pl.DataFrame | None = None
    """The rows that went, whole."""
    replaced: pl.DataFrame | None = None
    """``_row`` and the columns that went or took another type, as they were on the rows that stayed."""
    order: pl.DataFrame | None = None
    """``_row`` in its order before, where rows went, came or moved."""
    whole: pl.DataFrame | None = None
    """All that there was, where rows have no numbers of their own by which they could be told apart."""

    @property
    def num_cells(self) -> int:
        """How many cells changed."""
        return sum(frame.height for frame in self.cells.values())


def record(before: Dataset, after: Dataset, step: str) -> Change:
    """What has to be kept to make ``before`` of ``after`` again."""
    change = Change(
        step, before.split, before.fingerprint(), after.fingerprint(), tuple(before.frame.columns), dict(before.kinds)
    )
    if before.frame[ROW].n_unique() < len(before) or after.frame[ROW].n_unique() < len(after):
        return dataclasses.replace(change, whole=before.frame)
    numbers = before.frame.schema[ROW]
    rows = after.frame.select(pl.col(ROW).cast(numbers))
    old = rows.join(before.frame, on=ROW, how="inner", maintain_order="left")
    new = after.frame.with_columns(pl.col(ROW).cast(numbers)).join(old.select(ROW), on=ROW, how="semi")
    cells: dict[str, pl.DataFrame] = {}
    replaced: list[str] = []
    for name in before.columns:
        if name not in new.columns or new[name].dtype != old[name].dtype:
            replaced.append(name)
        elif len(changed := _changed(old[name], new[name])):
            cells[name] = pl.DataFrame({ROW: old[ROW][changed], BEFORE: old[name][changed], AFTER: new[name][changed]})
    gone = before.frame.join(rows, on=ROW, how="anti")
    moved = not before.frame[ROW].equals(old[ROW]) or old.height < after.frame.height
    return dataclasses.replace(
        change,
        cells=cells,
        removed=gone if gone.height else None,
        replaced=_columns(old, [ROW, *replaced]) if replaced else None,
        order=before.frame.select(ROW) if moved else None,
    )


def undo(dataset: Dataset, change: Change) -> Dataset:
    """The data as they were before that step, row by row and cell by cell; its line leaves the ledger.

    Raises DataError when the data are not what the step made, or when what comes out is not what it was given.
    """
    if dataset.fingerprint() != change.after:
        raise DataError(
            f"undo {change.step}: {dataset.origin or 'the data'} is not what this step made; "
            "undo the steps after it first, from the last one back."
        )
    frame = change.whole if change.whole is not None else _put_back(dataset.frame, change)
    last = dataset.history[-1:]
    history = dataset.history[:-1] if last and last[0].step == change.step else dataset.history
    found = dataclasses.replace(
        dataset, frame=_columns(frame, change.columns), kinds=change.kinds, history=history, pending=(), notes=()
    )
    if found.fingerprint() != change.before:
        raise DataError(f"undo {change.step}: what came out is not what the step was given; its record is damaged.")
    return found


def write_changes(folder: Path, changes: Sequence[Change]) -> None:
    """Each change in a folder of its own, ``001-STEP``: Parquet files, and ``change.json`` that says what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = len(list(folder.glob("[0-9]*-*")))
    for number, change in enumerate(changes, taken + 1):
        where = folder / f"{number:03d}-{''.join(c if c.isalnum() or c in '._-' else '-' for c in change.step)[:60]}"
        where.mkdir(parents=True)
        files = {f"cells-{i}": frame for i, frame in enumerate(change.cells.values())}
        for name in ("removed", "replaced", "order", "whole"):
            if (frame := getattr(change, name)) is not None:
                files[name] = frame
        for name, frame in files.items():
            frame.write_parquet(where / f"{name}.parquet")
        about = {
            "step": change.step, "split": change.split, "before": change.before, "after": change.after,
            "columns": list(change.columns), "kinds": dict(change.kinds), "cells": list(change.cells),
            "files": sorted(files),
        }  # fmt: skip
        (where / "change.json").write_text(json.dumps(about, ensure_ascii=False, indent=1), encoding="utf-8")


def read_changes(folder: Path) -> list[Change]:
    """What ``write_changes`` wrote, in order. Raises DataError for a folder without any, or a damaged one."""
    found = []
    for where in sorted(folder.glob("[0-9]*-*")):
        try:
            about = json.loads((where / "change.json").read_text(encoding="utf-8"))
            files = {name: pl.read_parquet(where / f"{name}.parquet") for name in about["files"]}
            cells = {name: files.pop(f"cells-{i}") for i, name in enumerate(about["cells"])}
            found.append(
                Change(
                    step=about["step"],
                    split=about["split"],
                    before=about["before"],
                    after=about["after"],
                    columns=tuple(about["columns"]),
                    kinds=about["kinds"],
                    cells=cells,
                    removed=files.get("removed"),
                    replaced=files.get("replaced"),
                    order=files.get("order"),
                    whole=files.get("whole"),
                )
            )
        except (OSError, KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise DataError(f"{where}: this record of a change is damaged: {error}.") from error
    if not found:
        raise DataError(f"{folder}: there is no record of changes here.")
    return found


def _put_back(after: pl.DataFrame, change: Change) -> pl.DataFrame:
    """Cells, columns, rows and order, in this order."""
    names = [name for name in change.columns if name in after.columns]
    replaced = [] if change.replaced is None else [n for n in change.replaced.columns if n != ROW]
    frame = _columns(after, [name for name in names if name not in replaced])
    for known in (change.order, change.removed, change.replaced, *change.cells.values()):
        if known is not None:
            frame = frame.with_columns(pl.col(ROW).cast(known.schema[ROW]))
            break
    for name, cells in change.cells.items():
        marked = cells.select(ROW, pl.col(BEFORE).alias("\0before"), pl.lit(value=True).alias("\0changed"))
        frame = frame.join(marked, on=ROW, how="left", maintain_order="left")
        value = frame["\0before"].zip_with(frame["\0changed"].is_not_null(), frame.get_column(name))
        frame = frame.drop("\0before", "\0changed").with_columns(value.alias(name))
    if change.replaced is not None:
        frame = frame.join(change.replaced, on=ROW, how="inner", maintain_order="left")
    frame = _columns(frame, change.columns)
    if change.removed is not None:
        frame = pl.concat([frame, _columns(change.removed, change.columns)])
    if change.order is not None:
        frame = _columns(change.order.join(frame, on=ROW, how="left", maintain_order="left"), change.columns)
    return frame


def _columns(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """These columns, whatever they are called: polars' own ``select`` reads "*" and "^...$" as patterns."""
    return pl.DataFrame({name: frame.get_column(name) for name in names})


def _changed(old: pl.Series, new: pl.Series) -> Array:
    """Positions at which two columns of one type differ; floats by their bits, so that -0.0 is not 0.0."""
    if old.dtype.is_nested():
        pairs = zip(old.to_list(), new.to_list(), strict=True)
        return np.array([i for i, (a, b) in enumerate(pairs) if repr(a) != repr(b)], dtype=np.int64)
    differ = old.ne_missing(new).to_numpy()
    if old.dtype in (pl.Float32, pl.Float64):
        bits = np.uint64 if old.dtype == pl.Float64 else np.uint32
        one, other = (column.fill_null(0.0).to_numpy().view(bits) for column in (old, new))
        differ = differ | (one != other)
    return np.flatnonzero(differ)
