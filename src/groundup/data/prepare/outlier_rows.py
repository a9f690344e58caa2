"""Rows that are unlike the others as a whole: flagged, blanked, or dropped from train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from groundup.core.dataset import Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.sampling import reservoir
from groundup.data.prepare.columns import choose, learned_columns
from groundup.data.prepare.detectors import Detector, IsolationForest
from groundup.data.prepare.matrix import learn_scales, standardised

FOLDS, FEW = 5, 50


@dataclasses.dataclass(frozen=True)
class OutlierRows:
    """Rows that a ``detector`` scores higher than all but ``share`` of train: flagged, blanked or dropped.

    Detectors: ``IsolationForest`` (the default), ``ECOD``, ``LocalOutlierFactor``, ``OneClassSVM`` and
    ``RobustCovariance`` (``groundup.data.prepare.detectors``), or one of your own. They look at ``columns`` together,
    all number columns when not given, standardised; a missing value is taken for train's median. They learn from
    ``sample_rows`` rows of train, drawn by ``seed``. The threshold is the 1 - ``share`` quantile of those rows' scores,
    each fifth of them scored by what the other four teach (of fewer than 50 rows, by what all teach).

    ``flag`` adds a boolean column of the name ``name``; ``blank`` leaves these cells of the row missing, to be filled;
    ``drop`` drops the row from train, and elsewhere only counts it.
    """

    CONTRACT: ClassVar = "sampled"

    detector: Detector | Callable[..., Any] = IsolationForest()
    columns: Sequence[str] | None = None
    share: float = 0.01
    action: Literal["flag", "blank", "drop"] = "flag"
    name: str = "outlier"
    sample_rows: int = 5000
    seed: int = 0
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share: read {self.share}, expected more than 0 and less than 1.")
        if self.sample_rows < 2:
            raise ValueError(f"sample_rows: read {self.sample_rows}, expected at least 2.")
        if isinstance(self.detector, type):
            object.__setattr__(self, "detector", self.detector())
        if not hasattr(self.detector, "learn") or not hasattr(self.detector, "score"):
            raise ValueError(f"detector: read {self.detector!r}, expected one such as {{ use = 'IsolationForest' }}.")

    def fit(self, train: Dataset) -> Self:
        """Learn the columns' scales, what the detector learns, and the threshold."""
        names = choose(train, self.columns, self.exclude, ("number",), "OutlierRows")
        if self.action == "flag" and self.name in train.frame.columns:
            raise DataError(f"OutlierRows: the flag {self.name!r} would replace a column of that name; choose a name.")
        sample = reservoir(train, self.sample_rows, self.seed)
        columns = learn_scales(sample, names, "OutlierRows")
        matrix, _ = self._rows(sample, columns)
        try:
            found = self._detector.learn(matrix, self.seed)
            scores = self._held_out(matrix) if len(matrix) >= FEW else self._detector.score(found, matrix)
        except ValueError as error:
            by = type(self.detector).__name__
            raise DataError(
                f"OutlierRows: {by} cannot learn from {len(sample)} rows of {', '.join(names)}: {error}"
            ) from error
        threshold = float(np.quantile(scores, 1 - self.share))
        learned = {"rows": len(sample), "columns": columns, "detector": found, "threshold": threshold}
        return dataclasses.replace(self, learned=learned)

    def scores(self, dataset: Dataset) -> npt.NDArray[np.float64]:
        """How unlike train each row is [N]; larger is stranger."""
        columns = learned_columns(self.learned, dataset, "OutlierRows")
        assert self.learned is not None
        return self._detector.score(self.learned["detector"], self._rows(dataset, columns)[0])

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset with the action carried out."""
        columns = learned_columns(self.learned, dataset, "OutlierRows")
        assert self.learned is not None
        scores = self.scores(dataset)
        strange = scores > self.learned["threshold"]
        gaps = self._rows(dataset, columns)[1]
        by = type(self.detector).__name__
        notes = [f"{name}: {count} missing, taken for train's median by {by}" for name, count in gaps.items() if count]
        count = int(strange.sum())
        done = {"flag": "flagged", "blank": "blanked", "drop": "found"}[self.action]
        if count:
            notes.append(f"{count} rows unlike the others {done} by {by}")
        if self.action == "drop":
            after = dataset.note(*notes)
            if dataset.split == "train":
                reasons = {int(i): f"outlier: {by} scores it {scores[i]:.4g}" for i in np.flatnonzero(strange)}
                return after.keep(~strange, reasons)
            return after.note(f"{count} outlying rows stay, since this is not train") if count else after
        changed: dict[str, pl.Series] = {}
        kinds: dict[str, Kind] = {}
        if self.action == "flag":
            changed[self.name], kinds[self.name] = pl.Series(strange), "boolean"
        else:
            changed = {name: dataset.frame[name].set(pl.Series(strange), None) for name in columns}
        return dataset.with_frame(dataset.frame.with_columns(**changed), kinds).note(*notes)

    def _held_out(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Each row's score by what the other folds teach: a detector knows the rows that it has learned too well."""
        scores = np.empty(len(matrix))
        for fold in range(FOLDS):
            held = np.arange(len(matrix)) % FOLDS == fold
            scores[held] = self._detector.score(self._detector.learn(matrix[~held], self.seed), matrix[held])
        return scores

    @property
    def _detector(self) -> Detector:
        return cast(Detector, self.detector)

    def _rows(self, dataset: Dataset, columns: Mapping[str, Any]) -> tuple[npt.NDArray[np.float64], dict[str, int]]:
        """The columns standardised, gaps filled with the median [N, F]; and how many gaps each had."""
        matrix = standardised(dataset, columns, "OutlierRows")
        missing = np.isnan(matrix)
        medians = np.array([(entry["median"] - entry["mean"]) / entry["deviation"] for entry in columns.values()])
        gaps = dict(zip(columns, missing.sum(axis=0).tolist(), strict=True))
        return np.where(missing, medians, matrix), gaps
