"""Targets: scaled for the model, and predictions in the user's units again, whatever the scale."""

from __future__ import annotations

import dataclasses
import functools
import typing
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import preprocessing as reference

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.preprocessing import Preprocessing
from groundup.core.use import Use, make
from groundup.data.prepare import Standardize
from groundup.data.samples import Rows, Windows
from groundup.data.samples.targets import TargetScale, finish_scale, from_scale, partial_scale, to_scale


def learn_scale(values: np.ndarray[Any, Any], scale: TargetScale, where: str) -> dict[str, Any]:
    return finish_scale(partial_scale(values, scale), scale, where)


SCALES = typing.get_args(TargetScale)


def table(**columns: Any) -> Dataset:
    return dataclasses.replace(Dataset.of(pl.DataFrame(columns), origin="memory"), split="train")


spread = st.lists(st.floats(-1e5, 1e5, allow_subnormal=False), min_size=8, max_size=60, unique=True).filter(
    lambda values: np.std(values) > 1e-3 * max(np.abs(values)) and np.diff(np.quantile(values, [0.25, 0.75]))[0] > 1e-3
)


@pytest.mark.parametrize("scale", SCALES)
@given(values=spread)
def test_each_scale_is_undone(scale: TargetScale, values: list[float]) -> None:
    numbers = np.array(values)
    learned = learn_scale(numbers, scale, "y")
    tolerance = 1e-6 * np.abs(numbers).max()
    np.testing.assert_allclose(from_scale(to_scale(numbers, learned), learned), numbers, rtol=1e-6, atol=tolerance)
    assert np.isfinite(from_scale(np.linspace(-6, 6, 50), learned)).all(), "also what lies beyond train"
    order = np.argsort(numbers)
    assert (np.diff(to_scale(numbers, learned)[order]) >= 0).all()


def test_each_scale_is_scikit_learns() -> None:
    values = np.random.default_rng(0).lognormal(1, 0.7, 500)
    later = values * 2 + 1
    long_tail = reference.FunctionTransformer(lambda x: np.sign(x) * np.log1p(np.abs(x)))
    for scale, steps in {
        "z_score": [reference.StandardScaler()],
        "min_max": [reference.MinMaxScaler()],
        "robust": [reference.RobustScaler()],
        "log": [long_tail, reference.StandardScaler()],
        "yeo_johnson": [reference.PowerTransformer()],
        "none": [reference.FunctionTransformer()],
    }.items():
        learned = learn_scale(values, scale, "y")  # type: ignore[arg-type]
        fitted, wanted = values[:, None], later[:, None]
        for step in steps:
            wanted = step.fit(fitted).transform(wanted)
            fitted = step.transform(fitted)
        np.testing.assert_allclose(to_scale(later, learned), wanted[:, 0], rtol=1e-5, atol=1e-6, err_msg=scale)


@pytest.mark.parametrize("scale", SCALES)
def test_rows_and_windows_answer_in_the_users_units(scale: TargetScale) -> None:
    values = np.random.default_rng(1).lognormal(2, 1, 60)
    data = table(x=np.arange(60.0), y=values)
    rows = make(Use("Rows", target="y", target_scale=scale), "samples").fit(data)
    encoded = rows.encode(data)
    _, targets = encoded.batch(np.arange(60))
    np.testing.assert_allclose(rows.decode_targets(targets), values, rtol=1e-4)
    np.testing.assert_allclose(rows.decode(targets["targets"]), values, rtol=1e-4)
    np.testing.assert_allclose(encoded.arrays()[1], values, rtol=1e-4)
    windows = make(Use("Windows", target="y", length=5, horizon=2, target_scale=scale), "samples").fit(data)
    encoded = windows.encode(data)
    _, targets = encoded.batch(np.arange(len(encoded)))
    future = np.stack([values[5:-1], values[6:]], axis=1)
    np.testing.assert_allclose(windows.decode(targets["targets"]), future, rtol=1e-4)
    np.testing.assert_allclose(windows.decode_targets(targets), future, rtol=1e-4)
    assert encoded.last()[0] == values[4]
    for samples in (rows, windows):
        recalled = Preprocessing.from_json(Preprocessing((), samples).to_json()).samples
        assert recalled.learned["target"] == samples.learned["target"]
        np.testing.assert_array_equal(
            recalled.decode(targets["targets"][:, :1].expand(-1, samples.sizes()["out_features"])),
            samples.decode(targets["targets"][:, :1].expand(-1, samples.sizes()["out_features"])),
        )


@pytest.mark.parametrize("scale", SCALES)
def test_samples_learn_from_pieces(scale: TargetScale) -> None:
    draw = np.random.default_rng(2)
    times = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 2, 15), "1h", eager=True)
    data = table(
        x=draw.normal(size=40),
        y=draw.lognormal(size=40),
        c=draw.choice(["a", "b"], 40),
        n=draw.integers(0, 3, 40),
        time=times,
    )
    shards = [data.take(cut) for cut in np.split(np.arange(40), [7, 20])]
    builders: list[Any] = [
        Rows("y", inputs=["x"], target_scale=scale), Windows("y", 3, 2, inputs=["x", "y"], target_scale=scale),
        Rows("c", inputs=["x"]), Rows("n", inputs=["x"]), Rows("n", inputs=["x"], task="regress", target_scale=scale),
    ]  # fmt: skip
    for builder in builders:
        whole = builder.fit(data)
        merged = builder.finish(functools.reduce(builder.merge, [builder.partial(shard) for shard in shards]))
        assert merged.task == whole.task
        np.testing.assert_equal(_rounded(merged.learned), _rounded(whole.learned))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def test_an_answer_beyond_the_limit_of_a_power_is_held() -> None:
    values = np.random.default_rng(0).lognormal(0, 1, 500)
    learned = learn_scale(values, "yeo_johnson", "y")
    assert learned["power"] < 0
    reach = values.max() - values.min()
    assert from_scale(np.array([1e3]), learned)[0] == pytest.approx(values.max() + reach)


def test_what_has_no_scale_is_refused() -> None:
    with pytest.raises(DataError, match="target_scale: 'y' has classes"):
        Rows("y", target_scale="log").fit(table(x=np.arange(20), y=["a", "b"] * 10))
    with pytest.raises(DataError, match="constant"):
        Rows("y", task="regress").fit(table(x=np.arange(4), y=[2.5] * 4))
    with pytest.raises(DataError, match=r"'y' is constant: 2\.5 in all 9 rows of train"):
        Windows("y", length=2, horizon=1).fit(table(x=np.arange(9), y=[2.5] * 9))
    with pytest.raises(DataError, match="'y' has no spread by robust"):
        Rows("y", task="regress", target_scale="robust").fit(table(x=np.arange(9), y=[2.5] * 8 + [3.5]))


def test_checkpoints_of_before_are_read() -> None:
    old = {"task": "regress", "mean": 4.0, "deviation": 2.0}
    rows = Rows("y", task="regress", learned={"rows": 3, "inputs": ["x"], "target": old, "kinds": {"x": "number"}})
    assert rows.decode(torch.tensor([[1.0], [-1.0]])).tolist() == [6.0, 2.0]
    assert Preprocessing.from_json(Preprocessing((Standardize(),), rows).to_json()).samples == rows
