"""Target and hash encoding: equal to scikit-learn's, and no row of train is told its own target."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction import FeatureHasher
from sklearn.model_selection import PredefinedSplit
from sklearn.preprocessing import TargetEncoder

from groundup.core.dataset import Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.preprocessing import Preprocessing, fit_step
from groundup.core.use import Use, make
from groundup.data.prepare import HashEncode, Standardize, TargetEncode
from groundup.data.prepare.encoding import fold_of_rows


def table(split: str = "train", kinds: dict[str, Kind] | None = None, **columns: Sequence[Any]) -> Dataset:
    dataset = Dataset.of(pl.DataFrame(columns, strict=False), kinds or {"c": "category"}, origin="memory")
    return dataclasses.replace(dataset, split=split)  # type: ignore[arg-type]


rows = st.lists(
    st.tuples(st.one_of(st.none(), st.sampled_from("abcd")), st.integers(-5, 5), st.sampled_from(["n", "y", "z"])),
    min_size=12,
    max_size=50,
)


def expected(step: TargetEncode, data: Dataset, target: Any, kind: str) -> tuple[np.ndarray[Any, Any], TargetEncoder]:
    """Scikit-learn's encoding of train on our folds, and its encoder fitted on all."""
    folds = fold_of_rows(data.frame["_row"].to_numpy(), step.folds, step.seed)
    values = np.array([[value or "none"] for value in data.frame["c"]], dtype=object)
    encoder = TargetEncoder(smooth=step.smoothing, target_type=kind, cv=PredefinedSplit(folds))
    return encoder.fit_transform(values, target), encoder


@pytest.mark.parametrize("smoothing", ["auto", 0.0, 7.5])
@given(rows)
@settings(max_examples=40)
def test_target_encoding_equals_scikit_learn_on_its_folds(smoothing: Any, drawn: list[Any]) -> None:
    categories, values, names = zip(*drawn, strict=True)
    step = TargetEncode(target="y", smoothing=smoothing, folds=3)
    folds = fold_of_rows(np.arange(len(drawn)), 3, 0)
    assume(len(set(folds.tolist())) == 3)
    assume(all(len({names[i] for i in np.flatnonzero(folds != fold)}) == 3 for fold in range(3)))
    later = [*"abcde", None]
    for kind, target, task in (
        ("continuous", np.array(values, dtype=float), "auto"),
        ("binary", np.array(["y" if n == "y" else "n" for n in names]), "auto"),
        ("multiclass", np.array(names), "classify"),
    ):
        data = table(
            c=categories,
            y=target.tolist(),
            kinds={"c": "category", "y": "number" if kind == "continuous" else "category"},
        )
        fitted = dataclasses.replace(step, task=task).fit(data)
        wanted, encoder = expected(step, data, target, kind)
        found = fitted(data)
        labels = ["c"] if kind != "multiclass" else ["c~n", "c~y", "c~z"]
        np.testing.assert_allclose(found.frame.select(labels).to_numpy(), wanted, rtol=1e-9, atol=1e-9)
        others = fitted(table("test", c=later, y=["n"] * 6))
        wanted = encoder.transform(np.array([[value or "none"] for value in later], dtype=object))
        np.testing.assert_allclose(others.frame.select(labels).to_numpy(), wanted, rtol=1e-9, atol=1e-9)
        assert all(found.kinds[label] == "number" for label in labels)


@given(rows, st.integers(0, 49), st.floats(-100, 100))
@settings(max_examples=60)
def test_no_row_is_told_its_own_target(drawn: list[Any], row: int, other: float) -> None:
    categories, values, _ = zip(*drawn, strict=True)
    row %= len(drawn)
    changed = [float(value) for value in values]
    changed[row] = other
    before, after = table(c=categories, y=[float(v) for v in values]), table(c=categories, y=changed)
    for smoothing in ("auto", 3.0):
        step = TargetEncode(target="y", smoothing=smoothing)  # type: ignore[arg-type]
        assert step.fit(before)(before).frame["c"][row] == step.fit(after)(after).frame["c"][row]


