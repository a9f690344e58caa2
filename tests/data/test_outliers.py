"""Outliers: bounds and scores equal scikit-learn's and PyOD's, every action does what it says, nothing leaks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import MinCovDet
from sklearn.ensemble import IsolationForest as Forest
from sklearn.neighbors import LocalOutlierFactor as Factor
from sklearn.svm import OneClassSVM as Machine

from groundup.core.contract import Mergeable, contract_of
from groundup.core.dataset import Dataset, Kind, apply
from groundup.core.errors import DataError, RecipeError
from groundup.core.preprocessing import Preprocessing, fit_step
from groundup.core.use import Use, check, make
from groundup.data import series
from groundup.data.prepare import ClipOutliers, OutlierRows, Outliers, Standardize
from groundup.data.prepare.detectors import (
    ECOD,
    Detector,
    IsolationForest,
    LocalOutlierFactor,
    OneClassSVM,
    RobustCovariance,
)

Array = np.ndarray[Any, Any]


def table(split: str = "train", kinds: dict[str, Kind] | None = None, **columns: Sequence[Any]) -> Dataset:
    dataset = Dataset.of(pl.DataFrame(columns, strict=False), kinds, origin="memory")
    return dataclasses.replace(dataset, split=split)  # type: ignore[arg-type]


def matrix_table(matrix: Array, split: str = "train") -> Dataset:
    return table(split, **{f"x{i}": matrix[:, i] for i in range(matrix.shape[1])})


# ------------------------------------------------------------------------------- column by column

TRAIN = [1.0, 2.0, 3.0, 4.0, 100.0, None]


@pytest.mark.parametrize("method", ["iqr", "k_sigma", "mad", "quantile"])
def test_each_action_does_what_it_says(method: Any) -> None:
    k = {"iqr": 1.5, "k_sigma": 1.5, "mad": 3.5, "quantile": 0.1}[method]
    train = table(x=TRAIN, y=[1, 2, 3, 4, 5, 6])
    clip = Outliers(["x"], method, "clip", k).fit(train)
    assert clip.learned == ClipOutliers(["x"], method, k).fit(train).learned
    assert clip(train).frame.equals(ClipOutliers(["x"], method, k, learned=clip.learned)(train).frame)
    assert clip.learned is not None
    low, high = (clip.learned["columns"]["x"][end] for end in ("low", "high"))
    far = [v is not None and not low <= v <= high for v in TRAIN]
    assert far[4], "100 is an outlier by each of them"
    expected = [None if v is None else min(max(v, low), high) for v in TRAIN]
    assert clip(train).frame["x"].to_list() == pytest.approx(expected)

    blank = dataclasses.replace(clip, action="blank")(train)
    assert blank.frame["x"].to_list() == [None if f else v for f, v in zip(far, TRAIN, strict=True)]
    flag = Outliers(["x"], method, "flag", k).fit(train)(train)
    assert flag.frame["x_outlier"].to_list() == far
    assert flag.frame["x"].equals(train.frame["x"])
    assert flag.kinds["x_outlier"] == "boolean"

    drop = Outliers(["x"], method, "drop", k).fit(train)
    after = apply(drop, train, "Outliers")
    assert after.frame["x"].to_list() == [v for f, v in zip(far, TRAIN, strict=True) if not f]
    assert all(reason.startswith("outlier: x is ") for _, reason in after.history[-1].removed)
    stays = apply(drop, dataclasses.replace(train, split="test"), "Outliers")
    assert len(stays) == 6
    assert f"{sum(far)} rows with outliers stay, since this is not train" in stays.history[-1].notes
    assert apply(clip, train, "Outliers").history[-1].cells_changed["x"] == sum(far)


@given(st.lists(st.one_of(st.none(), st.floats(-100, 100, width=16)), min_size=2, max_size=40), st.integers(1, 39))
@settings(max_examples=60, deadline=None)
def test_bounds_from_pieces_are_those_of_the_whole(values: list[float | None], cut: int) -> None:
    train = table(kinds={"x": "number"}, x=values)
    if not any(v is not None for v in values):
        return
    for method in ("iqr", "k_sigma", "mad", "quantile"):
        step = Outliers(method=method)  # type: ignore[arg-type]
        pieces = [train.take(np.arange(0, min(cut, len(values)))), train.take(np.arange(cut, len(values)))]
        assert isinstance(step, Mergeable)
        again = step.finish(step.merge(*(step.partial(piece) for piece in pieces))).learned
        whole = step.fit(train).learned
        assert again is not None
        assert whole is not None
        for end in ("low", "high"):
            one, other = again["columns"]["x"][end], whole["columns"]["x"][end]
            assert (one is None) == (other is None)
            assert one is None or one == pytest.approx(other, rel=1e-9, abs=1e-9)


def test_hampel_goes_series_by_series_in_order_of_time() -> None:
    rng = np.random.default_rng(0)
    values = np.sin(np.arange(60) / 5)
    values[[20, 45]] += 9.0
    order = rng.permutation(120)
    train = table(
        key=np.repeat(["a", "b"], 60)[order],
        when=np.tile(np.arange(60), 2)[order],
        x=np.concatenate([values, -values])[order],
    )
    step = Outliers(["x"], "hampel", "clip", width=9, by=["key"], time="when").fit(train)
    assert contract_of(step) == "keyed"
    found = step(train).frame.sort("key", "when")["x"].to_numpy().reshape(2, 60)
    expected = series.hampel(np.stack([values, -values])[:, :, None], width=9)[:, :, 0]
    np.testing.assert_array_equal(found, expected)
    far = dataclasses.replace(step, action="flag")(train).frame.sort("key", "when")["x_outlier"].to_numpy()
    assert far.reshape(2, 60)[:, [20, 45]].all()
    assert not step.looks_ahead
    assert Outliers(method="hampel", causal=False).looks_ahead
    blank = dataclasses.replace(step, action="blank")(train)
    assert blank.frame["x"].null_count() == int(far.sum())
    assert blank.notes == (f"x: {int(far.sum())} values far from their neighbours blanked",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "quantile", "k": 0.6}, "k: read 0.6"),
        ({"method": "iqr", "by": ["x"]}, "by: iqr has the same bounds"),
        ({"method": "hampel", "width": 4, "causal": False}, "width: read 4"),
        ({"method": "isolation"}, "iqr"),
    ],
)
def test_options_of_outliers_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make(check(Use("Outliers", **options), "prepare", "recipe.data.prepare[0]"), "prepare")
    with pytest.raises(DataError, match="'x_outlier' would replace"):
        Outliers(action="flag").fit(table(x=[1.0, 2.0], x_outlier=[0, 1]))


# ------------------------------------------------------------------------------- whole rows


def cloud(rows: int = 300, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 3)) @ np.array([[2.0, 0.5, 0], [0, 1, 0.3], [0, 0, 0.5]])


LATER = np.concatenate([cloud(200, 1), [[9.0, 9, 9], [-30, -9, -4], [0.1, 0.1, 0.1]]])


def test_isolation_forest_equals_scikit_learn() -> None:
    sample = cloud()
    for trees, rows in ((100, 256), (7, 50), (3, 2)):
        detector = IsolationForest(trees, rows)
        learned = json.loads(json.dumps(detector.learn(sample, 3)))
        expected = Forest(n_estimators=trees, max_samples=rows, random_state=3).fit(sample)
        for given_rows in (sample, LATER):
            np.testing.assert_allclose(
                detector.score(learned, given_rows), -expected.score_samples(given_rows), rtol=1e-12
            )


@pytest.mark.parametrize("neighbours", [1, 5, 20])
def test_local_outlier_factor_equals_scikit_learn(neighbours: int) -> None:
    sample = cloud()
    detector = LocalOutlierFactor(neighbours)
    learned = json.loads(json.dumps(detector.learn(sample, 0)))
    later = Factor(n_neighbors=neighbours, novelty=True).fit(sample)
    np.testing.assert_allclose(detector.score(learned, LATER), -later.score_samples(LATER), rtol=1e-8)
    within = Factor(n_neighbors=neighbours).fit(sample)
    np.testing.assert_allclose(detector.score(learned, sample), -within.negative_outlier_factor_, rtol=1e-8)


@pytest.mark.parametrize(("nu", "gamma"), [(0.1, None), (0.5, 0.3)])
def test_one_class_svm_equals_scikit_learn(nu: float, gamma: float | None) -> None:
    sample = cloud()
    detector = OneClassSVM(nu, gamma)
    learned = json.loads(json.dumps(detector.learn(sample, 0)))
    expected = Machine(nu=nu, gamma="scale" if gamma is None else gamma).fit(sample)
    for given_rows in (sample, LATER):
        found = detector.score(learned, given_rows)
        np.testing.assert_allclose(found, -expected.decision_function(given_rows), rtol=1e-8, atol=1e-9)


def test_robust_covariance_equals_scikit_learn() -> None:
    sample = cloud()
    detector = RobustCovariance()
    learned = json.loads(json.dumps(detector.learn(sample, 5)))
    expected = MinCovDet(random_state=5).fit(sample)
    np.testing.assert_allclose(detector.score(learned, LATER), expected.mahalanobis(LATER), rtol=1e-9)


def test_ecod_equals_pyod_on_its_sample_and_its_formula_elsewhere() -> None:
    rng = np.random.default_rng(7)
    sample = np.column_stack(
        [rng.normal(size=40), rng.exponential(size=40), -rng.exponential(size=40), np.round(rng.normal(size=40))]
    )
    detector = ECOD()
    learned = json.loads(json.dumps(detector.learn(sample, 0)))
    found = detector.score(learned, sample)
    # PyOD 3.6.7, ECOD().fit(sample).decision_scores_
    expected = [6.2824855208, 4.6780769568, 7.0148534145, 6.460468676]
    expected += [4.5445455642, 6.4960596211, 5.585999439, 7.5884799395]
    np.testing.assert_allclose(found[:8], expected, rtol=1e-9)
    assert found.sum() == pytest.approx(232.35534733480068, rel=1e-12)
    even = np.array([[-2.0, 0], [-1, 1], [0, 3], [1, 1], [2, 9]])  # the first column is skewed to neither side
    expected = [3.2188758248682006, 1.6502599069543553, 1.937941979406136, 1.6502599069543553, 3.2188758248682006]
    np.testing.assert_allclose(detector.score(detector.learn(even, 0), even), expected, rtol=1e-12)
    new = np.array([[100.0, -5.0, 0.0, 0.0]])
    by_hand = 0.0
    for f in range(4):
        left = -np.log(max((sample[:, f] <= new[0, f]).sum(), 1) / 40)
        right = -np.log(max((sample[:, f] >= new[0, f]).sum(), 1) / 40)
        third = ((sample[:, f] - sample[:, f].mean()) ** 3).mean()
        by_hand += max(left, right, left if third < 0 else right)
    assert detector.score(learned, new)[0] == pytest.approx(by_hand)


DETECTORS: list[Detector] = [
    IsolationForest(20, 64),
    ECOD(),
    LocalOutlierFactor(10),
    OneClassSVM(0.05),
    RobustCovariance(),
]
names = [type(detector).__name__ for detector in DETECTORS]


@pytest.mark.parametrize("detector", DETECTORS, ids=names)
def test_rows_are_judged_one_by_one_by_what_train_taught(detector: Any) -> None:
    values = cloud(800)
    values[5, 1] = np.nan
    train = matrix_table(values)
    step = OutlierRows(detector, share=0.02, sample_rows=400)
    with pytest.raises(DataError, match="would leak"):
        fit_step(step, dataclasses.replace(train, split="valid"))
    with pytest.raises(DataError, match="has learned nothing yet"):
        step(train)
    fitted = fit_step(step, train)
    assert fitted.learned["rows"] == 400
    assert contract_of(fitted) == "sampled"
    text = Preprocessing((fitted,), Standardize(learned={})).to_json()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    recalled = Preprocessing.from_json(text, trusted=("groundup",)).prepare[0]
    later = matrix_table(LATER, "test")
    after = recalled(later)
    assert after.frame.equals(fitted(later).frame)
    pieces = [fitted(later.take(np.arange(a, b))).frame for a, b in ((0, 1), (1, 90), (90, 203))]
    assert pl.concat(pieces).equals(after.frame), "the bits do not depend on what other rows there are"
    flags = after.frame["outlier"].to_numpy()
    assert flags[200]
    assert flags[201]
    assert not flags[202]
    assert 0.005 < fitted(train).frame["outlier"].mean() < 0.05
    assert any(note.startswith("x1: 1 missing, taken for train's median") for note in fitted(train).notes)


def test_actions_on_rows() -> None:
    train = matrix_table(np.concatenate([cloud(200), [[50.0, 50, 50]]]))
    flag = OutlierRows(share=0.005, name="odd").fit(train)
    assert flag(train).frame["odd"].arg_true().to_list() == [200]
    blank = dataclasses.replace(flag, action="blank")(train)
    assert blank.frame.drop("_row").null_count().row(0) == (1, 1, 1)
    drop = dataclasses.replace(flag, action="drop")
    gone = apply(drop, train, "OutlierRows")
    assert len(gone) == 200
    assert gone.history[-1].removed[0][0] == "row 200"
    assert gone.history[-1].removed[0][1].startswith("outlier: IsolationForest scores it 0.")
    stays = apply(drop, dataclasses.replace(train, split="serve"), "OutlierRows")
    assert "1 outlying rows stay, since this is not train" in stays.history[-1].notes


def test_detectors_are_named_in_recipes() -> None:
    use = Use("OutlierRows", detector={"use": "LocalOutlierFactor", "neighbours": 5}, columns=["x0", "x1"])
    made = make(check(use, "prepare", "recipe.data.prepare[0]"), "prepare", exclude=["y"])
    assert made.detector == LocalOutlierFactor(5)
    assert made.exclude == ["y"]
    assert make(check(Use("OutlierRows", detector="ECOD"), "prepare", ""), "prepare").detector == ECOD()
    assert OutlierRows().detector == IsolationForest()
    assert Outliers().method == "iqr"
    for options, words in (
        ({"detector": {"use": "IsolationForst"}}, "Did you mean 'IsolationForest'"),
        ({"detector": {"use": "OneClassSVM", "nu": 2.0}}, "nu: read 2.0"),
        ({"share": 1.5}, "share: read 1.5"),
        ({"detector": "groundup.data.prepare.scaling:moments"}, "expected one such as"),
    ):
        with pytest.raises(RecipeError, match=words):
            make(check(Use("OutlierRows", **options), "prepare", "recipe.data.prepare[0]"), "prepare")
    with pytest.raises(DataError, match="has no 20 neighbours"):
        OutlierRows(LocalOutlierFactor()).fit(matrix_table(cloud(10)))
    with pytest.raises(DataError, match="'outlier' would replace"):
        OutlierRows().fit(table(x=[1.0, 2.0, 3.0], outlier=[0, 0, 0]))


def test_a_planted_cluster_is_found_by_the_default_and_not_by_local_outlier_factor() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(size=(950, 2)), rng.normal(7, 0.05, size=(50, 2))])
    train = matrix_table(values)

    def recall(detector: Detector) -> float:
        step = OutlierRows(detector, share=0.08).fit(train)
        return float(step(train).frame["outlier"][950:].mean())  # type: ignore[arg-type]

    assert recall(IsolationForest()) > 0.9
    assert recall(LocalOutlierFactor()) < 0.2
