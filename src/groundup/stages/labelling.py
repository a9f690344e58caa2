"""Each row judged by a model that has not seen it: what tells labels that are likely wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from groundup import terminal
from groundup.core.dataset import ROW, Dataset, Splits
from groundup.core.preprocessing import Preprocessing
from groundup.core.run import Run
from groundup.core.use import make
from groundup.data import any_size
from groundup.data.cleaning.labels import LabelErrors, folds_of
from groundup.evaluation.baselines import logistic_regression
from groundup.stages.designing import design, objective
from groundup.stages.evaluating import measure
from groundup.stages.learning import begin
from groundup.stages.prepared import Prepared
from groundup.stages.preparing import steps
from groundup.stages.trained import Trained
from groundup.training import fit


def together(prepared: Prepared) -> Dataset:
    """The rows of all splits as they were before their preparation, train first, as one dataset that is not split."""
    parts = [any_size.whole(prepared.shop, part, "labels") for part in prepared.unprepared.parts().values()]
    return dataclasses.replace(parts[0], frame=pl.concat([part.frame for part in parts if len(part)]), split=None)


def out_of_fold(
    prepared: Prepared, rows: Dataset, given: Any, classes: list[Any], *, own_model: bool, folds: int = 5
) -> Any:
    """[n, K] probabilities for each row from what was fitted without its fold, preparation included."""
    data = prepared.recipe.data
    fold = folds_of(given, folds, prepared.recipe.seed)
    position = {row: i for i, row in enumerate(rows.frame[ROW].to_list())}
    probabilities = np.zeros((len(given), len(classes)))
    for number in range(folds):
        with terminal.quiet():
            train, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            empty = rows.take(np.empty(0, dtype=np.int64), "test")
            parts = Splits(rows.take(train, "train"), rows.take(held, "valid"), empty)
            samples = make(data.samples, "samples", where="recipe.data.samples")
            preprocessing, parts = Preprocessing.fit(steps(data), samples, parts)
            encoded = {name: preprocessing.samples.encode(part) for name, part in parts.parts().items()}
            one = dataclasses.replace(prepared, splits=parts, preprocessing=preprocessing, encoded=encoded)
            answers = _answers(one) if own_model else logistic_regression(encoded["train"], encoded["valid"])
        columns = [classes.index(name) for name in preprocessing.samples.learned["target"]["classes"]]
        places = [position[row] for row in encoded["valid"].rows.tolist()]
        probabilities[np.ix_(places, columns[: answers.shape[1]])] = answers
        terminal.say(f"  fold {number + 1} of {folds}: {len(places):,} rows")
    return probabilities


def told(prepared: Prepared, together: Dataset, found: LabelErrors) -> list[dict[str, Any]]:
    """Each likely error with its split, and with what a person judges the row by."""
    split_of = [name for name, part in prepared.unprepared.parts().items() for _ in range(len(part))]
    named = found.rows(together.row_names())
    shown = _contents(together, found.positions, prepared.samples.target)
    places = found.positions.tolist()
    return [
        {"split": split_of[place], **row, "content": content}
        for place, row, content in zip(places, named, shown, strict=True)
    ]


def _contents(rows: Dataset, positions: np.ndarray[Any, Any], target: str) -> list[str]:
    """What a person judges each of these rows by: its text where there is one, else its first cells; none of images."""
    found = rows.take(positions)
    texts = found.of_kind("text")
    named = texts[:1] or [name for name in found.of_kind("number", "category", "boolean") if name != target][:6]
    cells = found.frame.select(named).to_dicts()
    if texts:
        return [" ".join(str(row[texts[0]] or "").split()) for row in cells]
    return [", ".join(f"{name} {value}" for name, value in row.items()) for row in cells]


def _answers(prepared: Prepared) -> Any:
    """What the recipe's own model says of the validation split once it is trained; no folder is left."""
    training = prepared.recipe.training
    trained = Trained(Run(Path()), prepared, design(prepared), training, objective(training, prepared))
    state = begin(trained)
    stream = prepared.batches(training, state.bookmark)
    for _ in fit(state, stream, trained.objective, clip_norm=training.clip_norm, accumulate=training.accumulate):
        pass
    return measure(trained).decoded
