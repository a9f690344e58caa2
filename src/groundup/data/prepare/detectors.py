"""What makes a whole row unlike the others: each learns plain lists from a sample, and scores rows one by one.

A detector is a frozen dataclass with ``learn(sample [S, F], seed)`` and ``score(learned, rows [N, F])``, larger where
a row is stranger; columns come standardised, without gaps. scikit-learn fits; what was learned is scored by our own
code, so that a checkpoint holds numbers and no objects. There are no matrix products: their last bits depend on how
many rows there are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from groundup.core.errors import DataError

__all__ = ["ECOD", "IsolationForest", "LocalOutlierFactor", "OneClassSVM", "RobustCovariance"]

Values = npt.NDArray[np.float64]

ROWS_AT_ONCE = 1024


class Detector(Protocol):
    """A detector of outlying rows."""

    def learn(self, sample: Values, seed: int) -> dict[str, Any]:
        """What the sample [S, F] teaches, as plain JSON."""
        ...

    def score(self, learned: Mapping[str, Any], rows: Values) -> Values:
        """How unlike the sample each row [N, F] is [N]; larger is stranger."""
        ...


@dataclasses.dataclass(frozen=True)
class IsolationForest:
    """Rows that few random cuts set apart: 2^(-mean depth / c(n)), near 1 for outliers, 0.5 for the rest.

    Each of ``trees`` cuts ``rows_per_tree`` rows of the sample at random columns and values until each stands alone or
    the depth is log2 of their number; c(n) = 2 (ln(n - 1) + 0.5772) - 2 (n - 1) / n is the mean depth among n rows.
    Liu, Ting, Zhou: Isolation Forest, ICDM 2008. Equals minus scikit-learn's ``score_samples``.
    """

    trees: int = 100
    rows_per_tree: int = 256

    def __post_init__(self) -> None:
        if self.trees < 1 or self.rows_per_tree < 2:
            raise ValueError(
                f"trees and rows_per_tree: read {self.trees} and {self.rows_per_tree}, expected at least 1 and 2."
            )

    def learn(self, sample: Values, seed: int) -> dict[str, Any]:
        """The trees as lists of nodes: column, threshold, children, and the depth that ends in each leaf."""
        from sklearn.ensemble import IsolationForest as Forest  # type: ignore[import-untyped]

        size = min(self.rows_per_tree, len(sample))
        forest = Forest(n_estimators=self.trees, max_samples=size, random_state=seed).fit(sample)
        trees = []
        for one in forest.estimators_:
            tree = one.tree_
            depths = np.zeros(tree.node_count)
            for node in range(tree.node_count):  # parents come before their children
                for child in (tree.children_left[node], tree.children_right[node]):
                    if child >= 0:
                        depths[child] = depths[node] + 1
            trees.append(
                {
                    "column": tree.feature.tolist(),
                    "threshold": tree.threshold.tolist(),
                    "left": tree.children_left.tolist(),
                    "right": tree.children_right.tolist(),
                    "length": (depths + mean_depth(tree.n_node_samples)).tolist(),
                }
            )
        return {"trees": trees, "usual": float(mean_depth(np.array([size]))[0])}

    def score(self, learned: Mapping[str, Any], rows: Values) -> Values:
        """2^(-mean depth / c(n)) [N]."""
        # scikit-learn compares in float32.
        given = rows.astype(np.float32)
        total = np.zeros(len(rows))
        places = np.arange(len(rows))
        for tree in learned["trees"]:
            column, threshold = np.array(tree["column"]), np.array(tree["threshold"])
            left, right = np.array(tree["left"]), np.array(tree["right"])
            node = np.zeros(len(rows), dtype=np.int64)
            inside = left[node] >= 0
            while inside.any():
                goes_left = given[places, np.maximum(column[node], 0)] <= threshold[node]
                node = np.where(inside, np.where(goes_left, left[node], right[node]), node)
                inside = left[node] >= 0
            total += np.array(tree["length"])[node]
        usual = max(learned["usual"], np.finfo(np.float64).tiny)
        scores: Values = 2.0 ** (-total / (len(learned["trees"]) * usual))
        return scores


@dataclasses.dataclass(frozen=True)
class ECOD:
    """Rows in the tails of their columns: sum over columns of the largest of -ln F(x), -ln F'(x) and the skewed one.

    F(x) and F'(x) are the shares of the sample at most and at least x, never less than one row of it; the skewed one is
    the left for a column skewed to the left, the right for one to the right, both for one that is neither. It has
    no options. Li, Zhao et al.: ECOD, IEEE Trans. Knowledge and Data Engineering 35, 2023; the largest is taken
    column by column, as its authors' PyOD does, to whose scores of the sample it is equal.
    """

    def learn(self, sample: Values, seed: int) -> dict[str, Any]:
        """Each column in order, and which way it is skewed."""
        apart = sample - sample.mean(axis=0)
        return {"columns": np.sort(sample, axis=0).T.tolist(), "skew": np.sign((apart**3).mean(axis=0)).tolist()}

    def score(self, learned: Mapping[str, Any], rows: Values) -> Values:
        """The sum over columns [N]."""
        total = np.zeros(len(rows))
        for f, (values, skew) in enumerate(zip(learned["columns"], learned["skew"], strict=True)):
            ordered = np.array(values)
            count = len(ordered)
            at_most = np.maximum(np.searchsorted(ordered, rows[:, f], side="right"), 1)
            at_least = np.maximum(count - np.searchsorted(ordered, rows[:, f], side="left"), 1)
            left, right = -np.log(at_most / count), -np.log(at_least / count)
            skewed = left * (skew <= 0) + right * (skew >= 0)
            total += np.maximum(np.maximum(left, right), skewed)
        return total


@dataclasses.dataclass(frozen=True)
class LocalOutlierFactor:
    """Rows in thinner places than their neighbours: mean density of ``neighbours`` of the sample over one's own.

    Density is 1 / mean of max(distance, the neighbour's own distance to its k-th). A row that stands in the sample is
    no neighbour of itself. The sample is kept whole, and every row is compared with all of it. Breunig et al., SIGMOD
    2000; equals minus scikit-learn's. It is blind to outliers that lie close together, and never a default: on a
    planted cluster it found none, in 150 s.
    """

    neighbours: int = 20

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError(f"neighbours: read {self.neighbours}, expected at least 1.")

    def learn(self, sample: Values, seed: int) -> dict[str, Any]:
        """The sample, each row's distance to its k-th neighbour, and its density."""
        if len(sample) <= self.neighbours:
            raise DataError(
                f"LocalOutlierFactor: a sample of {len(sample)} rows has no {self.neighbours} neighbours for each; "
                "choose fewer neighbours."
            )
        near, far = self._nearest(sample, sample)
        reach = far[:, -1]
        return {"sample": sample.tolist(), "reach": reach.tolist(), "density": _density(far, reach[near]).tolist()}

    def score(self, learned: Mapping[str, Any], rows: Values) -> Values:
        """The factor [N], about 1 inside."""
        sample, reach = np.array(learned["sample"]), np.array(learned["reach"])
        density = np.array(learned["density"])
        near, far = self._nearest(rows, sample)
        factors: Values = density[near].mean(axis=1) / _density(far, reach[near])
        return factors

    def _nearest(self, rows: Values, sample: Values) -> tuple[npt.NDArray[np.intp], Values]:
        """Places in the sample of each row's neighbours, nearest first, and their distances [N, k]."""
        near = np.empty((len(rows), self.neighbours), dtype=np.intp)
        far = np.empty((len(rows), self.neighbours))
        for start in range(0, len(rows), ROWS_AT_ONCE // 2):
            block = slice(start, start + ROWS_AT_ONCE // 2)
            apart = np.sqrt(_squares(rows[block], sample))
            one_more = np.argpartition(apart, self.neighbours, axis=1)[:, : self.neighbours + 1]
            distance = np.take_along_axis(apart, one_more, axis=1)
            order = np.argsort(distance, axis=1, kind="stable")
            one_more = np.take_along_axis(one_more, order, axis=1)
            distance = np.take_along_axis(distance, order, axis=1)
            first = (distance[:, 0] == 0).astype(int)[:, None] + np.arange(self.neighbours)
            near[block] = np.take_along_axis(one_more, first, axis=1)
            far[block] = np.take_along_axis(distance, first, axis=1)
        return near, far


@dataclasses.dataclass(frozen=True)
class OneClassSVM:
    """Rows outside the smallest region that holds 1 - ``nu`` of the sample: rho - sum_i a_i exp(-gamma |x - x_i|^2).

    ``gamma`` is by default 1 / (F variance), as in scikit-learn, whose ``decision_function`` it equals but for the
    sign. Support vectors and coefficients are kept; learning takes a time that grows with the square of the
    sample. Schölkopf et al., Neural Computation 13, 2001.
    """

    nu: float = 0.1
    gamma: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.nu <= 1:
            raise ValueError(f"nu: read {self.nu}, expected more than 0 and at most 1.")
        if self.gamma is not None and self.gamma <= 0:
            raise ValueError(f"gamma: read {self.gamma}, expected more than 0.")

    def learn(self, sample: Values, seed: int) -> dict[str, Any]:
        """Support vectors, their coefficients, rho and gamma."""
        from sklearn.svm import OneClassSVM as Machine  # type: ignore[import-untyped]

        variance = float(sample.var())
        gamma = self.gamma or (1 / (sample.shape[1] * variance) if variance > 0 else 1.0)
        machine = Machine(nu=self.nu, gamma=gamma).fit(sample)
        return {
            "vectors": machine.support_vectors_.tolist(),
            "coefficients": machine.dual_coef_[0].tolist(),
            "rho": -float(machine.intercept_[0]),
            "gamma": gamma,
        }

    def score(self, learned: Mapping[str, Any], rows: Values) -> Values:
        """How far outside [N]; negative inside."""
        vectors, coefficients = np.array(learned["vectors"]), np.array(learned["coefficients"])
        found = np.empty(len(rows))
        for start in range(0, len(rows), ROWS_AT_ONCE):
            block = slice(start, start + ROWS_AT_ONCE)
            near = np.exp(-learned["gamma"] * _squares(rows[block], vectors))
            found[block] = learned["rho"] - (near * coefficients).sum(axis=1)
        return found


@dataclasses.dataclass(frozen=True)
class RobustCovariance:
    """Rows far from the centre: squared Mahalanobis distance (x - m)' S^-1 (x - m), by the core of the sample.

    The core is the share ``support`` of the sample whose covariance has the least determinant (by default (S + F + 1) /
    2 rows), found by FAST-MCD (Rousseeuw and Van Driessen, Technometrics 41, 1999) and reweighted as in
    scikit-learn's MinCovDet, whose ``mahalanobis`` it equals. For columns that are roughly normal together.
    """

    support: float | None = None

    def __post_init__(self) -> None:
        if self.support is not None and not 0.5 <= self.support <= 1:
            raise ValueError(f"support: read {self.support}, expected 0.5 to 1.")

    def learn(self, sample: Values, seed: int) -> dict[str, Any]:
        """Location and precision."""
        from sklearn.covariance import MinCovDet  # type: ignore[import-untyped]

        found = MinCovDet(support_fraction=self.support, random_state=seed).fit(sample)
        return {"location": found.location_.tolist(), "precision": found.precision_.tolist()}

    def score(self, learned: Mapping[str, Any], rows: Values) -> Values:
        """The squared distance [N]."""
        apart = rows - np.array(learned["location"])
        total = np.zeros(len(rows))
        for i, line in enumerate(learned["precision"]):
            for j, weight in enumerate(line):
                total += weight * apart[:, i] * apart[:, j]
        return total


def mean_depth(counts: npt.NDArray[Any]) -> Values:
    """c(n): the mean depth at which one of n rows stands alone in a random tree (Liu et al. 2008, eq. 1)."""
    n = counts.astype(np.float64)
    many = np.maximum(n, 3)
    deep = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    depths: Values = np.where(n <= 1, 0.0, np.where(n == 2, 1.0, deep))
    return depths


def _squares(rows: Values, others: Values) -> Values:
    """Squared distances [N, S], column by column."""
    total = np.zeros((len(rows), len(others)))
    for f in range(rows.shape[1]):
        total += (rows[:, f, None] - others[None, :, f]) ** 2
    return total


def _density(far: Values, reach: Values) -> Values:
    """1 / mean reachability distance [N]; scikit-learn's own guard against dividing by 0."""
    density: Values = 1 / (np.maximum(far, reach).mean(axis=1) + 1e-10)
    return density
