"""Metrics with their uncertainty: how far a figure could lie from what more samples, or seeds, would show."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from groundup.core.errors import DataError, GroundupError
from groundup.core.report import Metric, Report
from groundup.evaluation import metrics as measures
from groundup.evaluation.evaluate import Outcome

Array = np.ndarray[Any, Any]
MetricFunction = Callable[..., float]

CONFIDENCE = 0.95
DRAWS = 1000
MOST_ELEMENTS = 200_000_000
"""Draws are made fewer, but never below 100, when together they would read more numbers than this."""

UNITS: Mapping[str, str] = {"loss": "nats/token", "bits_per_byte": "bits/byte", "log_loss": "nats"}


def score(
    metrics: Mapping[str, MetricFunction] | Sequence[MetricFunction],
    outcome: Outcome,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Metric]:
    """Each metric by its name, with n and a 95% interval.

    Accuracy has Wilson's interval (1927); every other one the percentiles of a bootstrap over samples
    (Efron 1979), or over blocks of neighbours where samples overlap in time, as windows do (Kuensch 1989). A
    draw for which a metric has no value is left out; with too few samples, or when most draws have none,
    there is no interval.
    """
    named = _named(metrics)
    found: dict[str, Metric] = {}
    for name, metric in named.items():
        value = metric(outcome.decoded, outcome.targets)
        bounds: tuple[float | None, float | None]
        if plain(metric) is measures.accuracy and outcome.block == 1:
            bounds = wilson(round(value * len(outcome)), len(outcome))
        else:
            bounds = _bootstrap(metric, outcome, seed, draws)
        found[name] = Metric(value, _count(metric, outcome.targets), *bounds, UNITS.get(plain(metric).__name__, ""))
    return found


def score_apart(
    metrics: Mapping[str, MetricFunction] | Sequence[MetricFunction],
    outcome: Outcome,
    leaked_rows: Collection[int],
    seed: int = 0,
) -> dict[str, dict[str, Metric]]:
    """ "clean" and "leaked" -> metrics of the samples whose row is none, or one, of ``leaked_rows``.

    A metric that has no value on so few samples, for want of a class for instance, is left out.
    """
    leaked = np.isin(outcome.rows, list(leaked_rows))
    found: dict[str, dict[str, Metric]] = {}
    for name, chosen in (("clean", ~leaked), ("leaked", leaked)):
        part = dataclasses.replace(outcome, decoded=outcome.decoded[chosen], targets=outcome.targets[chosen])
        found[name] = {}
        for metric in _named(metrics).items() if chosen.any() else ():
            with contextlib.suppress(DataError):
                found[name] |= score(dict([metric]), part, seed)
    return found


def score_baseline(
    metrics: Mapping[str, MetricFunction] | Sequence[MetricFunction],
    baseline: Array | Mapping[str, float],
    outcome: Outcome,
    seed: int = 0,
) -> dict[str, Metric]:
    """A baseline's answers scored as the model's were; what it measured by itself stays as it is, without interval.

    ``outcome`` is the model's, for its targets. Raises DataError when there are not as many answers.
    """
    if isinstance(baseline, Mapping):
        of_text = outcome.targets.ndim == 2 and outcome.decoded.ndim == 1
        n = round(float(outcome.targets[:, 1 if "bits_per_byte" in baseline else 0].sum())) if of_text else len(outcome)
        return {name: Metric(float(value), n, unit=UNITS.get(name, "")) for name, value in baseline.items()}
    return score(metrics, dataclasses.replace(outcome, decoded=baseline), seed)


def over_runs(reports: Sequence[Report], overlap: float = 0.0) -> Report:
    """One report over runs that differ in their seed, or fold, alone: each metric's mean, with Student's interval.

    Folds share training rows, so they vary less than runs on data of their own would: ``overlap``, held-out rows for
    each row of train, widens the interval as in ``over_seeds``. Raises DataError when the runs did not measure the same
    things.
    """
    if not reports:
        raise DataError("over_runs: there are no runs.")
    first = reports[0]
    for other in reports[1:]:
        if (other.split, set(other.metrics), set(other.baselines)) != (
            first.split,
            set(first.metrics),
            set(first.baselines),
        ):
            raise DataError("over_runs: the runs measured different things, so they have no mean.")

    def mean(tables: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
        names = [name for name in tables[0] if all(name in table for table in tables)]
        return {name: over_seeds([t[name].value for t in tables], tables[0][name].unit, overlap) for name in names}

    return dataclasses.replace(
        first,
        metrics=mean([report.metrics for report in reports]),
        baselines={name: mean([report.baselines[name] for report in reports]) for name in first.baselines},
        leaks={
            name: mean([r.leaks[name] for r in reports])
            for name in first.leaks
            if all(name in r.leaks for r in reports)
        },
        figures={},
    )


def _named(metrics: Mapping[str, MetricFunction] | Sequence[MetricFunction]) -> dict[str, MetricFunction]:
    if isinstance(metrics, Mapping):
        return dict(metrics)
    found: dict[str, MetricFunction] = {}
    for metric in metrics:
        name = metric_name(metric)
        if name in found:
            raise GroundupError(f"recipe.evaluation.metrics: {name!r} is listed twice.")
        found[name] = metric
    return found


def metric_name(metric: MetricFunction) -> str:
    """The function's name, with those of its options that are not its defaults: ``f1(average=micro)``."""
    function = plain(metric)
    options = dict(getattr(metric, "keywords", {}))
    parameters = inspect.signature(function).parameters
    shown = [
        f"{name}={value}" for name, value in options.items() if name in parameters and parameters[name].default != value
    ]
    return str(function.__name__) + (f"({', '.join(shown)})" if shown else "")


