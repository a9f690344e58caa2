"""Rows: targets are never guessed or invented, and a prediction speaks the user's units."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from groundup.core.dataset import Dataset, Kind, Splits, apply
from groundup.core.errors import DataError, GroundupError
from groundup.core.preprocessing import Preprocessing
from groundup.data.prepare import Fill, OneHot, Standardize
from groundup.data.samples import Rows
from groundup.data.sources import csv, scikit_learn


def table(split: str = "train", kinds: dict[str, Kind] | None = None, **columns: Sequence[Any]) -> Dataset:
    dataset = Dataset.of(pl.DataFrame(columns, strict=False), kinds, origin="memory")
    return dataclasses.replace(dataset, split=split)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "kind", "task"),
    [
        (["yes", "no"] * 10, "category", "classify"),
        ([True, False] * 10, "boolean", "classify"),
        ([0, 1] * 10, "number", "classify"),
        ([0.0, 2.0] * 10, "number", "classify"),
        ([0.5, 1.0] * 10, "number", "regress"),
        (list(range(20)), "number", "regress"),
        (list(range(21)) * 10, "number", "regress"),
        (list(range(20)) * 5, "number", "classify"),
    ],
)
def test_the_task_follows_from_the_target(target: list[Any], kind: Kind, task: str) -> None:
    rows = Rows("y").fit(table(kinds={"y": kind}, x=np.arange(len(target)), y=target))
    assert rows.task == task
    sizes = rows.sizes()
    assert sizes["in_features"] == 1
    assert ("num_classes" in sizes) == (task == "classify")
    if kind == "number":
        other = Rows("y", task="regress" if task == "classify" else "classify")
        assert other.fit(table(x=np.arange(len(target)), y=target)).task == other.task


@given(st.lists(st.floats(-1e5, 1e5, width=32), min_size=3, max_size=30, unique=True))
@settings(max_examples=60, deadline=None)
def test_regression_comes_back_in_its_own_units(values: list[float]) -> None:
    if np.std(values) < 1e-3 * max(np.abs(values)):
        return
    train = table(x=np.arange(len(values)), y=values)
    rows = Rows("y", task="regress").fit(train)
    encoded = rows.encode(train)
    _, targets = encoded.batch(np.arange(len(values)))
    assert targets["targets"].shape == (len(values), rows.sizes()["out_features"])
    scale = max(np.abs(values))
    np.testing.assert_allclose(rows.decode_targets(targets), values, rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(rows.decode(targets["targets"]), values, rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(encoded.arrays()[1], values, rtol=1e-5, atol=1e-5 * scale)
    assert abs(float(targets["targets"].mean())) < 1e-3


def test_classes_come_back_as_they_were() -> None:
    train = table(x=[1, 2, 3, 4], y=[7, 3, 7, 5])
    rows = Rows("y", task="classify").fit(train)
    encoded = rows.encode(train)
    inputs, targets = encoded.batch(np.array([2, 0, 1]))
    assert inputs["inputs"].tolist() == [[3.0], [1.0], [2.0]]
    assert targets["targets"].tolist() == [2, 2, 0]
    assert targets["targets"].dtype == torch.int64
    probabilities = rows.decode(torch.tensor([[0.0, 1.0, 0.0]]))
    assert probabilities.sum() == pytest.approx(1)
    shown = rows.present(probabilities)[0]
    assert shown["label"] == 5
    assert shown["probabilities"] == pytest.approx({"3": 0.2119, "5": 0.5761, "7": 0.2119}, abs=1e-4)
    assert encoded.describe(1) == {"x": 2.0, "target y": 3}
    with pytest.raises(DataError, match=r"shape \(1, 2\), expected \[N, 3\]"):
        rows.decode(torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (table(x=[1, 2], y=[1, 1]), "'y' is constant: all 2 rows of train have 1"),
        (table(x=[1, 2], y=["a", "a"]), "'y' is constant"),
        (table(x=[1, 2, 3], y=[1.5, None, 2.5]), r"'y' is missing in 1 rows of train \(row 1\)"),
        (table(x=[1, 2, 3], y=[1.5, float("nan"), 2.5]), "'y' is missing in 1 rows"),
        (table(x=[1, 2], z=[1, 2]), "no column 'y'"),
        (table(kinds={"y": "id"}, x=[1, 2], y=["a", "b"]), "is of kind id"),
        (
            table(kinds={"l": "id", "t": "text"}, l=["u", "v"], t=["u", "v"], y=[1.5, 2.5]),
            "category, but there is text: t",
        ),
        (table(y=[1.5, 2.5]), "no input column"),
        (table(x=[], y=[]), "train has no rows"),
    ],
)
def test_a_target_or_input_that_cannot_be_learned(dataset: Dataset, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Rows("y").fit(dataset)


def test_inputs_by_name_and_pattern() -> None:
    train = table(**{"a": [1, 2], "c=x": [True, False], "c=y": [False, True], "y": [1.5, 2.5], "id": ["p", "q"]})
    train = dataclasses.replace(train, kinds={**train.kinds, "id": "id"})
    rows = Rows("y", inputs=["c=*", "a"]).fit(train)
    assert rows.learned is not None
    assert rows.learned["inputs"] == ["c=x", "c=y", "a"]
    assert Rows("y").fit(train).sizes()["in_features"] == 3, "ids name rows and are no input"
    with pytest.raises(DataError, match="'d=\\*' matches no column"):
        Rows("y", inputs=["d=*"]).fit(train)
    with pytest.raises(DataError, match="'y' is the target itself"):
        Rows("y", inputs=["y"]).fit(train)


def test_a_target_that_a_step_changed_is_refused() -> None:
    train = table(x=[1.0, 2.0, 3.0], y=[1.0, 2.5, 4.0])
    scaled = apply(Standardize().fit(train), train, "Standardize")
    with pytest.raises(DataError, match="'y' was changed by the prepare step Standardize"):
        Rows("y").fit(scaled)
    rows = Rows("y").fit(train)
    gap = table("test", x=[1.0, 2.0], y=[None, 2.0])
    filled = apply(Fill().fit(train), gap, "Fill")
    with pytest.raises(DataError, match="invented"):
        rows.encode(filled)


def test_gaps_and_strange_classes_are_named() -> None:
    rows = Rows("y").fit(table(x=[1.0, 2.0], z=[1.0, 2.0], y=["a", "b"]))
    with pytest.raises(DataError, match=r"'z' is missing at row 1 of test \(1 such cells\)"):
        rows.encode(table("test", x=[1.0, 2.0], z=[1.0, None], y=["a", "b"]))
    with pytest.raises(DataError, match="'x' is 1e\\+39, too large"):
        rows.encode(table("test", x=[1.0, 1e39], z=[1.0, 1.0], y=["a", "b"]))
    with pytest.raises(DataError, match="row 1 of valid has the class 'c', which train did not have"):
        rows.encode(table("valid", x=[1.0, 2.0], z=[1.0, 2.0], y=["a", "c"]))
    with pytest.raises(GroundupError, match="has no change_row"):
        rows.encode(table("test", x=[1.0], z=[1.0], y=["a"])).batch(np.array([0]), augment=[object()])
    assert len(rows.encode(table("test", kinds={"x": "number", "z": "number"}, x=[], z=[], y=[]))) == 0


SCHEMA: dict[str, Kind] = {"n": "number", "c": "category", "b": "boolean", "y": "number", "name": "id", "when": "time"}


@pytest.mark.parametrize("form", ["dict", "list", "frame", "json", "json file", "csv file"])
def test_raw_input_in_every_form(tmp_path: Path, form: str) -> None:
    kinds: dict[str, Kind] = {"c": "category", "b": "boolean", "name": "id"}
    train = table(kinds=kinds, n=[1.0, 2.0], c=["1", "u"], b=[True, False], y=[1.5, 2.5], name=["r", "s"])
    rows = Rows("y", task="regress").fit(OneHot().fit(train)(train))
    row: dict[str, Any] = {"n": 3, "c": 1, "b": True, "extra": 5}
    raw: Any = {"dict": row, "list": [row], "frame": pl.DataFrame([row]), "json": json.dumps(row)}.get(form)
    if form == "json file":
        (tmp_path / "row.json").write_text(json.dumps([row]))
        raw = tmp_path / "row.json"
    elif form == "csv file":
        (tmp_path / "row.csv").write_text("n,c,b,extra\n3,1,true,5\n")
        raw = str(tmp_path / "row.csv")
    dataset = rows.read(raw, SCHEMA)
    assert dataset.split == "serve"
    assert dataset.frame.select("n", "c", "b").rows() == [(3.0, "1", True)]
    assert dataset.notes == ("columns that were not there in training are left out: extra",)


def test_raw_input_may_lack_values_but_not_columns() -> None:
    rows = Rows("y", task="regress").fit(table(n=[1.0, 2.0], m=[1.0, 2.0], y=[1.5, 2.5]))
    for empty in (None, "", " NA ", float("nan")):
        assert rows.read({"n": empty, "m": "2.5", "y": 3}).frame.select("n", "m").rows() == [(None, 2.5)]
    with pytest.raises(DataError, match=r"lacks the columns 'm'.*Did you mean 'M'"):
        rows.read({"n": 1, "M": 2})
    with pytest.raises(DataError, match="row 1 lacks the columns 'm'"):
        rows.read([{"n": 1, "m": 2}, {"n": 1}])
    with pytest.raises(DataError, match="row 0, column 'n': read 'many', expected a number"):
        rows.read({"n": "many", "m": 2})
    with pytest.raises(DataError, match="expected a row as a dict"):
        rows.read(42)
    with pytest.raises(DataError, match="no such file"):
        rows.read("rows.csv")
    with pytest.raises(DataError, match="not valid JSON"):
        rows.read('{"n": ')
    with pytest.raises(DataError, match="has no rows"):
        rows.read(pl.DataFrame({"n": [], "m": []}))


def test_titanic_from_raw_row_to_label(shared_data: Path) -> None:
    dataset = csv(
        shared_data / "tab_titanic" / "titanic.csv", columns=["Survived", "Pclass", "Sex", "Age", "Fare", "Embarked"]
    )()
    at = np.random.default_rng(0).permutation(len(dataset))
    splits = Splits(dataset.take(at[:600], "train"), dataset.take(at[600:700], "valid"), dataset.take(at[700:], "test"))
    steps = [Fill(indicator=True, exclude=["Survived"]), OneHot(), Standardize(exclude=["Survived"])]
    fitted, prepared = Preprocessing.fit(steps, Rows("Survived"), splits)
    train = fitted.samples.encode(prepared.train)
    assert fitted.samples.task == "classify"
    recalled = Preprocessing.from_json(fitted.to_json(), trusted=("groundup",))
    test = recalled.samples.encode(prepared.test)
    baseline = LogisticRegression(max_iter=500).fit(*train.arrays())
    assert baseline.score(*test.arrays()) > 0.7
    raw = splits.test.frame.drop("_row", "Survived").row(0, named=True)
    raw["Age"] = None
    served = recalled.samples.encode(recalled(recalled.samples.read(raw, recalled.schema)))
    names = recalled.samples.learned["inputs"]
    assert served.inputs[0, names.index("Age_missing")] == 1
    same = [i for i, name in enumerate(names) if not name.startswith("Age")]
    np.testing.assert_array_equal(served.inputs[0, same], test.inputs[0, same])


def test_bundled_sets_go_through() -> None:
    for name, task in (
        ("iris", "classify"),
        ("wine", "classify"),
        ("breast_cancer", "classify"),
        ("diabetes", "regress"),
    ):
        dataset = scikit_learn(name)  # type: ignore[arg-type]
        target = "progression" if name == "diabetes" else "label"
        train = dataset.take(np.arange(len(dataset)), "train")
        rows = Rows(target).fit(train)
        assert rows.task == task
        assert len(rows.encode(train).arrays()[1]) == len(dataset)


# ------------------------------------------------------------------------------- categories as their index

SHOPS = {
    "shop": ["b", "a", "b", None, "c", "a"],
    "size": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "price": [1.5, 2.5, 3, 4, 5, 6],
}
KINDS: dict[str, Kind] = {"shop": "category"}


def test_a_category_is_given_as_its_index() -> None:
    train = table(kinds=KINDS, **SHOPS)
    rows = Rows("price", task="regress").fit(train)
    assert rows.sizes()["categories"] == (4, 0), "three of train, and one for all else"
    assert rows.sizes()["in_features"] == 2
    encoded = rows.encode(train)
    assert encoded.inputs.tolist() == [[2, 1], [1, 2], [2, 3], [0, 4], [3, 5], [1, 6]]
    assert encoded.numbers.tolist() == [False, True]
    assert encoded.describe(4) == {"shop": "c", "size": 5.0, "target price": pytest.approx(5.0)}
    assert encoded.describe(3)["shop"] == "none that train had"
    assert "shop: 1 missing, now index 0" in encoded.notes
    test = table("test", kinds=KINDS, shop=["d", "a"], size=[1.0, 2.0], price=[1.0, 2.0])
    found = rows.encode(test)
    assert found.inputs[:, 0].tolist() == [0, 1]
    assert found.notes == ("shop: 1 values of categories that train did not have ('d'), now index 0",)
    assert "categories" not in Rows("price", inputs=["size"], task="regress").fit(train).sizes()


def test_baselines_see_categories_as_columns() -> None:
    train = table(kinds=KINDS, **SHOPS)
    inputs, _ = Rows("price", inputs=["size", "shop"], task="regress").fit(train).encode(train).arrays()
    assert inputs.tolist() == [[1, 0, 1, 0], [2, 1, 0, 0], [3, 0, 1, 0], [4, 0, 0, 0], [5, 0, 0, 1], [6, 1, 0, 0]]


def test_categories_are_learned_from_all_shards_and_travel_as_json() -> None:
    train = table(kinds=KINDS, **SHOPS)
    rows = Rows("price", task="regress")
    shards = [rows.partial(train.take(np.arange(*cut))) for cut in ((0, 0), (4, 6), (0, 4))]
    merged = rows.merge(rows.merge(shards[0], shards[1]), shards[2])
    again = rows.finish(json.loads(json.dumps(merged)))
    assert again.learned is not None
    assert again.learned["categories"] == {"shop": ["a", "b", "c"]}
    assert np.array_equal(again.encode(train).inputs, rows.fit(train).encode(train).inputs)


def test_too_many_categories_name_rows() -> None:
    names = [f"n{i}" for i in range(1001)]
    with pytest.raises(DataError, match="'shop' has 1001 categories in train, more than 1000: it names its rows"):
        Rows("y").fit(table(kinds=KINDS, shop=names, y=np.arange(1001.0)))
