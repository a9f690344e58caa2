"""What is to be predicted, classes or a number: learned on train, encoded for the loss, decoded for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from groundup.core.contract import State
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.statistics import Moments, Quantiles, merge_counts
from groundup.data.prepare.columns import known_numbers, spellings
from groundup.data.prepare.powers import best_power, inverse_yeo_johnson, yeo_johnson

Values = npt.NDArray[np.float64]

TargetScale = Literal["z_score", "min_max", "robust", "log", "yeo_johnson", "none"]
"""How a number to predict is given to the model, y = (f(x) - offset) / width, and taken back.

- ``z_score``: f(x) = x; train's mean and deviation
- ``min_max``: f(x) = x; train's smallest value and its range, so that train lies from 0 to 1
- ``robust``: f(x) = x; train's median and interquartile range
- ``log``: f(x) = sign(x) ln(1 + |x|), then mean and deviation of that
- ``yeo_johnson``: the power that makes train most normal (``groundup.data.prepare.powers``), then mean and deviation
- ``none``: as it is
"""

MAX_INTEGER_CLASSES = 20
ROWS_PER_INTEGER_CLASS = 5
"""Whole numbers are classes when there are at most so many of them, each on so many rows in the mean."""

MOST_DISTINCT = 1 << 15
"""Distinct numbers that are counted; a target with more is none of classes."""


def learn_target(train: Dataset, name: str, task: str, by: str, scale: TargetScale = "z_score") -> dict[str, Any]:
    """The task, and the classes or the scale that go with it, as plain values.

    ``task`` "auto" takes categories and booleans for classes, and whole numbers too when they are at most 20
    and each stands on at least 5 rows in the mean; any other number is a value. Raises DataError for a target that
    is missing somewhere, constant, of another kind, or changed by a step before.
    """
    return finish_target(partial_target(train, name, by, scale), name, task, by, scale)


def partial_target(shard: Dataset, name: str, by: str, scale: TargetScale = "z_score") -> State:
    """What a shard tells of the target: how often each value stands there, and how numbers lie. DataError as above."""
    shard.need(name, by=f"{by}.target")
    refuse_changed(shard, name, by)
    refuse_missing(shard, name, by)
    kind, column = shard.kinds[name], shard.frame[name]
    if kind not in ("number", "category", "boolean"):
        raise DataError(f"{by}.target: column {name!r} is of kind {kind}; a target is a number, category or boolean.")
    column = column.cast(pl.String) if kind == "category" and column.dtype in (pl.Categorical, pl.Enum) else column
    few = kind != "number" or column.n_unique() <= MOST_DISTINCT
    counts = [list(pair) for pair in column.value_counts(sort=True).iter_rows()] if few else None
    numbers = partial_scale(known_numbers(shard, name, f"{by}.target"), scale) if kind == "number" else None
    return {"kind": kind, "rows": len(shard), "counts": counts, "numbers": numbers}


def merge_targets(one: State, other: State) -> State:
    """What both shards tell together."""
    counts = None
    if one["counts"] is not None and other["counts"] is not None:
        both = merge_counts(dict(one["counts"]), dict(other["counts"]))
        counts = list(map(list, both.items())) if one["kind"] != "number" or len(both) <= MOST_DISTINCT else None
    numbers = None if one["numbers"] is None else merge_scales(one["numbers"], other["numbers"])
    return {"kind": one["kind"], "rows": one["rows"] + other["rows"], "counts": counts, "numbers": numbers}


def finish_target(state: State, name: str, task: str, by: str, scale: TargetScale = "z_score") -> dict[str, Any]:
    """Task, and classes with their counts or the scale. Raises DataError as ``learn_target`` does."""
    kind, rows = state["kind"], state["rows"]
    counts = None if state["counts"] is None else dict(state["counts"])
    if not rows:
        raise DataError(f"{by}: train has no rows.")
    if task == "auto":
        task = "classify" if kind != "number" or _few_whole(counts, rows) else "regress"
    if task == "regress" and kind != "number":
        raise DataError(
            f'{by}.target: column {name!r} is of kind {kind}, so there is no value to regress; use task = "classify".'
        )
    if counts is not None and len(counts) < 2:
        raise DataError(
            f"{by}.target: column {name!r} is constant: all {rows} rows of train have {next(iter(counts))!r}. "
            "Nothing can be learned from it."
        )
    if task == "regress":
        return {"task": task, **finish_scale(state["numbers"], scale, f"{by}.target: column {name!r}")}
    if scale != "z_score":
        raise DataError(f"{by}.target_scale: {name!r} has classes, which have no scale; leave target_scale out.")
    if counts is None:
        raise DataError(f"{by}.target: column {name!r} has more than {MOST_DISTINCT} distinct numbers; no classes.")
    values = sorted(counts)
    whole = kind == "number" and all(float(value).is_integer() for value in values)
    classes = [int(value) for value in values] if whole else values
    return {"task": task, "classes": classes, "counts": [counts[value] for value in values]}


def partial_scale(values: Values, scale: TargetScale) -> State:
    """How numbers lie, as far as the scale asks: moments, those of their logarithms, a sketch of their order."""
    ordered = scale in ("robust", "yeo_johnson")
    return {
        "moments": Moments.of(values).state,
        "logs": Moments.of(signed_log(values)).state if scale == "log" else None,
        "order": Quantiles.of(values).state if ordered else None,
    }


def merge_scales(one: State, other: State) -> State:
    """How both lie together."""
    merged = {}
    for key, kind in (("moments", Moments), ("logs", Moments), ("order", Quantiles)):
        both: Any = kind
        known = one[key] is not None
        merged[key] = both.from_state(one[key]).merge(both.from_state(other[key])).state if known else None
    return merged


def finish_scale(state: State, scale: TargetScale, where: str) -> dict[str, Any]:
    """What ``to_scale`` and ``from_scale`` need, and the mean. Raises DataError when there is no spread to scale by."""
    seen = Moments.from_state(state["moments"])
    found: dict[str, Any] = {"scale": scale, "mean": seen.mean}
    offset, width = seen.mean, seen.deviation
    if scale == "yeo_johnson":
        found["power"], offset, width = best_power(Quantiles.from_state(state["order"]), "yeo_johnson")
        found["lowest"], found["highest"] = seen.smallest, seen.largest
    elif scale == "min_max":
        offset, width = seen.smallest, seen.largest - seen.smallest
    elif scale == "robust":
        low, offset, high = Quantiles.from_state(state["order"]).at([0.25, 0.5, 0.75]).tolist()
        width = high - low
    elif scale == "none":
        offset, width = 0.0, 1.0
    elif scale == "log":
        logs = Moments.from_state(state["logs"])
        offset, width = logs.mean, logs.deviation
    if not width or not seen.deviation:
        constant = seen.smallest == seen.largest
        why = f"is constant: {seen.mean} in all {seen.count} rows" if constant else f"has no spread by {scale}"
        raise DataError(f"{where} {why} of train.")
    return {**found, "offset": offset, "width": width}


def signed_log(values: Values) -> Values:
    """sign(x) ln(1 + |x|)."""
    logs: Values = np.sign(values) * np.log1p(np.abs(values))
    return logs


def to_scale(values: Values, learned: Mapping[str, Any]) -> Values:
    """Values in the user's units as the model is given them."""
    offset, width = _line(learned)
    if learned.get("scale") == "log":
        values = signed_log(values)
    elif learned.get("scale") == "yeo_johnson":
        values = yeo_johnson(values, learned["power"])
    scaled: Values = (values - offset) / width
    return scaled


