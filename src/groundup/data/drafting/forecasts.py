"""A recipe for a series with a time column: windows of the past, the steps to come, nothing that looks ahead."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.use import Use
from groundup.data.drafting.tables import counted, has_long_tail
from groundup.data.drafting.toml import Draft, Said
from groundup.data.inspection.columns import Column
from groundup.data.inspection.table import Table
from groundup.data.sources.times import TIME_PARTS

REGULAR = 0.9
"""Share of neighbours in time that are one usual step apart, from which on rows are taken for a series."""

FEWEST_ROWS = 24
FEW_ROWS = 2000
"""A series of fewer rows gets the plainest model."""

STEPS = 2000


@dataclasses.dataclass(frozen=True)
class Rhythm:
    """How often a series is measured, and what repeats in it."""

    name: str
    season: int
    """Rows after which it repeats itself."""
    length: int
    horizon: int


def rhythm_of(step_s: float) -> Rhythm:
    """By the usual step of time: a day of hours, a week of days, a year of months or weeks; else a few steps."""
    minute, hour, day = 60.0, 3600.0, 86_400.0
    if 0.9 * hour <= step_s <= 1.1 * hour:
        return Rhythm("hourly", 24, 72, 24)
    if minute <= step_s < 12 * hour:
        a_day = round(day / step_s)
        return Rhythm(f"every {step_s / minute:g} minutes", a_day, min(2 * a_day, 192), min(a_day, 48))
    if 0.9 * day <= step_s <= 1.1 * day:
        return Rhythm("daily", 7, 28, 7)
    if 6.5 * day <= step_s <= 7.5 * day:
        return Rhythm("weekly", 52, 52, 4)
    if 27 * day <= step_s <= 32 * day:
        return Rhythm("monthly", 12, 24, 12)
    return Rhythm(f"every {step_s:g} seconds", 0, 32, 8)


def is_series(table: Table) -> bool:
    """Whether rows follow one another in time, one step apart, and a number is to be predicted."""
    time, target = table.time, table.target
    if time is None or time.times is None or time.missing or target is None:
        return False
    number = table.column(target.name).kind == "number"
    return number and time.times.regular >= REGULAR and not time.times.repeated


def draft_forecast(dataset: Dataset, table: Table, source: Mapping[str, Any], head: tuple[str, ...]) -> Draft:
    """The recipe. Raises DataError for a series too short to be split in three."""
    if table.rows < FEWEST_ROWS:
        raise DataError(f"{table.rows} rows in time are too few to learn from and to measure; {FEWEST_ROWS} would do.")
    time = table.time
    assert time is not None
    assert time.times is not None
    rhythm, held = _fitted(rhythm_of(time.times.step_s), table.rows)
    inputs, drops = _inputs(table)
    cleaning = [Said(Use("drop_columns", columns=list(drops)), _because(drops))] if drops else []
    split = Use("by_time", column=time.name, **held)
    why = "The past to train, what came later to validation, the latest to test: as a forecast is used."
    drifting = drifts(dataset, table)
    tables: dict[str, Mapping[str, Any]] = {
        "": {"name": source["name"]},
        "data": {
            "source": source["source"],
            **({"clean": cleaning} if cleaning else {}),
            "split": Said(split, why),
            **_preparation(inputs, table),
        },
        "data.samples": _windows(table, inputs, rhythm),
        "model": _model(table, plain=drifting or table.rows < FEW_ROWS, drifting=drifting),
        "training": _training(table, rhythm, held),
        "evaluation": _evaluation(),
    }
    whys = {
        "data.samples": f"The series is {rhythm.name}. Windows over a break in time or a missing target are left out."
    }
    return Draft(head, tables, whys)


def _fitted(rhythm: Rhythm, rows: int) -> tuple[Rhythm, dict[str, float]]:
    """Windows short enough that each part holds many of them, and the shares of valid and test."""
    held = {"valid": 0.1, "test": 0.2} if rows >= 2000 else {"valid": 0.2, "test": 0.25}
    room = int(rows * held["valid"] * 0.6)
    length, horizon = rhythm.length, rhythm.horizon
    while length + horizon > room and (length > 2 or horizon > 1):
        length, horizon = max(2, math.floor(length * 0.8)), max(1, math.floor(horizon * 0.8))
    return dataclasses.replace(rhythm, length=length, horizon=horizon), held


def _inputs(table: Table) -> tuple[list[Column], dict[str, str]]:
    """The columns that a window shows, the target's own past first; and those that are dropped, with the reason."""
    assert table.target is not None
    drops = {drop.column: drop.why for drop in table.drops if drop.kind not in ("time", "leak")}
    for column in table.columns:
        if column.name.lower() in TIME_PARTS and column.name.lower() not in ("month", "hour"):
            drops[column.name] = "what the clock shows; of it the month and the hour come again"
    kept = [c for c in table.columns if c.name not in drops and c.kind in ("number", "boolean", "category")]
    return sorted(kept, key=lambda column: column.name != table.target.name), drops  # type: ignore[union-attr]


