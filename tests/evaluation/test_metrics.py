"""Every metric beside scikit-learn's, to 1e-12, the edges included."""

from __future__ import annotations

import functools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from groundup.core.errors import DataError
from groundup.core.use import public_names
from groundup.evaluation import metrics as ours

EXACT = {"rel": 1e-12, "abs": 1e-12}


def probabilities(n: int, classes: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    scores = draw.dirichlet(np.ones(classes), n)
    if ties:
        scores = np.round(scores * 4) + 1
        scores /= scores.sum(axis=1, keepdims=True)
    return scores, draw.integers(0, classes, n)


CASES = {
    "two classes": probabilities(200, 2, 0),
    "five classes": probabilities(200, 5, 1),
    "ties": probabilities(200, 3, 2, ties=True),
    "two samples": (np.array([[0.2, 0.8], [0.9, 0.1]]), np.array([1, 1])),
    "a class that is nowhere true": (probabilities(50, 4, 3)[0], np.random.default_rng(3).integers(0, 3, 50)),
    "a class that is never predicted": (np.tile([0.5, 0.3, 0.2], (30, 1)), np.arange(30) % 3),
    "a class that is neither": (np.array([[0.6, 0.4, 0.0]] * 3), np.array([0, 1, 0])),
    "single sample": (np.array([[0.3, 0.7]]), np.array([0])),
    "all right": (np.eye(3), np.arange(3)),
    "all wrong": (np.eye(3)[[1, 2, 0]], np.arange(3)),
}


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    return CASES[request.param]


@pytest.fixture(autouse=True)
def quiet() -> None:
    warnings.simplefilter("ignore")  # scikit-learn warns at the edges, which is where the tests go


def test_accuracy(case: tuple[np.ndarray, np.ndarray]) -> None:
    decoded, targets = case
    assert ours.accuracy(decoded, targets) == theirs.accuracy_score(targets, decoded.argmax(1))


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_by_class(case: tuple[np.ndarray, np.ndarray], name: str, average: str) -> None:
    decoded, targets = case
    expected = getattr(theirs, f"{name}_score")(targets, decoded.argmax(1), average=average, zero_division=0)
    assert getattr(ours, name)(decoded, targets, average=average) == pytest.approx(expected, **EXACT)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_two_classes_look_at_the_second(name: str) -> None:
    decoded, targets = CASES["two classes"]
    expected = getattr(theirs, f"{name}_score")(targets, decoded.argmax(1))
    assert getattr(ours, name)(decoded, targets) == pytest.approx(expected, **EXACT)
    assert getattr(ours, name)(decoded, targets, average="binary") == pytest.approx(expected, **EXACT)
    swapped = getattr(theirs, f"{name}_score")(targets, decoded.argmax(1), pos_label=0)
    assert getattr(ours, name)(decoded, targets) != pytest.approx(swapped), "class 0 is not the positive one"


def test_more_classes_are_averaged_by_default() -> None:
    decoded, targets = CASES["five classes"]
    assert ours.f1(decoded, targets) == ours.f1(decoded, targets, average="macro")
    with pytest.raises(DataError, match='there are 5; use "macro"'):
        ours.f1(decoded, targets, average="binary")
    with pytest.raises(DataError, match="average is 'mean'"):
        ours.f1(decoded, targets, average="mean")  # type: ignore[arg-type]


def test_balanced_accuracy(case: tuple[np.ndarray, np.ndarray]) -> None:
    decoded, targets = case
    expected = theirs.balanced_accuracy_score(targets, decoded.argmax(1))
    assert ours.balanced_accuracy(decoded, targets) == pytest.approx(expected, **EXACT)


def test_confusion_matrix(case: tuple[np.ndarray, np.ndarray]) -> None:
    decoded, targets = case
    labels = range(decoded.shape[1])
    expected = theirs.confusion_matrix(targets, decoded.argmax(1), labels=labels)
    np.testing.assert_array_equal(ours.confusion_matrix(decoded, targets), expected)


@pytest.mark.parametrize("name", ["two classes", "five classes", "ties"])
def test_roc_auc(name: str) -> None:
    decoded, targets = CASES[name]
    scores = decoded[:, 1] if decoded.shape[1] == 2 else decoded
    expected = theirs.roc_auc_score(targets, scores, multi_class="ovr", average="macro")
    assert ours.roc_auc(decoded, targets) == pytest.approx(expected, **EXACT)


def test_roc_auc_of_ties_is_a_half() -> None:
    assert ours.roc_auc(np.full((10, 2), 0.5), np.arange(10) % 2) == 0.5


def test_roc_auc_needs_both() -> None:
    with pytest.raises(DataError, match="2 of 2 samples are of class 1"):
        ours.roc_auc(*CASES["two samples"])
    with pytest.raises(DataError, match="needs probabilities"):
        ours.roc_auc(np.array([0, 1]), np.array([0, 1]))


def test_log_loss(case: tuple[np.ndarray, np.ndarray]) -> None:
    decoded, targets = case
    expected = theirs.log_loss(targets, decoded, labels=range(decoded.shape[1]))
    assert ours.log_loss(decoded, targets) == pytest.approx(expected, **EXACT)


def test_class_numbers_do_as_well_as_probabilities() -> None:
    decoded, targets = CASES["five classes"]
    numbers = decoded.argmax(1)
    for metric in (ours.accuracy, ours.f1, ours.balanced_accuracy):
        assert metric(numbers, targets) == metric(decoded, targets)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 10_000))