def from_scale(scaled: Values, learned: Mapping[str, Any]) -> Values:
    """What the model answers in the user's units.

    A power below 0 or above 2 reaches a limit that no value passes; an answer near or beyond it is held at train's
    range before or behind train's own.
    """
    offset, width = _line(learned)
    values: Values = scaled * width + offset
    if learned.get("scale") == "log":
        return np.sign(values) * np.expm1(np.abs(values))
    if learned.get("scale") != "yeo_johnson":
        return values
    power, reach = learned["power"], learned["highest"] - learned["lowest"]
    if not 0 <= power <= 2:
        ends = yeo_johnson(np.array([learned["lowest"] - reach, learned["highest"] + reach]), power)
        values = np.clip(values, *ends)
    return inverse_yeo_johnson(values, power)


def _line(learned: Mapping[str, Any]) -> tuple[float, float]:
    """Offset and width; checkpoints of before there were other scales have a mean and a deviation."""
    if "offset" in learned:
        return learned["offset"], learned["width"]
    return learned["mean"], learned["deviation"]


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
        return to_scale(values, learned).astype(np.float32)[:, None]
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
    return from_scale(middle(numbers, 1).reshape(len(numbers), -1)[:, 0].numpy(), learned)


def middle(numbers: Tensor, values: int) -> Tensor:
    """Of [N, values, K] the middle of the K numbers, [N, values]; anything else as it is."""
    if numbers.ndim == 3 and numbers.shape[1] == values:
        return numbers[:, :, (numbers.shape[2] - 1) // 2]
    return numbers


def decode_target(targets: Tensor, learned: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """A batch's targets: class numbers int64 [N], or values float64 [N] in the user's units."""
    if learned["task"] == "classify":
        return targets.detach().cpu().numpy()
    return from_scale(targets.detach().to("cpu", torch.float64).reshape(len(targets)).numpy(), learned)


def tell_target(target: Tensor, learned: Mapping[str, Any]) -> Any:
    """One sample's target [1]: its label, or its value in the user's units."""
    value = decode_target(target, learned)[0]
    return learned["classes"][int(value)] if "classes" in learned else float(value)


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


def _few_whole(counts: Mapping[Any, int] | None, rows: int) -> bool:
    if counts is None or not all(float(value).is_integer() for value in counts):
        return False
    return len(counts) <= MAX_INTEGER_CLASSES and len(counts) * ROWS_PER_INTEGER_CLASS <= rows
