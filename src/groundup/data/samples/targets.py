"""What is to be predicted, classes or a number: learned on train, encoded for the loss, decoded for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from groundup.core.dataset import Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.statistics import Moments, merge_counts
from groundup.data.prepare.columns import present_numbers, spellings

MAX_INTEGER_CLASSES = 20
ROWS_PER_INTEGER_CLASS = 5
"""Whole numbers are classes when there are at most so many of them, each on so many rows in the mean."""


MOST_COUNTED = 10_000
"""Distinct numbers that are counted one by one; a target with more has no classes."""


def learn_target(train: Dataset, name: str, task: str, by: str) -> dict[str, Any]:
    """The task, and the classes or the mean and deviation that go with it, as plain values.

    ``task`` "auto" takes categories and booleans for classes, and whole numbers too when they are at most 20
    and each stands on at least 5 rows in the mean; any other number is a value. Raises DataError for a target that
    is missing somewhere, constant, of another kind, or changed by a step before.
    """
    return finish_target(target_told(train, name, task, by), name, task, by)


def target_told(train: Dataset, name: str, task: str, by: str) -> dict[str, Any]:
    """What some rows of train tell of the target: its kind, how often each value stands there, and its moments."""
    train.need(name, by=f"{by}.target")
    kind = train.kinds[name]
    told: dict[str, Any] = {"rows": len(train), "kind": kind, "counts": {}, "whole": True, "moments": None}
    if not len(train):
        return told
    refuse_changed(train, name, by)
    refuse_missing(train, name, by)
    if kind not in ("number", "category", "boolean"):
        raise DataError(f"{by}.target: column {name!r} is of kind {kind}; a target is a number, category or boolean.")
    if task == "regress" and kind != "number":
        raise DataError(
            f'{by}.target: column {name!r} is of kind {kind}, so there is no value to regress; use task = "classify".'
        )
    column = train.frame[name]
    if kind == "number":
        told["moments"] = Moments.of(present_numbers(train, name, by)).state
        told["whole"] = not column.dtype.is_float() or bool((column == column.round(0)).all())
    told["counts"] = _limited(dict(column.value_counts(sort=False).sort(name).iter_rows()), kind, task)
    return told


def _limited(counts: dict[Any, int] | None, kind: Kind, task: str) -> dict[Any, int] | None:
    """None for the counts of a number with so many values that it has no classes."""
    many = counts is not None and kind == "number" and task != "classify" and len(counts) > MOST_COUNTED
    return None if many else counts


def merge_target(one: dict[str, Any], other: dict[str, Any], task: str) -> dict[str, Any]:
    """What the rows of both tell."""
    if not one["rows"] or not other["rows"]:
        return other if not one["rows"] else one
    counts = None
    if one["counts"] is not None and other["counts"] is not None:
        counts = _limited(merge_counts(one["counts"], other["counts"]), one["kind"], task)
    moments = None
    if one["moments"] is not None:
        moments = Moments.from_state(one["moments"]).merge(Moments.from_state(other["moments"])).state
    return {
        "rows": one["rows"] + other["rows"], "kind": one["kind"], "counts": counts,
        "whole": one["whole"] and other["whole"], "moments": moments,
    }  # fmt: skip


def finish_target(told: dict[str, Any], name: str, task: str, by: str) -> dict[str, Any]:
    """What ``learn_target`` gives, of all that was told."""
    if not told["rows"]:
        raise DataError(f"{by}: train has no rows.")
    counts = told["counts"]
    if task == "auto":
        task = "classify" if told["kind"] != "number" or _few_whole(told) else "regress"
    if counts is not None and len(counts) < 2:
        raise DataError(
            f"{by}.target: column {name!r} is constant: all {told['rows']} rows of train have {next(iter(counts))!r}. "
            "Nothing can be learned from it."
        )
    if task == "regress":
        moments = Moments.from_state(told["moments"])
        if not moments.deviation:
            raise DataError(
                f"{by}.target: column {name!r} is constant: {moments.mean} in all {told['rows']} rows of train."
            )
        return {"task": task, "mean": moments.mean, "deviation": moments.deviation}
    if told["kind"] == "number" and told["whole"]:
        counts = {int(value): count for value, count in counts.items()}
    classes = pl.Series(list(counts)).sort().to_list()
    return {"task": task, "classes": classes, "counts": [counts[value] for value in classes]}


def refuse_changed(dataset: Dataset, name: str, by: str) -> None:
    """Raises DataError when a step behind the split has changed the target: it would be invented, or in other units."""
    for entry in dataset.history:
        if entry.split is not None and entry.cells_changed.get(name):
            raise DataError(
                f"{by}.target: column {name!r} was changed by the prepare step {entry.step}, so predictions would not "
                f"be in your units, or targets be invented. Give it exclude = [{name!r}], or name its columns."
            )


def refuse_missing(dataset: Dataset, name: str, by: str) -> None:
    """Raises DataError that names the rows whose target is missing."""
    gone = absent(dataset.frame[name]).arg_true().to_list()
    if gone:
        names = dataset.row_names()
        shown = ", ".join(names[i] for i in gone[:5]) + (", ..." if len(gone) > 5 else "")
        raise DataError(
            f"{by}.target: column {name!r} is missing in {len(gone)} rows of {dataset.split or 'the data'} ({shown}). "
            "A target is never invented: drop those rows before the split."
        )


def absent(column: pl.Series) -> pl.Series:
    """Where a column has no value, NaN included."""
    return column.is_null() | column.is_nan() if column.dtype.is_float() else column.is_null()


def encode_target(dataset: Dataset, name: str, learned: Mapping[str, Any], by: str) -> np.ndarray[Any, Any] | None:
    """Class numbers int64 [N], or standardised values float32 [N, 1]; None where the column is not there.

    Raises DataError for missing targets and for classes that train did not have.
    """
    if name not in dataset.frame.columns or dataset.split == "serve":
        return None
    if not len(dataset):
        return np.zeros(0, np.int64) if learned["task"] == "classify" else np.zeros((0, 1), np.float32)
    refuse_changed(dataset, name, by)
    refuse_missing(dataset, name, by)
    if learned["task"] == "regress":
        values = dataset.frame[name].cast(pl.Float64).to_numpy()
        standard: np.ndarray[Any, Any] = (values - learned["mean"]) / learned["deviation"]
        return standard.astype(np.float32)[:, None]
    numbers = {key: i for i, key in enumerate(class_names(learned))}
    keys = spellings(dataset.frame[name])
    strange = ~keys.is_in(list(numbers))
    if strange.any():
        row = int(strange.arg_true()[0])
        raise DataError(
            f"{by}.target: {dataset.row_names()[row]} of {dataset.split} has the class {keys[row]!r}, which train did "
            f"not have ({int(strange.sum())} such rows). Split by stratified on {name!r}, or drop the class."
        )
    return keys.replace_strict(numbers, return_dtype=pl.Int64).to_numpy().copy()


def class_names(learned: Mapping[str, Any]) -> list[str]:
    """The classes as strings."""
    return [
        str(value).lower() if isinstance(value, bool) else spellings(pl.Series([value]))[0]
        for value in learned["classes"]
    ]


def target_sizes(learned: Mapping[str, Any]) -> dict[str, int]:
    """``out_features``, and ``num_classes`` where there are classes."""
    if learned["task"] == "regress":
        return {"out_features": 1}
    return {"out_features": len(learned["classes"]), "num_classes": len(learned["classes"])}


def decode_output(output: Tensor, learned: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Logits [N, C] as probabilities float64 [N, C]; or [N, 1] as values float64 [N] in the user's units."""
    numbers = output.detach().to("cpu", torch.float64)
    if learned["task"] == "classify":
        if numbers.ndim != 2 or numbers.shape[1] != len(learned["classes"]):
            raise DataError(
                f"the model's output has shape {tuple(numbers.shape)}, expected [N, {len(learned['classes'])}] logits."
            )
        return numbers.softmax(dim=1).numpy()
    return _in_user_units(numbers.reshape(len(numbers), -1)[:, 0].numpy(), learned)


def decode_target(targets: Tensor, learned: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """A batch's targets: class numbers int64 [N], or values float64 [N] in the user's units."""
    if learned["task"] == "classify":
        return targets.detach().cpu().numpy()
    return _in_user_units(targets.detach().to("cpu", torch.float64).reshape(len(targets)).numpy(), learned)


def _in_user_units(standard: np.ndarray[Any, Any], learned: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = standard * learned["deviation"] + learned["mean"]
    return values


def present_output(decoded: np.ndarray[Any, Any], learned: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each sample the likeliest label with its probability and all of them, or the value."""
    if learned["task"] == "regress":
        return [{"value": float(value)} for value in decoded]
    names = class_names(learned)
    return [
        {
            "label": learned["classes"][int(np.argmax(row))],
            "probability": float(np.max(row)),
            "probabilities": {name: float(p) for name, p in zip(names, row, strict=True)},
        }
        for row in decoded
    ]


def _few_whole(told: dict[str, Any]) -> bool:
    counts = told["counts"]
    if not told["whole"] or counts is None:
        return False
    return len(counts) <= MAX_INTEGER_CLASSES and len(counts) * ROWS_PER_INTEGER_CLASS <= int(told["rows"])