def _because(drops: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {why}." for name, why in drops.items())


def _preparation(inputs: list[Column], table: Table) -> dict[str, Any]:
    assert table.target is not None
    steps = []
    long = [c.name for c in inputs if c.kind == "number" and c.name != table.target.name and has_long_tail(c)]
    if long:
        steps.append(Said(Use("LogScale", columns=long), f"Long tails: {counted(long)}."))
    categories = [c.name for c in inputs if c.kind == "category"]
    if categories:
        steps.append(Said(Use("OneHot", columns=categories), f"A column for each category of {counted(categories)}."))
    return {"prepare": steps} if steps else {}


def _windows(table: Table, inputs: list[Column], rhythm: Rhythm) -> dict[str, Any]:
    assert table.target is not None
    names = [f"{c.name}=*" if c.kind == "category" else c.name for c in inputs]
    missing = sum(c.missing for c in inputs)
    found: dict[str, Any] = {
        "use": "Windows",
        "target": table.target.name,
        "inputs": Said(names, "Its own past, and what was measured beside it. Numbers are standardised by train."),
        "length": Said(rhythm.length, "Rows that the model sees, up to now."),
        "horizon": Said(rhythm.horizon, "Rows to come that it tells."),
    }
    if missing:
        limit = max(2, rhythm.season // 2)
        why = f"{missing:,} cells are missing; a line through short gaps, within the window alone: no look ahead."
        found["steps"] = Said([Use("interpolate", method="linear", limit=limit)], why)
    return found


def drifts(dataset: Dataset, table: Table) -> bool:
    """Whether the last fifth of the target lies half a deviation or more from what came before, as a trend does."""
    assert table.target is not None
    assert table.time is not None
    order = dataset.frame.get_column(table.time.name).arg_sort()
    values = dataset.frame.get_column(table.target.name)[order].drop_nulls().cast(pl.Float64).to_numpy()
    cut = int(0.8 * len(values))
    spread = float(np.std(values[:cut])) if cut else 0.0
    return spread > 0 and abs(float(values[cut:].mean()) - float(values[:cut].mean())) > 0.5 * spread


def _model(table: Table, *, plain: bool, drifting: bool) -> dict[str, Any]:
    """A straight line through the window where there is little data or a drift, else a recurrent network."""
    if plain:
        why = (
            "The level drifts, so what was learned at one level must hold at another."
            if drifting
            else f"{table.rows:,} rows are few, so the plainest model."
        )
        line = Use("MLP", hidden=[], init="zeros")
        lines = "Zeng et al. 2023 found straight lines through the window to beat transformers on many series."
        return {
            "use": Said("RevIN", f"{why} Each window is first brought to its own level, the forecast back from it."),
            "model": Said(line, lines),
        }
    return {
        "use": Said("LSTM", "Reads a window step by step and keeps a memory of what matters."),
        "hidden": 64,
        "layers": 1,
        "dropout": 0.2,
    }


def _training(table: Table, rhythm: Rhythm, held: Mapping[str, float]) -> dict[str, Any]:
    windows = max(1, round(table.rows * (1 - sum(held.values()))) - rhythm.length - rhythm.horizon)
    batch = 64 if windows >= 2000 else 16
    epochs = int(min(150, max(3, round(STEPS * batch / windows))))
    return {
        "objective": Said(Use("supervised", loss="mse"), "Squared error: what the mean minimises."),
        "optimizer": Said(Use("AdamW", lr=2e-3), "Learns steadily without being tuned."),
        "schedule": Said(Use("cosine", warmup=0.05), "The rate rises for a moment, then falls to nothing."),
        "batch_size": batch,
        "epochs": Said(epochs, f"About {math.ceil(windows / batch) * epochs:,} steps over {windows:,} windows."),
        "keep": Said("best", "The weights that did best on the validation part, not the last ones."),
    }


def _evaluation() -> dict[str, Any]:
    return {
        "metrics": Said(["mae", "rmse"], "In the target's own units, over all steps to come."),
        "baselines": Said(["repeat_last", "linear"], "What must be beaten: the last value again, and a straight line."),
    }