def test_classes_at_random(classes: int, n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    predicted, targets = draw.integers(0, classes + 1, n), draw.integers(0, classes + 1, n)
    decoded = np.eye(classes + 1)[predicted]
    for average in ("macro", "micro", "weighted"):
        expected = theirs.f1_score(targets, predicted, average=average, zero_division=0)
        assert ours.f1(decoded, targets, average=average) == pytest.approx(expected, **EXACT)


def values(n: int, horizon: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    shape = (n,) if horizon is None else (n, horizon)
    return draw.normal(3, 10, shape), draw.normal(3, 10, shape)


VALUES = {
    "values": values(100, None, 0),
    "steps": values(100, 4, 1),
    "two samples": values(2, None, 2),
    "exact": (np.arange(5.0), np.arange(5.0)),
    "constant, met": (np.full((4, 2), 7.0), np.full((4, 2), 7.0)),
    "constant, missed": (np.arange(4.0), np.full(4, 7.0)),
    "float32": tuple(part.astype(np.float32) for part in values(50, None, 5)),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    decoded, targets = VALUES[name]
    exact_targets, exact_decoded = targets.astype(np.float64), decoded.astype(np.float64)
    assert ours.mae(decoded, targets) == pytest.approx(
        theirs.mean_absolute_error(exact_targets, exact_decoded), **EXACT
    )
    squared = theirs.mean_squared_error(exact_targets, exact_decoded)
    assert ours.mse(decoded, targets) == pytest.approx(squared, **EXACT)
    assert ours.rmse(decoded, targets) == pytest.approx(math.sqrt(squared), **EXACT)
    assert ours.r2(decoded, targets) == pytest.approx(theirs.r2_score(exact_targets, exact_decoded), **EXACT)
    assert ours.bias(decoded, targets) == pytest.approx(float(np.mean(exact_decoded - exact_targets)), **EXACT)
    if (targets != 0).all():
        expected = theirs.mean_absolute_percentage_error(exact_targets, exact_decoded)
        assert ours.mape(decoded, targets) == pytest.approx(expected, **EXACT)


def test_a_single_value() -> None:
    assert ours.mae(np.array([3.0]), np.array([1.0])) == 2
    with pytest.raises(DataError, match="needs two or more"):
        ours.r2(np.array([3.0]), np.array([1.0]))


def test_percentages_of_nothing() -> None:
    with pytest.raises(DataError, match="1 of 2 true values are 0"):
        ours.mape(np.array([1.0, 2.0]), np.array([0.0, 2.0]))


def test_a_column_is_a_list() -> None:
    assert ours.mae(np.array([[1.0], [2.0]]), np.array([1.0, 4.0])) == 1.0


def test_text() -> None:
    nats = np.array([10.0, 20.0])
    counts = np.array([[5.0, 12.0], [15.0, 48.0]])
    assert ours.loss(nats, counts) == 30 / 20
    assert ours.perplexity(nats, counts) == pytest.approx(math.exp(1.5), **EXACT)
    assert ours.bits_per_byte(nats, counts) == pytest.approx(30 / math.log(2) / 60, **EXACT)


def test_text_without_bytes() -> None:
    with pytest.raises(DataError, match="number of bytes is not known"):
        ours.bits_per_byte(np.array([1.0]), np.array([[2.0, np.nan]]))


@pytest.mark.parametrize("name", ours.__all__)
def test_bad_input_is_refused(name: str) -> None:
    metric = getattr(ours, name)
    with pytest.raises(DataError, match=f"{name}: 2 predictions for 3 targets"):
        metric(np.zeros(2), np.zeros(3))
    with pytest.raises(DataError, match=f"{name}: there are no samples"):
        metric(np.zeros((0, 2)), np.zeros(0, dtype=int))


def test_wrong_shapes_are_told() -> None:
    with pytest.raises(DataError, match="For values use mae"):
        ours.accuracy(np.zeros(3), np.zeros(3, dtype=int))
    with pytest.raises(DataError, match="for classes use f1"):
        ours.mae(np.zeros((3, 2)), np.zeros(3))
    with pytest.raises(DataError, match="for language models"):
        ours.loss(np.zeros(3), np.zeros(3))
    with pytest.raises(DataError, match=r"predictions are not all finite; the first is nan at \[1, 0\]"):
        ours.mae(np.array([[1.0], [np.nan]]), np.zeros((2, 1)))
    with pytest.raises(DataError, match="targets run to class 5"):
        ours.log_loss(np.full((2, 2), 0.5), np.array([0, 5]))


def test_a_recipe_finds_the_metrics_and_nothing_else() -> None:
    assert set(public_names(ours)) == set(ours.__all__)
    assert "confusion_matrix" not in public_names(ours), "it is a figure, not a number"
    assert functools.partial(ours.f1, average="micro")(*CASES["five classes"]) >= 0