@given(rows, st.integers(1, 11))
@settings(max_examples=40)
def test_pieces_tell_what_all_rows_tell(drawn: list[Any], cut: int) -> None:
    categories, values, names = zip(*drawn, strict=True)
    assume(len(set(names)) == 3)
    data = table(c=categories, y=[float(v) for v in values], z=names, kinds={"c": "category", "z": "category"})
    shards = [data.take(np.arange(cut)), data.take(np.arange(cut, len(data)))]
    later = table("test", c=[*"abcde", None])
    for step in (TargetEncode(["c"], "y"), TargetEncode(["c"], "z"), HashEncode(["c"])):
        whole: Any = step.fit(data)
        merged: Any = step.finish(functools.reduce(step.merge, [step.partial(shard) for shard in shards]))  # type: ignore[attr-defined]
        for part in (later, data):
            for name, column in whole(part).frame.to_dict().items():
                if column.dtype.is_float():
                    np.testing.assert_allclose(merged(part).frame[name], column, rtol=1e-9, atol=1e-12)
        shard_rows = whole(shards[1]).frame
        assert shard_rows.equals(whole(data).frame[cut:]), "a row is encoded alike in any shard"


def test_hashing_is_scikit_learns() -> None:
    values = [f"city {i}" for i in range(60)]
    step = HashEncode(buckets=8).fit(table(c=values[:5]))
    found = step(table("test", c=[*values, None]))
    wanted = FeatureHasher(8, input_type="dict").transform([{"c": value} for value in values]).toarray()
    columns = [f"c#{i}" for i in range(8)]
    assert found.columns == columns
    np.testing.assert_array_equal(found.frame.select(columns).to_numpy()[:-1], wanted)
    assert found.frame.select(columns).row(-1) == (0.0,) * 8
    assert found.notes == ("c: 1 missing, 0 in all its columns",)
    with pytest.raises(DataError, match="a column 'c#0' already"):
        HashEncode(["c"]).fit(table(c=["a"]))(table(**{"c": ["a"], "c#0": [1]}))


def test_what_is_unknown_is_said_and_missing_may_be_known() -> None:
    step = TargetEncode(target="y", smoothing=0.0).fit(
        table(c=["a", "a", "b", "b", None, None], y=[1.0, 3, 5, 7, 9, 11])
    )
    after = step(table("serve", c=["a", "b", "z", None]))
    assert after.frame["c"].to_list() == [2.0, 6.0, 6.0, 10.0]
    assert after.notes == ("c: 1 values of categories that train did not have ('z'), encoded as the mean over all",)
    without = TargetEncode(target="y", smoothing=0.0).fit(table(c=["a", "a", "b", "b"], y=[1.0, 3, 5, 7]))
    after = without(table("serve", c=["a", None]))
    assert after.frame["c"].to_list() == [2.0, 4.0]
    assert after.notes == ("c: 1 missing, encoded as the mean over all",)


def test_in_a_recipe_the_target_is_the_samples_own() -> None:
    step = make(Use("TargetEncode"), "prepare", exclude=["y"], target="y")
    assert step.target == "y"
    train = table(c=["a", "b"] * 5, y=[1.0, 2.0] * 5)
    fitted = fit_step(step, train)
    with pytest.raises(DataError, match="would leak"):
        fit_step(step, dataclasses.replace(train, split="valid"))
    json.dumps(fitted.learned, allow_nan=False)
    recalled = Preprocessing.from_json(Preprocessing((fitted,), Standardize(learned=fitted.learned)).to_json())
    assert recalled.prepare[0](train).frame.equals(fitted(train).frame)


def test_what_is_refused() -> None:
    train = table(c=["a", "b", "a"], y=[1.0, None, 2.0])
    for step, words in (
        (TargetEncode(), "TargetEncode.target: none was named"),
        (TargetEncode(target="Y"), "Did you mean 'y'"),
        (TargetEncode(target="y"), r"'y' is missing at row 1 \(1 such rows\)"),
        (TargetEncode(["y"], "y"), "is the target or excluded"),
        (TargetEncode(target="t"), "all 3 rows of train have the class 'q'"),
        (HashEncode(["x"]), "no column 'x'"),
    ):
        with pytest.raises(DataError, match=words):
            step.fit(train.with_frame(train.frame.with_columns(t=pl.lit("q")), {"t": "category"}))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="has learned nothing yet"):
        TargetEncode(target="y")(train)
    for options, words in (({"folds": 1}, "folds: read 1"), ({"smoothing": -1.0}, "smoothing: read -1")):
        with pytest.raises(ValueError, match=words):
            TargetEncode(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="buckets: read 0"):
        HashEncode(buckets=0)
