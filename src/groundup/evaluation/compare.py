"""Two models, or a model and a baseline, on the same samples: is the difference more than chance?"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from groundup.core.errors import DataError
from groundup.core.report import Metric, Report
from groundup.evaluation.evaluate import Outcome
from groundup.evaluation.scores import DRAWS, MetricFunction, interval, resample

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One metric of two models."""

    metric: str
    ours: float
    theirs: float
    difference: Metric
    """Ours minus theirs; an interval that holds 0 says that chance could explain it."""

    @property
    def clear(self) -> bool:
        """Whether the interval of the difference lies wholly on one side of 0."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (low > 0 or high < 0)


def paired(metric: MetricFunction, ours: Outcome, theirs: Array, seed: int = 0, draws: int = DRAWS) -> Comparison:
    """Both on the same resampled samples (a paired bootstrap), so that what is hard for both cancels out.

    ``theirs`` answers for the same targets, in the same order. Raises DataError when there are not as many.
    """
    if len(theirs) != len(ours):
        raise DataError(
            f"paired: {len(ours)} answers of ours, {len(theirs)} of theirs; they must be to the same samples."
        )
    own, other = metric(ours.decoded, ours.targets), metric(theirs, ours.targets)
    draw = np.random.default_rng(seed)
    differences: list[float] = []
    for _ in range(draws):
        rows = resample(len(ours), draw, ours.block)
        try:
            here = metric(ours.decoded[rows], ours.targets[rows]) - metric(theirs[rows], ours.targets[rows])
        except DataError:  # this draw lacks a class, or the like
            continue
        differences.append(here)
    bounds = interval(differences) if len(differences) > draws / 2 else (None, None)
    name = str(getattr(metric, "__name__", None) or getattr(getattr(metric, "func", metric), "__name__", "metric"))
    return Comparison(name, own, other, Metric(own - other, len(ours), *bounds))


def compare_reports(ours: Report, theirs: Report) -> list[Comparison]:
    """The metrics that both have. Runs apart from each other are not paired: each interval adds its own width.

    Raises DataError when they were measured on different data.
    """
    if (ours.split, ours.data_fingerprint) != (theirs.split, theirs.data_fingerprint):
        raise DataError(
            f"compare: one was measured on {ours.split} of data {ours.data_fingerprint[:12]}, the other on "
            f"{theirs.split} of {theirs.data_fingerprint[:12]}; figures of different data cannot be compared."
        )
    return [
        Comparison(name, metric.value, theirs.metrics[name].value, _apart(metric, theirs.metrics[name]))
        for name, metric in ours.metrics.items()
        if name in theirs.metrics
    ]


def _apart(one: Metric, two: Metric) -> Metric:
    """The difference of two independent figures: half-widths add in squares."""
    difference = one.value - two.value
    n = min(one.n, two.n)
    if one.low is None or one.high is None or two.low is None or two.high is None:
        return Metric(difference, n, unit=one.unit)
    down = ((one.value - one.low) ** 2 + (two.high - two.value) ** 2) ** 0.5
    up = ((one.high - one.value) ** 2 + (two.value - two.low) ** 2) ** 0.5
    return Metric(difference, n, difference - down, difference + up, one.unit)
