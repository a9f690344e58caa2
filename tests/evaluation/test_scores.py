from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from scipy import stats

from groundup.core.errors import DataError, GroundupError
from groundup.core.report import Metric, Report
from groundup.evaluation import Outcome, compare_reports, metric_name, metrics, over_runs, over_seeds, paired, score
from groundup.evaluation.scores import resample, score_baseline, wilson


def classes(n: int, seed: int = 0, skill: float = 2.0) -> Outcome:
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, 3, n)
    logits = draw.normal(size=(n, 3)) + skill * np.eye(3)[targets]
    return Outcome(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), targets)


def test_accuracy_has_wilsons_interval() -> None:
    found = score([metrics.accuracy], classes(100))["accuracy"]
    right = round(found.value * 100)
    expected = stats.binomtest(right, 100).proportion_ci(method="wilson")
    assert found.n == 100
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 9)])
def test_wilson_at_the_edges(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_bootstrap_is_about_the_standard_error() -> None:
    draw = np.random.default_rng(1)
    decoded = draw.normal(size=400)
    found = score([metrics.bias], Outcome(decoded, np.zeros(400)))["bias"]
    half = 1.96 * decoded.std() / math.sqrt(400)
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)
    assert found.low < found.value < found.high


def test_bootstrap_depends_on_the_seed_alone() -> None:
    outcome = classes(80)
    one, same, other = (score([metrics.f1], outcome, seed=seed)["f1"] for seed in (3, 3, 4))
    assert one == same
    assert one.low != other.low


def test_overlapping_windows_get_wider_intervals() -> None:
    """Neighbouring windows repeat each other: 1,000 of them say no more than 20 blocks of 50 do."""
    blocks = np.repeat(np.random.default_rng(0).normal(size=20), 50)
    naive = score([metrics.bias], Outcome(blocks, np.zeros(1000)))["bias"]
    honest = score([metrics.bias], Outcome(blocks, np.zeros(1000), block=50))["bias"]
    assert honest.high - honest.low > 4 * (naive.high - naive.low)  # type: ignore[operator]


def test_blocks_are_runs_of_neighbours() -> None:
    rows = resample(103, np.random.default_rng(0), 10)
    assert len(rows) == 103
    assert rows.min() >= 0
    assert rows.max() < 103
    assert (np.diff(rows[:100].reshape(10, 10), axis=1) == 1).all()
    assert len(resample(5, np.random.default_rng(0), 10)) == 5


def test_draws_without_a_value_are_left_out() -> None:
    targets = np.array([0] * 30 + [1] * 2)
    decoded = np.stack([np.linspace(1, 0, 32), np.linspace(0, 1, 32)], axis=1)
    found = score([metrics.roc_auc], Outcome(decoded, targets))["roc_auc"]
    assert found.low is not None
    rare = score([metrics.roc_auc], Outcome(np.eye(3), np.arange(3)))["roc_auc"]
    assert (rare.value, rare.low) == (1.0, None), "most draws of three samples lack one of three classes"


def test_names_and_units() -> None:
    outcome = classes(30)
    micro = functools.partial(metrics.f1, average="micro")
    found = score([metrics.f1, micro, functools.partial(metrics.recall, average="auto")], outcome)
    assert list(found) == ["f1", "f1(average=micro)", "recall"], "an option at its default is not shown"
    assert list(score({"mine": metrics.f1}, outcome)) == ["mine"]
    assert metric_name(metrics.f1) == "f1"
    with pytest.raises(GroundupError, match="'f1' is listed twice"):
        score([metrics.f1, metrics.f1], outcome)


def test_text_counts_tokens_and_bytes() -> None:
    outcome = Outcome(np.array([10.0, 12.0, 9.0]), np.array([[4.0, 10.0], [5.0, 12.0], [4.0, 10.0]]))
    found = score([metrics.loss, metrics.bits_per_byte, metrics.perplexity], outcome)
    assert (found["loss"].n, found["bits_per_byte"].n, found["perplexity"].n) == (13, 32, 13)
    assert found["bits_per_byte"].unit == "bits/byte"
    assert found["bits_per_byte"].low <= found["bits_per_byte"].value <= found["bits_per_byte"].high  # type: ignore[operator]


def test_baselines_are_scored_alike() -> None:
    outcome = classes(60)
    guess = np.tile([0.5, 0.3, 0.2], (60, 1))
    found = score_baseline({"accuracy": metrics.accuracy}, guess, outcome)
    assert found["accuracy"].value == np.mean(outcome.targets == 0)
    table = score_baseline(
        [metrics.accuracy], {"bits_per_byte": 1.5}, Outcome(np.ones(2), np.array([[1.0, 3], [2, 5]]))
    )
    assert table["bits_per_byte"] == Metric(1.5, 8, unit="bits/byte")
    with pytest.raises(DataError, match="59 predictions for 60"):
        score_baseline([metrics.accuracy], guess[:59], outcome)


def test_over_seeds() -> None:
    found = over_seeds([0.8, 0.82, 0.79, 0.83, 0.81])
    expected = stats.t.interval(0.95, 4, loc=found.value, scale=stats.sem([0.8, 0.82, 0.79, 0.83, 0.81]))
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)
    assert found.n == 5
    assert over_seeds([0.5]) == Metric(0.5, 1)
    with pytest.raises(DataError, match="no values"):
        over_seeds([])


def report(value: float, **baselines: float) -> Report:
    metric = Metric(value, 100, value - 0.05, value + 0.05)
    return Report(
        "test", {"f1": metric}, {n: {"f1": Metric(v, 100)} for n, v in baselines.items()}, data_fingerprint="a"
    )


def test_over_runs() -> None:
    found = over_runs([report(0.8, line=0.7), report(0.9, line=0.7)])
    assert found.metrics["f1"].value == pytest.approx(0.85)
    assert found.metrics["f1"].n == 2
    assert found.baselines["line"]["f1"].value == pytest.approx(0.7)
    with pytest.raises(DataError, match="different things"):
        over_runs([report(0.8, line=0.7), report(0.9)])


def test_paired_comparison_sees_what_intervals_apart_do_not() -> None:
    """The same small advantage on each sample is clear when paired, and drowns when not."""
    draw = np.random.default_rng(0)
    truth = draw.normal(0, 100, 200)
    theirs = truth + draw.normal(0, 20, 200)
    ours = Outcome(truth + (theirs - truth) * 0.97, truth)
    found = paired(metrics.mae, ours, theirs)
    assert found.difference.value < 0
    assert found.clear
    alone, other = (score([metrics.mae], Outcome(decoded, truth))["mae"] for decoded in (ours.decoded, theirs))
    assert alone.high > other.low, "their intervals overlap"  # type: ignore[operator]
    assert not paired(metrics.mae, ours, ours.decoded).clear
    with pytest.raises(DataError, match="the same samples"):
        paired(metrics.mae, ours, theirs[:-1])


def test_comparing_reports() -> None:
    (found,) = compare_reports(report(0.9), report(0.7))
    assert found.difference.value == pytest.approx(0.2)
    assert found.clear
    assert found.difference.low == pytest.approx(0.2 - 0.05 * math.sqrt(2))
    assert not compare_reports(report(0.75), report(0.7))[0].clear
    other = Report("test", {"f1": Metric(0.7, 10)}, data_fingerprint="b")
    with pytest.raises(DataError, match="different data"):
        compare_reports(report(0.9), other)
