"""What is typical of a column, from pieces and group by group: values with how often each stands, merged exactly.

A state is ``{"keys": one list a column of the key, "values", "weights"}``, the three of one length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl

from groundup.core.errors import DataError
from groundup.data.prepare.columns import spellings

Statistic = Literal["mean", "median", "mode"]

MOST_IN_GROUP = 2048
"""Distinct values that a group's median is exact for; of more, so many of equal weight are kept."""

MOST_DISTINCT = 2_000_000
"""Distinct values that a mode may be chosen from."""

VALUE, WEIGHT, SUM = "value", "weight", "sum"


def key_columns(frame: pl.DataFrame, by: Sequence[str]) -> list[pl.Series]:
    """The key of each row, spelled so that equal values are equal whatever holds them."""
    return [spellings(frame[name]).alias(f"key {i}") for i, name in enumerate(by)]


def tell(keys: Sequence[pl.Series], values: pl.Series, statistic: Statistic) -> dict[str, Any]:
    """What these rows tell of each group; null values do not count."""
    frame = pl.DataFrame([*keys, values.alias(VALUE)]).drop_nulls(VALUE)
    names = [key.name for key in keys]
    if statistic == "mean":
        told = frame.group_by(names, maintain_order=True).agg(pl.col(VALUE).mean(), pl.len().alias(WEIGHT))
    else:
        told = frame.group_by([*names, VALUE], maintain_order=True).agg(pl.len().alias(WEIGHT))
    return _state(_thinned(told, names, statistic), names)


def merge(one: Mapping[str, Any], other: Mapping[str, Any], statistic: Statistic) -> dict[str, Any]:
    """What both tell together."""
    frames = [_frame(state) for state in (one, other)]
    names = frames[0].columns[:-2]
    both = pl.concat(frames, how="vertical_relaxed")
    if statistic == "mean":
        total = (pl.col(VALUE) * pl.col(WEIGHT)).sum() / pl.col(WEIGHT).sum()
        merged = both.group_by(names, maintain_order=True).agg(total.alias(VALUE), pl.col(WEIGHT).sum())
    else:
        merged = both.group_by([*names, VALUE], maintain_order=True).agg(pl.col(WEIGHT).sum())
    return _state(_thinned(merged, names, statistic), names)


def finish(state: Mapping[str, Any], statistic: Statistic) -> pl.DataFrame:
    """The key columns of each group and its ``value``: mean, median, or the most frequent, the smallest of several."""
    frame = _frame(state)
    names = frame.columns[:-2]
    if statistic == "mean":
        return frame.select(*names, VALUE).sort(names, nulls_last=True)
    if statistic == "mode":
        ordered = frame.sort([*names, WEIGHT, VALUE], descending=[False] * len(names) + [True, False], nulls_last=True)
        return ordered.group_by(names, maintain_order=True).agg(pl.col(VALUE).first())
    ordered = frame.sort([*names, VALUE], nulls_last=True)
    ends = _over(pl.col(WEIGHT).cum_sum(), names)
    count = _over(pl.col(WEIGHT).sum(), names)
    ordered = ordered.with_columns(ends=ends, count=count)
    low = pl.col(VALUE).filter(pl.col("ends") > (pl.col("count") - 1) // 2).first()
    high = pl.col(VALUE).filter(pl.col("ends") > pl.col("count") // 2).first()
    return ordered.group_by(names, maintain_order=True).agg(((low + high) / 2).alias(VALUE))


def most_frequent(values: pl.Series) -> dict[str, Any]:
    """What the values of one column tell of its mode."""
    return tell([pl.Series("key 0", ["all"] * len(values), dtype=pl.String)], values, "mode")


def _over(expression: pl.Expr, names: Sequence[str]) -> pl.Expr:
    return expression.over(names) if names else expression


def _thinned(frame: pl.DataFrame, names: Sequence[str], statistic: Statistic) -> pl.DataFrame:
    """No more than can be held: groups with many values keep MOST_IN_GROUP / 2 of equal weight for their median.

    Each kept value is at most one half of a MOST_IN_GROUP-th of the group's rows away in rank.
    """
    if statistic == "mode" and frame.height > MOST_DISTINCT:
        raise DataError(
            f"a mode among more than {MOST_DISTINCT:,} distinct values says nothing and takes too much memory; fill by "
            "the median or the mean."
        )
    if statistic != "median":
        return frame
    size = pl.len().over(names) if names else pl.len()
    many = frame.filter(size > MOST_IN_GROUP)
    if not many.height:
        return frame
    many = many.sort([*names, VALUE])
    middle = _over(pl.col(WEIGHT).cum_sum(), names) - pl.col(WEIGHT) / 2
    stretch = (middle / _over(pl.col(WEIGHT).sum(), names) * (MOST_IN_GROUP // 2)).cast(pl.Int64)
    kept = (
        many.with_columns(stretch=stretch)
        .group_by([*names, "stretch"], maintain_order=True)
        .agg(pl.col(VALUE).get(pl.len() // 2), pl.col(WEIGHT).sum())
        .drop("stretch")
    )
    return pl.concat([frame.filter(size <= MOST_IN_GROUP), kept], how="vertical_relaxed")


def _state(frame: pl.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    values = frame[VALUE]
    return {
        "keys": [frame[name].to_list() for name in names],
        "values": values.to_numpy() if values.dtype == pl.Float64 else values.to_list(),
        "weights": frame[WEIGHT].cast(pl.Int64).to_numpy(),
    }


def _frame(state: Mapping[str, Any]) -> pl.DataFrame:
    keys = [pl.Series(f"key {i}", key, dtype=pl.String) for i, key in enumerate(state["keys"])]
    return pl.DataFrame([*keys, pl.Series(VALUE, state["values"]), pl.Series(WEIGHT, state["weights"])])
