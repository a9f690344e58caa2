"""Rows of a table as samples: one vector of numbers each, and a class or a number to predict."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from torch import Tensor

from groundup.core.contract import State
from groundup.core.dataset import ROW, Dataset, Kind
from groundup.core.errors import DataError, RecipeError, nearest
from groundup.core.preprocessing import as_tensor
from groundup.data.augmentation.drawing import augmented, need_method
from groundup.data.augmentation.mixing import mixes
from groundup.data.augmentation.tables import Smote
from groundup.data.prepare.categories import Distinct, distinct, in_order_of_value, merge_distinct, unknown
from groundup.data.prepare.columns import numbers, said, spellings
from groundup.data.samples.raw import read_rows, without
from groundup.data.samples.targets import (
    TargetScale,
    class_names,
    decode_output,
    decode_target,
    encode_target,
    finish_target,
    merge_targets,
    partial_target,
    present_output,
    target_sizes,
)

NUMBER_KINDS: tuple[Kind, ...] = ("number", "boolean")
INPUT_KINDS: tuple[Kind, ...] = (*NUMBER_KINDS, "category")

MOST_CATEGORIES = 1000
"""Categories of one column that are given as an index."""

_MADE = ("=", "_missing", "~", "#")
"""What follows a column's name in the names of those that steps make of it."""


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedRows:
    """Rows ready for the model: inputs float32 [N, F]; targets class numbers [N] or scaled values [N, 1].

    A category stands among the inputs as its index.
    """

    inputs: np.ndarray[Any, Any]
    targets: np.ndarray[Any, Any] | None
    rows: np.ndarray[Any, Any]
    samples: Rows
    notes: tuple[str, ...] = ()
    ON_DISK: ClassVar = ("inputs", "targets", "rows")
    """What lies in files where there are too many of them."""
    found: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(
        self, positions: np.ndarray[Any, Any], augment: Sequence[Any] = (), seed: int = 0, epoch: int = 0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """``{"inputs": [B, F]}`` and ``{"targets": ...}``, empty where there are none.

        Steps of ``augment`` that have ``change_row`` act in turn, those that mix come last; a mixed class is
        probabilities float32 [B, classes]. Raises RecipeError for one that would calculate with a category's index.
        """
        for step in augment if self.categories else ():
            if mixes(step) or isinstance(step, Smote):
                raise RecipeError(
                    f"augment: {type(step).__name__} calculates with inputs, and {next(iter(self.categories))!r} is an "
                    'index. Put { use = "OneHot" } under prepare, or leave the step out.'
                )
        if not augment:
            inputs, targets = self._changed(positions, (), [])
        else:
            classes = len(self.classes) or None
            inputs, targets = augmented(self._changed, augment, self.rows, positions, (seed, epoch), classes)
        return {"inputs": inputs}, {} if targets is None else {"targets": targets}

    def _changed(
        self, positions: np.ndarray[Any, Any], steps: Sequence[Any], generators: Sequence[np.random.Generator]
    ) -> tuple[Tensor, Tensor | None]:
        need_method(steps, "change_row", "(rng, inputs, position, table)")
        inputs = self.inputs[positions]
        for i, rng in enumerate(generators if steps else ()):
            for step in steps:
                inputs[i] = step.change_row(rng, inputs[i], int(positions[i]), self)
        return as_tensor(inputs), None if self.targets is None else as_tensor(self.targets[positions])

    @property
    def numbers(self) -> np.ndarray[Any, Any]:
        """Which inputs [F] are numbers; the others are yes and no, or a category's index."""
        assert self.samples.learned is not None
        kinds = self.samples.learned["kinds"]
        return np.array([kinds.get(name) == "number" for name in self.samples.learned["inputs"]])

    @property
    def categories(self) -> Mapping[str, Sequence[str]]:
        """The categories of each input that is their index: 1 is the first, 0 one that train did not have, or none."""
        assert self.samples.learned is not None
        found: Mapping[str, Sequence[str]] = self.samples.learned.get("categories", {})
        return found

    @property
    def classes(self) -> list[str]:
        """The classes as strings; none where a value is predicted."""
        assert self.samples.learned is not None
        learned = self.samples.learned["target"]
        return class_names(learned) if learned["task"] == "classify" else []

    def kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make()`` gives, made once: neighbours of rows, say."""
        if key not in self.found:
            self.found[key] = make()
        return self.found[key]

    def arrays(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Inputs [N, F] as the model sees them, and targets [N]: class numbers, or values in the user's units.

        Where the model sees a category's index, there is a column for each of its categories here, yes or no.
        """
        if self.targets is None:
            raise DataError("Rows: these rows have no targets.")
        assert self.samples.learned is not None
        targets = decode_target(as_tensor(self.targets), self.samples.learned["target"])
        if not self.categories:
            return self.inputs, targets
        columns = []
        for place, name in enumerate(self.samples.learned["inputs"]):
            column = self.inputs[:, place, None]
            known = np.arange(1, len(self.categories[name]) + 1) if name in self.categories else None
            columns.append(column if known is None else (column == known).astype(np.float32))
        return np.concatenate(columns, axis=1), targets

    def describe(self, position: int) -> dict[str, Any]:
        """One sample as the model sees it: each input by name, and its target decoded."""
        assert self.samples.learned is not None
        shown = dict(zip(self.samples.learned["inputs"], self.inputs[position].tolist(), strict=True))
        for name, known in self.categories.items():
            shown[name] = ["none that train had", *known][int(shown[name])]
        if self.targets is not None:
            value = self.arrays()[1][position]
            classes = self.samples.learned["target"].get("classes")
            shown[f"target {self.samples.target}"] = classes[int(value)] if classes else float(value)
        return shown


@dataclasses.dataclass(frozen=True)
class Rows:
    """Each row is a sample: its number, boolean and category columns are the inputs, ``target`` is predicted.

    A category is given as its index, from 1, to a model that asks for ``categories``, such as FTTransformer; 0 is one
    that train did not have, or none. Other models take numbers alone, so OneHot or the like comes before them.
    ``inputs`` names the input columns, with patterns as in a shell (``"wind=*"``); without it they are all
    columns but the target and ids. ``task`` "auto" classifies a category, a boolean, or whole numbers when
    they are at most 20 and each stands on at least 5 rows in the mean; else it regresses. A regressed target is
    scaled for the model and given back in its own units; ``target_scale`` is z_score, min_max, robust, log (sign(x)
    ln(1 + |x|), standardised), yeo_johnson or none.
    """

    target: str
    inputs: Sequence[str] | None = None
    task: Literal["auto", "classify", "regress"] = "auto"
    target_scale: TargetScale = "z_score"
    learned: Mapping[str, Any] | None = None

    BY_ROW: ClassVar = True
    """What becomes of a row does not depend on the others, so shards can be encoded one by one."""

    def fit(self, train: Dataset) -> Self:
        """Settle inputs and task, learn the classes or the target's scale. Raises DataError as its parts do."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """What these rows tell of the target, and which columns they have."""
        target = partial_target(shard, self.target, "Rows", self.target_scale)
        inputs = choose_inputs(shard, self.inputs, (self.target,), "Rows", INPUT_KINDS) if len(shard) else []
        kinds = {name: shard.kinds[name] for name in shard.columns if name != self.target}
        chosen = [name for name in inputs if kinds[name] == "category"]
        categories = {name: _few(name, distinct(shard.frame[name])) for name in chosen}
        return {"rows": len(shard), "inputs": inputs, "target": target, "kinds": kinds, "categories": categories}

    def merge(self, one: State, other: State) -> State:
        """What both tell of the target."""
        target = merge_targets(one["target"], other["target"])
        categories = {
            name: _few(name, merge_distinct(one["categories"].get(name, {}), other["categories"].get(name, {})))
            for name in {**one["categories"], **other["categories"]}
        }
        both = {"rows": one["rows"] + other["rows"], "target": target, "categories": categories}
        return {**(one if one["rows"] else other), **both}

    def finish(self, state: State) -> Self:
        """The same builder with inputs, task, and classes or scale."""
        target = finish_target(state["target"], self.target, self.task, "Rows", self.target_scale)
        categories = {name: in_order_of_value(values) for name, values in state["categories"].items()}
        return dataclasses.replace(
            self, task=target["task"], learned={**state, "target": target, "categories": categories}
        )

    def sizes(self) -> dict[str, Any]:
        """``in_features``, ``input_shape``, ``out_features``, and ``num_classes`` where there are classes.

        Where an input is a category, ``categories`` says of each input how many indices it has, 0 for a number.
        """
        learned = self._need()
        count, known = len(learned["inputs"]), learned.get("categories", {})
        sizes = {"input_shape": (count,), "in_features": count, **target_sizes(learned["target"])}
        if known:
            sizes["categories"] = tuple(len(known[name]) + 1 if name in known else 0 for name in learned["inputs"])
        return sizes

    def encode(self, dataset: Dataset) -> EncodedRows:
        """The rows as arrays. Raises DataError, with row and column, for an input that is missing or infinite."""
        learned = self._need()
        indexed, notes = _indexed(dataset, learned.get("categories", {}))
        inputs = input_numbers(indexed, learned["inputs"], "Rows")
        _refuse_gaps(dataset, inputs, learned["inputs"])
        targets = encode_target(dataset, self.target, learned["target"], "Rows")
        return EncodedRows(inputs.astype(np.float32), targets, dataset.frame[ROW].to_numpy(), self, notes)

    def read(self, raw: Any, schema: Mapping[str, Kind] | None = None) -> Dataset:
        """Rows to predict on: a dict, a list of dicts, a polars frame, JSON text, or the path of a CSV or JSON file.

        ``schema`` gives the columns' kinds before the first preparation, so that steps find what they were
        fitted on; without it the kinds after the last one are used. A value may be missing, a column may not.
        """
        learned = self._need()
        kinds = without(schema or learned["kinds"], self.target)
        return read_rows(raw, kinds, required_columns(kinds, self.inputs, learned["inputs"]), "Rows")

    def decode(self, output: Tensor) -> np.ndarray[Any, Any]:
        """Logits [N, C] as probabilities [N, C], or [N, 1] as values [N] in the target's own units."""
        return decode_output(output, self._need()["target"])

    def decode_targets(self, targets: Mapping[str, Tensor]) -> np.ndarray[Any, Any]:
        """Class numbers [N], or values [N] in the target's own units."""
        return decode_target(targets["targets"], self._need()["target"])

    def present(self, decoded: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
        """The label with its probabilities, or the value, for each row."""
        return present_output(decoded, self._need()["target"])

    def _need(self) -> Mapping[str, Any]:
        if self.learned is None:
            raise DataError("Rows: has learned nothing yet; call fit(train) first.")
        return self.learned


def choose_inputs(
    train: Dataset, asked: Sequence[str] | None, exclude: Sequence[str], by: str, fitting: Sequence[Kind] = NUMBER_KINDS
) -> list[str]:
    """The input columns, patterns expanded. Raises DataError for one that is not there or of no ``fitting`` kind."""
    candidates = [name for name in train.columns if name not in exclude]
    if asked is None:
        chosen = [name for name in candidates if train.kinds[name] not in ("id", "time")]
    else:
        chosen = []
        for pattern in asked:
            found = [pattern] if pattern in candidates else [n for n in candidates if fnmatch.fnmatchcase(n, pattern)]
            if not found:
                why = " is the target itself" if pattern in exclude else " matches no column"
                raise DataError(f"{by}.inputs: {pattern!r}{why}.{nearest(pattern, candidates)}")
            chosen += [name for name in found if name not in chosen]
    unfit = {name: train.kinds[name] for name in chosen if train.kinds[name] not in fitting}
    if unfit:
        raise DataError(
            f"{by}.inputs: a model takes {', '.join(fitting)}, but there is {said(unfit)}. Turn categories into "
            'numbers with { use = "OneHot" } under prepare, or leave columns out with drop_columns or inputs.'
        )
    if not chosen:
        raise DataError(f"{by}.inputs: there is no input column beside the target.")
    return chosen


def _few(name: str, values: Distinct) -> Distinct:
    """The same categories. Raises DataError as soon as there are too many for an index."""
    if len(values) > MOST_CATEGORIES:
        raise DataError(
            f"Rows.inputs: column {name!r} has {len(values)} categories in train, more than {MOST_CATEGORIES}: it "
            "names its rows rather than groups them. Drop it, or put HashEncode under prepare."
        )
    return values


def _indexed(dataset: Dataset, categories: Mapping[str, Sequence[str]]) -> tuple[Dataset, tuple[str, ...]]:
    """Categories as their index, and notes on those that train did not have."""
    dataset.need(*categories, by="Rows")
    columns: dict[str, pl.Series] = {}
    notes: list[str] = []
    for name, known in categories.items():
        values = spellings(dataset.frame[name])
        notes += unknown(name, values, known, "now index 0")
        places = {category: float(place) for place, category in enumerate(known, start=1)}
        columns[name] = values.replace_strict(places, default=None, return_dtype=pl.Float64).fill_null(0.0)
    return dataset.with_frame(dataset.frame.with_columns(**columns), dict.fromkeys(columns, "number")), tuple(notes)


def input_numbers(dataset: Dataset, names: Sequence[str], by: str) -> np.ndarray[Any, Any]:
    """Columns as float64 [N, F], NaN where a value is missing."""
    dataset.need(*names, by=by)
    found = np.empty((len(dataset), len(names)))
    for i, name in enumerate(names):  # one by one, so that only one is in memory twice
        found[:, i] = numbers(dataset, name, by).fill_null(np.nan).to_numpy()
    return found


def required_columns(kinds: Mapping[str, Kind], asked: Sequence[str] | None, inputs: Sequence[str]) -> list[str]:
    """The raw columns that a prediction needs: all but ids and times, or those that the inputs are made from."""
    found = [name for name, kind in kinds.items() if kind not in ("id", "time")]
    if asked is None:
        return found
    return [
        name for name in found if any(i == name or i.startswith(tuple(name + made for made in _MADE)) for i in inputs)
    ]


def _refuse_gaps(dataset: Dataset, inputs: np.ndarray[Any, Any], names: Sequence[str]) -> None:
    bad = ~(np.abs(inputs) <= np.finfo(np.float32).max)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        value = inputs[row, column]
        what = "is missing" if np.isnan(value) else f"is {value}, too large for a model"
        raise DataError(
            f"Rows: {names[column]!r} {what} at {dataset.row_names()[row]} of {dataset.split or 'the data'} "
            f'({int(bad.sum())} such cells). Fill gaps with {{ use = "Fill" }} under prepare; clip what is endless.'
        )
