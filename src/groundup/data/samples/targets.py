"""What is to be predicted, classes or a number: learned on train, encoded for the loss, decoded for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.prepare.columns import present_numbers, spellings
from groundup.data.prepare.scaling import moments

MAX_INTEGER_CLASSES = 20
ROWS_PER_INTEGER_CLASS = 5
"""Whole numbers are classes when there are at most so many of them, each on so many rows in the mean."""


def learn_target(train: Dataset, name: str, task: str, by: str) -> dict[str, Any]:
    """The task, and the classes or the mean and deviation that go with it, as plain values.

    ``task`` "auto" takes categories and booleans for classes, and whole numbers too when they are at most 20
    and each stands on at least 5 rows in the mean; any other number is a value. Raises DataError for a target that
    is missing somewhere, constant, of another kind, or changed by a step before.
    """
    train.need(name, by=f"{by}.target")
    if not len(train):
        raise DataError(f"{by}: train has no rows.")
    refuse_changed(train, name, by)
    refuse_missing(train, name, by)
    kind = train.kinds[name]
    column = train.frame[name]
    if kind not in ("number", "category", "boolean"):
        raise DataError(f"{by}.target: column {name!r} is of kind {kind}; a target is a number, category or boolean.")
    if task == "auto":
        task = "classify" if kind != "number" or _few_whole(column) else "regress"
    if task == "regress" and kind != "number":
        raise DataError(
            f'{by}.target: column {name!r} is of kind {kind}, so there is no value to regress; use task = "classify".'
        )
    if column.n_unique() < 2:
        raise DataError(
            f"{by}.target: column {name!r} is constant: all {len(train)} rows of train have {column[0]!r}. "
            "Nothing can be learned from it."
        )
    if task == "regress":
        mean, deviation = moments(present_numbers(train, name, by))
        if not deviation:
            raise DataError(f"{by}.target: column {name!r} is constant: {mean} in all {len(train)} rows of train.")
        return {"task": task, "mean": mean, "deviation": deviation}
    values = column.unique().sort()
    if kind == "number" and (values == values.round(0)).all():
        values = values.cast(pl.Int64)
    return {"task": task, "classes": values.to_list(), "counts": [int((column == value).sum()) for value in values]}


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
    """Logits [N, C] as probabilities float64 [N, C]; or [N, 1] as values float64 [N] in the user's units.

    Of several numbers for a value, [N, 1, K], it is the middle one: the median among quantiles, the mean of a normal.
    """
    numbers = output.detach().to("cpu", torch.float64)
    if learned["task"] == "classify":
        if numbers.ndim != 2 or numbers.shape[1] != len(learned["classes"]):
            raise DataError(
                f"the model's output has shape {tuple(numbers.shape)}, expected [N, {len(learned['classes'])}] logits."
            )
        return numbers.softmax(dim=1).numpy()
    return _in_user_units(middle(numbers, 1).reshape(len(numbers), -1)[:, 0].numpy(), learned)


def middle(numbers: Tensor, values: int) -> Tensor:
    """Of [N, values, K] the middle of the K numbers, [N, values]; anything else as it is."""
    if numbers.ndim == 3 and numbers.shape[1] == values:
        return numbers[:, :, (numbers.shape[2] - 1) // 2]
    return numbers


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


def _few_whole(column: pl.Series) -> bool:
    if column.dtype.is_float() and not (column == column.round(0)).all():
        return False
    distinct = column.n_unique()
    return distinct <= MAX_INTEGER_CLASSES and distinct * ROWS_PER_INTEGER_CLASS <= len(column)
