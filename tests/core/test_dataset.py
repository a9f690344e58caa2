"""Every row is accounted for: what was read is what was kept and what was removed with a reason."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from groundup.core.dataset import ROW, Dataset, Splits, apply, infer_kind
from groundup.core.errors import DataError

COLUMNS: dict[str, st.SearchStrategy[pl.Series]] = {
    "number": st.lists(st.none() | st.floats(width=64), max_size=8).map(lambda v: pl.Series("c", v, dtype=pl.Float64)),
    "whole": st.lists(st.none() | st.integers(-99, 99), max_size=8).map(lambda v: pl.Series("c", v, dtype=pl.Int64)),
    "boolean": st.lists(st.none() | st.booleans(), max_size=8).map(lambda v: pl.Series("c", v, dtype=pl.Boolean)),
    "text": st.lists(st.none() | st.text(max_size=20), max_size=8).map(lambda v: pl.Series("c", v, dtype=pl.String)),
    "image": st.lists(st.none() | st.binary(max_size=20), max_size=8).map(lambda v: pl.Series("c", v, dtype=pl.Binary)),
    "time": st.lists(st.none() | st.dates(datetime.date(1970, 1, 1)), max_size=8).map(
        lambda v: pl.Series("c", v, dtype=pl.Date)
    ),
    "list": st.lists(st.lists(st.integers(0, 255), max_size=3), max_size=8).map(
        lambda v: pl.Series("c", v, dtype=pl.List(pl.UInt8))
    ),
}
any_column = st.sampled_from(sorted(COLUMNS)).flatmap(lambda name: COLUMNS[name])


def numbers(count: int, split: Any = None) -> Dataset:
    frame = pl.DataFrame({"x": [float(i) for i in range(count)], "name": [f"row-{i}" for i in range(count)]})
    return dataclasses.replace(Dataset.of(frame, {"name": "id"}, origin="numbers.csv"), split=split)


def dropping(mask: np.ndarray[Any, Any], reasons: Any = "empty: nothing in it") -> Callable[[Dataset], Dataset]:
    return lambda dataset: dataset.keep(mask, reasons)


# --------------------------------------------------------------------------------------- keep, apply, ledger


@settings(max_examples=80, deadline=None)
@given(column=any_column, data=st.data(), split=st.sampled_from([None, "train"]))
def test_accepted_plus_removed_is_read(column: pl.Series, data: st.DataObject, split: Any) -> None:
    """Over a chain of steps, whatever they remove, and each removed row has a name and a reason."""
    dataset = dataclasses.replace(Dataset.of(column.to_frame()), split=split)
    read = set(dataset.frame[ROW].to_list())
    removed: list[int] = []
    for number in range(data.draw(st.integers(0, 3))):
        mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(dataset), max_size=len(dataset))), dtype=bool)
        gone = dataset.frame[ROW].filter(pl.Series(~mask, dtype=pl.Boolean)).to_list()
        reasons = {int(i): f"planted: row {i} of step {number}" for i in np.flatnonzero(~mask)}
        after = apply(dropping(mask, reasons), dataset, f"step {number}")
        entry = after.history[-1]
        assert entry.rows_before == len(dataset)
        assert entry.rows_after == len(after)
        assert entry.rows_before == entry.rows_after + len(entry.removed)
        assert [name for name, _ in entry.removed] == [f"row {row}" for row in gone]
        assert [reason for _, reason in entry.removed] == list(reasons.values())
        assert entry.reasons() == ({"planted": len(gone)} if gone else {})
        assert entry.cells_changed == {}
        removed += gone
        dataset = after
    kept = dataset.frame[ROW].to_list()
    assert sorted([*kept, *removed]) == sorted(read)
    assert kept == sorted(kept)
    assert dataset.frame["c"].equals(column.gather(kept), null_equal=True)
    assert dataset.pending == ()


@pytest.mark.parametrize("split", ["valid", "test", "serve"])
def test_no_row_leaves_outside_train(split: str) -> None:
    with pytest.raises(DataError, match=f"picky: removed 1 rows of the {split} split"):
        apply(dropping(np.array([True, False, True])), numbers(3, split), "picky")
    apply(dropping(np.ones(3, dtype=bool)), numbers(3, split), "picky")


def silent(dataset: Dataset) -> Dataset:
    return dataset.with_frame(dataset.frame.head(1))


def drop_one_double_another(dataset: Dataset) -> Dataset:
    return dataset.take(np.array([0, 1, 1]))


def book_one_drop_two(dataset: Dataset) -> Dataset:
    return silent(dataset.keep(np.array([True, True, False]), "why"))


@pytest.mark.parametrize("step", [silent, drop_one_double_another, book_one_drop_two])
@pytest.mark.parametrize("split", [None, "train", "valid", "test", "serve"])
def test_rows_that_vanish_in_silence_are_noticed(step: Callable[[Dataset], Dataset], split: Any) -> None:
    with pytest.raises(DataError, match="vanished" if split in (None, "train") else "removed"):
        apply(step, numbers(3, split), "sly")


def test_a_removal_that_did_not_happen_is_noticed() -> None:
    def undone(dataset: Dataset) -> Dataset:
        return dataclasses.replace(dataset.keep(np.array([True, False, True]), "why"), frame=dataset.frame)

    with pytest.raises(DataError, match="0 rows vanished, 1 were removed with a reason"):
        apply(undone, numbers(3), "sly")


def test_a_step_cannot_use_up_the_reasons_of_the_one_before() -> None:
    waiting = numbers(4).keep(np.array([True, True, True, False]), "unreadable: not UTF-8")
    with pytest.raises(DataError, match="1 rows vanished, 0 were removed"):
        apply(lambda d: d.with_frame(d.frame.head(2)), waiting, "sly")
    booked = apply(lambda d: d, waiting, "first").history[-1]
    assert booked.removed == (("row-3", "unreadable: not UTF-8"),)


def test_rows_may_be_added() -> None:
    after = apply(lambda d: d.take(np.array([0, 0, 1, 2])), numbers(3, "train"), "double")
    assert (after.history[-1].rows_before, after.history[-1].rows_after) == (3, 4)


@pytest.mark.parametrize("other", ["train", None, "valid"])
def test_a_step_cannot_move_rows_to_another_split(other: Any) -> None:
    with pytest.raises(DataError, match="turned data of split test"):
        apply(lambda d: dataclasses.replace(d, split=other), numbers(3, "test"), "sly")


def test_a_step_that_loses_the_row_numbers_is_refused() -> None:
    with pytest.raises(DataError, match=ROW):
        apply(lambda d: d.with_frame(d.frame.drop(ROW)), numbers(3), "careless")


def test_a_step_that_gives_no_dataset_is_refused() -> None:
    with pytest.raises(DataError, match="this one gave DataFrame"):
        apply(lambda d: d.frame, numbers(3), "careless")  # type: ignore[arg-type,return-value]


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mask of shape \(2,\) for 3 rows"):
        numbers(3).keep(np.ones(2, dtype=bool), "why")


def test_rows_are_named_by_their_id() -> None:
    after = apply(dropping(np.array([True, False, True])), numbers(3), "s")
    assert after.history[-1].removed == (("row-1", "empty: nothing in it"),)


def test_the_ledger_counts_changed_cells() -> None:
    def change(dataset: Dataset) -> Dataset:
        frame = dataset.frame.with_columns(
            x=pl.Series([0.0, None, float("nan"), 9.0]), new=pl.lit(1), name=pl.col("name")
        )
        return dataset.with_frame(frame).note("saw something")

    entry = apply(change, numbers(4), "change").history[-1]
    assert entry.cells_changed == {"x": 3, "new": 4}
    assert entry.notes == ("saw something",)


def test_changed_cells_are_counted_by_row_when_rows_move() -> None:
    def shuffle_and_change(dataset: Dataset) -> Dataset:
        moved = dataset.take(np.array([3, 1, 0]))
        moved = dataclasses.replace(moved, pending=(("row-2", "why"),))
        return moved.with_frame(moved.frame.with_columns(x=pl.Series([3.0, 1.0, -1.0])))

    assert apply(shuffle_and_change, numbers(4), "s").history[-1].cells_changed == {"x": 1}


@settings(max_examples=60, deadline=None)
@given(column=any_column, data=st.data())
def test_changed_cells_of_any_type_are_counted(column: pl.Series, data: st.DataObject) -> None:
    dataset = Dataset.of(column.to_frame())
    order = np.array(data.draw(st.permutations(range(len(column)))), dtype=np.int64)
    emptied = np.array(data.draw(st.lists(st.booleans(), min_size=len(column), max_size=len(column))), dtype=bool)

    def step(given: Dataset) -> Dataset:
        moved = given.take(order)
        mask = pl.Series(emptied, dtype=pl.Boolean)
        return moved.with_frame(moved.frame.with_columns(c=pl.when(mask).then(None).otherwise(pl.col("c"))))

    changed = int((~column.gather(order).is_null().to_numpy() & emptied).sum())
    assert apply(step, dataset, "s").history[-1].cells_changed == ({"c": changed} if changed else {})


# --------------------------------------------------------------------------------------------- fingerprint


def garbage_under_nulls(frame: pl.DataFrame) -> pl.DataFrame:
    """The same values; under each null lies another value in memory."""
    column = frame["c"]
    if column.dtype not in (pl.Int64, pl.Float64):
        return frame
    return frame.with_columns(pl.when(pl.Series(column.is_null())).then(None).otherwise(column.fill_null(7)).alias("c"))


LAYOUTS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "chunks": lambda f: pl.concat([f.slice(0, len(f) // 2), f.slice(len(f) // 2)], rechunk=False),
    "slice": lambda f: pl.concat([f.head(3), f, f.head(2)]).slice(min(3, len(f)), len(f)),
    "filter": lambda f: pl.concat([f, f]).with_row_index("i").filter(pl.col("i") < len(f)).drop("i"),
    "gather": lambda f: f.reverse()[np.arange(len(f) - 1, -1, -1)],
    "nulls": garbage_under_nulls,
}


@settings(max_examples=100, deadline=None)
@given(column=any_column, layout=st.sampled_from(sorted(LAYOUTS)))
@example(column=pl.Series("c", [True]), layout="filter")
@example(column=pl.Series("c", [False, None, False]), layout="chunks")
def test_equal_values_have_equal_fingerprints(column: pl.Series, layout: str) -> None:
    frame = Dataset.of(column.to_frame()).frame
    other = LAYOUTS[layout](frame)
    assert other.equals(frame, null_equal=True)
    kinds = {"c": infer_kind(column)}
    assert Dataset(other, kinds).fingerprint() == Dataset(frame, kinds).fingerprint()


CHANGES: dict[str, Callable[[Dataset], Dataset]] = {
    "order": lambda d: d.take(np.array([1, 0, 2])),
    "a row": lambda d: d.take(np.array([0, 1])),
    "a value": lambda d: d.with_frame(d.frame.with_columns(x=pl.Series([0.0, 1.0, 2.0000000000000004]))),
    "a null": lambda d: d.with_frame(d.frame.with_columns(x=pl.Series([0.0, 1.0, None]))),
    "a type": lambda d: d.with_frame(d.frame.with_columns(pl.col("x").cast(pl.Float32))),
    "a name": lambda d: d.with_frame(d.frame.rename({"x": "y"})),
    "a kind": lambda d: dataclasses.replace(d, kinds={**d.kinds, "name": "text"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_values_have_another_fingerprint(change: str) -> None:
    assert CHANGES[change](numbers(3)).fingerprint() != numbers(3).fingerprint()


def test_a_null_that_moves_changes_the_fingerprint() -> None:
    first, second = (Dataset.of(pl.DataFrame({"c": values})) for values in ([1, None, 2], [1, 2, None]))
    assert first.fingerprint() != second.fingerprint()


# -------------------------------------------------------------------------------------- columns and kinds


def test_rows_are_numbered_once() -> None:
    dataset = numbers(3)
    assert dataset.columns == ["x", "name"]
    assert Dataset.of(dataset.frame.tail(1)).frame[ROW].to_list() == [2]


def test_a_kind_for_no_column_is_refused() -> None:
    with pytest.raises(DataError, match=r"data: there is no column 'agee'\. Did you mean 'age'\?"):
        Dataset.of(pl.DataFrame({"age": [1]}), {"agee": "number"})


def test_a_needed_column_is_named_with_its_nearest() -> None:
    with pytest.raises(DataError, match=r"fill: numbers\.csv has no column 'nam'\. Did you mean 'name'\?"):
        numbers(1).need("x", "nam", by="fill")


@pytest.mark.parametrize(
    ("series", "kind"),
    [
        (pl.Series([1, 2]), "number"),
        (pl.Series([1.5, None]), "number"),
        (pl.Series([True, None]), "boolean"),
        (pl.Series([datetime.date(2020, 1, 1)]), "time"),
        (pl.Series([datetime.datetime(2020, 1, 1)]), "time"),
        (pl.Series([b"\x89PNG"]), "image"),
        (pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.UInt8, 2)), "image"),
        (pl.Series(["a", "b", "a"]), "category"),
        (pl.Series([f"word {i}" for i in range(200)]), "text"),
        (pl.Series(["a sentence that is rather long for the name of a category"] * 3), "text"),
        (pl.Series([None, None], dtype=pl.String), "category"),
        (pl.Series([], dtype=pl.String), "category"),
        (pl.Series([None, None]), "category"),
    ],
)
def test_inferred_kinds(series: pl.Series, kind: str) -> None:
    assert infer_kind(series) == kind


def test_splits_map_each_part_and_keep_their_names() -> None:
    splits = Splits(numbers(3, "train"), numbers(2, "valid"), numbers(0, "test"))
    mapped = splits.map(lambda part: part.note("seen"))
    assert [(name, part.split, len(part), part.notes) for name, part in mapped.parts().items()] == [
        ("train", "train", 3, ("seen",)),
        ("valid", "valid", 2, ("seen",)),
        ("test", "test", 0, ("seen",)),
    ]


def test_taking_names_the_split_and_keeps_the_row_numbers() -> None:
    part = numbers(5).take(np.array([4, 0]), "valid")
    assert part.split == "valid"
    assert part.frame[ROW].to_list() == [4, 0]
    assert len(numbers(5).take(np.array([], dtype=np.int64), "test")) == 0
