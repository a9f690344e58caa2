"""How near do the imputers come to what was there, beside scikit-learn's?

A tenth of the numbers of two real tables is hidden by chance; the imputers learn from 80% of the rows, gaps included,
and fill the hidden cells of the other 20%. The error is the root of the mean square over those cells, each in
deviations of its column, so that 1 is about what the column's mean gives. Times are of the process, for learning and
filling together; contestants take turns.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from measuring import FOLDER, arguments, save, show, summary, take_turns, versions
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.preprocessing import StandardScaler

from groundup.core.dataset import Dataset
from groundup.data.prepare import Fill, FillIterative, FillNearest
from groundup.data.sources import csv

Values = np.ndarray[Any, Any]

DATA = FOLDER.parent.parent / "shared" / "data"
HIDDEN, HELD_OUT = 0.1, 0.2


@dataclasses.dataclass(frozen=True)
class Task:
    """A table whose cells are partly hidden; the first rows are learned from."""

    name: str
    groups: pl.Series
    truth: Values
    hidden: Values
    num_train: int

    @property
    def values(self) -> Values:
        """With gaps [N, F]."""
        return np.where(self.hidden, np.nan, self.truth)

    def dataset(self) -> Dataset:
        """The same as a table, with the group that each row belongs to."""
        frame = pl.DataFrame({f"x{i}": column for i, column in enumerate(self.values.T)})
        return Dataset.of(frame.with_columns(group=self.groups), {"group": "category"})

    def error(self, filled: Values) -> float:
        """Over the hidden cells of the rows that were not learned from, in deviations of the column."""
        apart = ((filled - self.truth) / self.truth[: self.num_train].std(axis=0))[self.num_train :]
        return float(np.sqrt((apart[self.hidden[self.num_train :]] ** 2).mean()))


def task(name: str, file: str, numbers: list[str], group: str, seed: int, most: int | None = None) -> Task:
    """Rows that are whole in truth, shuffled, with a tenth of their numbers hidden."""
    frame = csv(DATA / file, missing=["NA", ""])().frame.select([*numbers, group]).drop_nulls()
    rng = np.random.default_rng(seed)
    frame = frame[rng.permutation(frame.height)[:most]]
    truth = frame.select(numbers).to_numpy().astype(np.float64)
    return Task(name, frame[group], truth, rng.random(truth.shape) < HIDDEN, int((1 - HELD_OUT) * len(truth)))


CALIFORNIA = [
    "longitude", "latitude", "housing_median_age", "total_rooms", "total_bedrooms", "population", "households",
    "median_income", "median_house_value",
]  # fmt: skip
PENGUINS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]

TABLES: dict[str, Callable[..., Task]] = {
    "california": partial(task, "california", "tab_california_housing/housing.csv", CALIFORNIA, "ocean_proximity"),
    "penguins": partial(task, "penguins", "tab_penguins/penguins.csv", PENGUINS, "species"),
}


def ours(step: Any, given: Task) -> Values:
    dataset = given.dataset()
    train = dataclasses.replace(dataset.take(np.arange(given.num_train)), split="train")
    filled = step.fit(train)(dataset.take(np.arange(given.num_train, len(dataset)))).frame
    rest = filled.select([f"x{i}" for i in range(given.truth.shape[1])]).to_numpy()
    return np.concatenate([given.values[: given.num_train], rest])


def theirs(imputer: Any, given: Task) -> Values:
    values = given.values
    filled = imputer.fit(values[: given.num_train]).transform(values[given.num_train :])
    return np.concatenate([values[: given.num_train], filled])


def scaled(imputer: Any) -> Any:
    """The same on standardised columns, brought back: what one must add by hand for distances to mean anything."""

    class Scaled:
        def fit(self, values: Values) -> Any:
            self.scaler = StandardScaler().fit(values)
            self.imputer = imputer.fit(self.scaler.transform(values))
            return self

        def transform(self, values: Values) -> Values:
            return self.scaler.inverse_transform(self.imputer.transform(self.scaler.transform(values)))

    return Scaled()


CONTESTANTS: dict[str, Callable[[Task], Values]] = {
    "Fill mean": partial(ours, Fill(method="mean")),
    "SimpleImputer mean": partial(theirs, SimpleImputer(strategy="mean")),
    "Fill median": partial(ours, Fill(method="median")),
    "SimpleImputer median": partial(theirs, SimpleImputer(strategy="median")),
    "Fill mean by group": partial(ours, Fill(method="mean", by=["group"])),
    "FillNearest": partial(ours, FillNearest()),
    "FillNearest, all rows": partial(ours, FillNearest(sample_rows=10**6)),
    "KNNImputer": partial(theirs, KNNImputer()),
    "KNNImputer, standardised": partial(theirs, scaled(KNNImputer())),
    "FillIterative": partial(ours, FillIterative()),
    "IterativeImputer": partial(theirs, IterativeImputer()),
    "IterativeImputer, standardised": partial(theirs, scaled(IterativeImputer())),
}


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    seeds = 1 if options.quick else options.repeats or 3
    rows = []
    for name, make in TABLES.items():
        tasks = [make(seed=seed, most=400 if options.quick else None) for seed in range(seeds)]
        errors: dict[str, list[float]] = {contestant: [] for contestant in CONTESTANTS}
        turns = dict.fromkeys(CONTESTANTS, 0)

        def turn(contestant: str, tasks: list[Task], errors: Any, turns: Any) -> float:
            given = tasks[turns[contestant]]
            turns[contestant] += 1
            start = time.process_time()
            filled = CONTESTANTS[contestant](given)
            spent = time.process_time() - start
            errors[contestant].append(given.error(filled))
            return spent

        found = take_turns({c: partial(turn, c, tasks, errors, turns) for c in CONTESTANTS}, seeds)
        for contestant in CONTESTANTS:
            error, seconds = summary(errors[contestant]), summary(found[contestant])
            rows.append(
                {
                    "imputer": contestant,
                    "table": name,
                    "error": round(error["median"], 4),
                    "least": round(error["least"], 4),
                    "most": round(error["most"], 4),
                    "seconds": round(seconds["median"], 4),
                    "hidden": int(sum(t.hidden[t.num_train :].sum() for t in tasks)),
                }
            )
    show("Hidden cells told by imputers", rows, f"{seeds} draws of hidden cells and held-out rows; error in deviations")
    if not options.quick:
        save("imputers", rows, {"draws": seeds, "hidden": HIDDEN, "held_out": HELD_OUT, **versions("scikit-learn")})


if __name__ == "__main__":
    main()