def over_seeds(values: Sequence[float], unit: str = "", overlap: float = 0.0) -> Metric:
    """The mean over independent runs, n of them, with Student's 95% interval; none for a single run.

    The variance of the mean is s^2 (1 / n + ``overlap``), overlap being 0 for independent runs, and held-out rows for
    each row of train for the folds of a cross-validation: Nadeau and Bengio, Machine Learning 52, 2003, equation 8.
    """
    if not len(values):
        raise DataError("over_seeds: there are no values.")
    numbers = np.asarray(values, dtype=np.float64)
    mean, n = float(numbers.mean()), len(numbers)
    if n == 1:
        return Metric(mean, 1, unit=unit)
    half = (
        float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * float(numbers.std(ddof=1)) / math.sqrt(n / (1 + n * overlap))
    )
    return Metric(mean, n, mean - half, mean + half, unit)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval for a share (1927): right even for 0 of n, where the usual one has no width."""
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    share, z2 = successes / n, z * z / n
    center = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(share * (1 - share) * z2 + z2 * z2 / 4) / (1 + z2)
    return (0.0 if successes == 0 else center - half), (1.0 if successes == n else center + half)


def resample(n: int, draw: np.random.Generator, block: int) -> Array:
    """n positions drawn with replacement, in runs of ``block`` neighbours."""
    if block <= 1:
        return draw.integers(0, n, n)
    block = min(block, n)
    starts = draw.integers(0, n - block + 1, -(-n // block))
    return (starts[:, None] + np.arange(block)).reshape(-1)[:n]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The percentiles that hold 95% of the values."""
    low, high = np.percentile(values, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


def _bootstrap(metric: MetricFunction, outcome: Outcome, seed: int, draws: int) -> tuple[float | None, float | None]:
    """Percentiles of the metric over resampled rows."""
    n = len(outcome)
    if n < 2 or n <= outcome.block:
        return None, None
    draws = max(100, min(draws, MOST_ELEMENTS // max(1, outcome.decoded.size)))
    draw = np.random.default_rng(seed)
    values: list[float] = []
    for _ in range(draws):
        rows = resample(n, draw, outcome.block)
        try:
            values.append(metric(outcome.decoded[rows], outcome.targets[rows]))
        except DataError:  # this draw lacks a class, or the like
            continue
    return interval(values) if len(values) > draws / 2 else (None, None)


def _count(metric: MetricFunction, targets: Array) -> int:
    """Over how many things a metric is: samples; for text tokens, or bytes where these are what it is per."""
    function = plain(metric)
    if function in (measures.loss, measures.perplexity, measures.bits_per_byte):
        return round(float(targets[:, 1 if function is measures.bits_per_byte else 0].sum()))
    return len(targets)


def plain(metric: MetricFunction) -> Any:
    """The function itself, without bound options."""
    while isinstance(metric, functools.partial):
        metric = metric.func
    return metric
