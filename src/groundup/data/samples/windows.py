"""Windows of a series as samples: what is known at a forecast origin, and the steps after it to predict."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from groundup.core.dataset import ROW, Dataset, Kind
from groundup.core.errors import DataError, RecipeError
from groundup.core.preprocessing import step_name
from groundup.core.use import Use, make
from groundup.data.prepare.columns import numbers, present_numbers
from groundup.data.prepare.scaling import moments
from groundup.data.samples.raw import read_rows
from groundup.data.samples.rows import choose_inputs, input_numbers, required_columns
from groundup.data.samples.targets import absent, middle, refuse_changed

Values = npt.NDArray[np.float64]
Step = Callable[..., Values]

BREAK = 1.5
"""Time breaks off between two rows that are further apart than so many usual steps, or nearer than one by so many."""


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedWindows:
    """Windows cut when they are asked for, from the rows in order of time."""

    values: Values
    """The inputs [R, F] in their own units, NaN where missing."""
    target: Values | None
    """The target [R] in its own units; None where there is nothing to compare with."""
    history: Values | None
    """The target [R] up to the forecast origin, for baselines; None where it is unknown."""
    starts: npt.NDArray[np.int64]
    """The first row of each window [N]."""
    numbers: npt.NDArray[Any]
    """``_row`` of each row [R]."""
    samples: Windows
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def rows(self) -> npt.NDArray[Any]:
        """``_row`` of each window's first row."""
        return self.numbers[self.starts]

    @property
    def origins(self) -> npt.NDArray[Any]:
        """``_row`` of each window's last row, the forecast origin."""
        return self.numbers[self.starts + self.samples.length - 1]

    def batch(
        self, positions: npt.NDArray[Any], augment: Sequence[Any] = (), seed: int = 0, epoch: int = 0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """``{"inputs": [B, T, F]}`` and ``{"targets": [B, H]}``, float32 and standardised."""
        if augment:
            raise DataError("Windows: there is no augmentation for windows; leave augment out of the recipe.")
        inputs = {"inputs": torch.from_numpy(self._inputs(positions))}
        if self.target is None:
            return inputs, {}
        scale = self.samples.need()["target"]
        targets = (self._future(positions) - scale["mean"]) / scale["deviation"]
        return inputs, {"targets": torch.from_numpy(targets.astype(np.float32))}

    def arrays(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Inputs [N, T, F] as the model sees them, and targets [N, H] in the user's units."""
        if self.target is None:
            raise DataError("Windows: these windows have no targets.")
        everything = np.arange(len(self))
        return self._inputs(everything), self._future(everything)

    def last(self) -> Values:
        """The last known target [N] at each forecast origin, in the user's units; train's mean where it has none."""
        if self.history is None:
            raise DataError("Windows: the target's own history is not known here.")
        known = _cut(self.history[:, None], self.starts, self.samples.length)[:, :, 0]
        ages = np.argmax(~np.isnan(known[:, ::-1]), axis=1)
        found = known[np.arange(len(known)), known.shape[1] - 1 - ages]
        last: Values = np.where(np.isnan(found), self.samples.need()["target"]["mean"], found)
        return last

    def describe(self, position: int) -> dict[str, Any]:
        """One window: each input's last value as the model sees it, and the target to come in the user's units."""
        inputs = self._inputs(np.array([position]))[0]
        shown: dict[str, Any] = {
            f"{name} [-1]": float(v) for name, v in zip(self.samples.need()["inputs"], inputs[-1], strict=True)
        }
        if self.target is not None:
            shown[f"target {self.samples.target}"] = self._future(np.array([position]))[0].tolist()
        return shown

    def _inputs(self, positions: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        learned = self.samples.need()
        windows = _cut(self.values, self.starts[positions], self.samples.length)
        for step in self.samples.steps:
            before, windows = windows.shape, step(windows)
            if windows.shape != before:
                raise DataError(f"Windows.steps: {step_name(step)} gave shape {windows.shape} for {before}.")
        scaled = (windows - np.array(learned["means"])) / np.array(learned["deviations"])
        return np.where(np.isnan(scaled), 0.0, scaled).astype(np.float32)

    def _future(self, positions: npt.NDArray[Any]) -> Values:
        assert self.target is not None
        starts = self.starts[positions] + self.samples.length
        return _cut(self.target[:, None], starts, self.samples.horizon)[:, :, 0]


@dataclasses.dataclass(frozen=True)
class Windows:
    """Each window of ``length`` rows is a sample; the next ``horizon`` values of ``target`` are predicted.

    Rows stand in order of the time column, or as they were read where there is none. ``inputs`` names columns, with
    patterns as in a shell; without it they are all numbers and booleans, the target's own past among them. ``steps``
    (``groundup.data.series``) act inside each window, in the columns' own units, up to the forecast origin.
    Then each number is standardised by train's mean and deviation, and what is still missing becomes 0, train's mean.

    A window with its horizon lies wholly within its split, so none crosses into another; one that spans a break in
    time, or whose target is missing somewhere, is left out and counted, for a target is never invented. A new window
    starts every ``stride`` rows. Given rows to predict on, the one window is the last ``length`` rows.
    """

    target: str
    length: int
    horizon: int
    inputs: Sequence[str] | None = None
    steps: Sequence[Step] = ()
    stride: int = 1
    task: str = "forecast"
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("length", "horizon", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: read {getattr(self, name)}, expected at least 1.")
        # A bare name is one of our own steps; a list of what was made is as good as what was written.
        made = [make(Use(s), "steps", trusted=("groundup",)) if isinstance(s, str) else s for s in self.steps]
        object.__setattr__(self, "steps", tuple(made))
        for i, step in enumerate(made):
            try:
                step(np.zeros((1, self.length, 1)))
            except (TypeError, RecipeError) as error:
                raise ValueError(f"steps[{i}]: {step_name(step)}: {error}") from error

    def fit(self, train: Dataset) -> Self:
        """Learn each input's and the target's mean and deviation, and the usual step of time."""
        train.need(self.target, by="Windows.target")
        refuse_changed(train, self.target, "Windows")
        if train.kinds[self.target] != "number":
            raise DataError(
                f"Windows.target: column {self.target!r} is of kind {train.kinds[self.target]}; forecasts are numbers."
            )
        inputs = self._choose(train)
        means, deviations = [], []
        for name in inputs:
            values = present_numbers(train, name, "Windows")
            mean, deviation = moments(values) if train.kinds[name] == "number" else (0.0, 1.0)
            means.append(mean)
            deviations.append(deviation or 1.0)
        mean, deviation = moments(present_numbers(train, self.target, "Windows.target"))
        if not deviation:
            raise DataError(
                f"Windows.target: column {self.target!r} is constant: {mean} in all of train. Nothing can be learned."
            )
        learned = {
            "rows": len(train),
            "inputs": inputs,
            "means": means,
            "deviations": deviations,
            "target": {"mean": mean, "deviation": deviation},
            "step_s": _usual_step(train),
            "kinds": dict(train.kinds),
        }
        return dataclasses.replace(self, learned=learned)

    def _choose(self, train: Dataset) -> list[str]:
        if self.inputs is not None:
            return choose_inputs(train, self.inputs, (), "Windows")
        return choose_inputs(train, train.of_kind("number", "boolean"), (), "Windows")

    def sizes(self) -> dict[str, Any]:
        """``input_shape`` (T, F), ``in_features``, ``length``, ``horizon``, ``out_features`` (the horizon)."""
        count = len(self.need()["inputs"])
        return {
            "input_shape": (self.length, count), "in_features": count, "length": self.length, "horizon": self.horizon,
            "out_features": self.horizon,
        }  # fmt: skip

    def encode(self, dataset: Dataset) -> EncodedWindows:
        """The windows of a split, with notes on those left out. Raises DataError when not one is whole."""
        learned = self.need()
        ordered, breaks = _in_time(dataset, learned["step_s"])
        values = input_numbers(ordered, learned["inputs"], "Windows")
        endless = np.isinf(values)
        if endless.any():
            row, column = np.argwhere(endless)[0]
            raise DataError(
                f"Windows: {learned['inputs'][column]!r} is infinite at {ordered.row_names()[row]} of {dataset.split}."
            )
        target = None
        if self.target in ordered.frame.columns:
            target = numbers(ordered, self.target, "Windows.target").fill_null(np.nan).to_numpy()
        row_numbers = ordered.frame[ROW].to_numpy()
        if dataset.split == "serve":
            start = self._last_window(ordered, breaks)
            return EncodedWindows(values, None, target, np.array([start]), row_numbers, self)
        if target is None:
            raise DataError(
                f"Windows: {dataset.origin or 'the data'} has no column {self.target!r} to compare forecasts with."
            )
        refuse_changed(dataset, self.target, "Windows")
        starts, notes = self._whole_windows(ordered, target, breaks)
        return EncodedWindows(values, target, target, starts, row_numbers, self, notes)

    def _last_window(self, ordered: Dataset, breaks: npt.NDArray[np.bool_]) -> int:
        start = len(ordered) - self.length
        if start < 0:
            raise DataError(
                f"Windows: {ordered.origin or 'the input'} has {len(ordered)} rows; a forecast needs {self.length}."
            )
        if breaks[start + 1 :].any():
            row = start + 1 + int(np.argmax(breaks[start + 1 :]))
            raise DataError(
                f"Windows: {ordered.origin or 'the input'} has a break in time before {ordered.row_names()[row]}; the "
                f"last {self.length} rows must follow each other. Put in the missing rows, with empty values."
            )
        return start

    def _whole_windows(
        self, ordered: Dataset, target: Values, breaks: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
        """The first rows of the windows that span no break and lack no target, and what became of the others."""
        span = self.length + self.horizon
        starts = np.arange(0, max(len(ordered) - span + 1, 0), self.stride)
        if not len(ordered):
            return starts, ()
        # Sums up to each row tell for every window at once whether there is a break or a gap in it.
        broken = np.concatenate([[0], np.cumsum(breaks)])
        lacking = np.concatenate([[0], np.cumsum(np.isnan(target))])
        spans_break = broken[starts + span] - broken[starts + 1] > 0
        lacks_target = lacking[starts + span] - lacking[starts + self.length] > 0
        whole = ~spans_break & ~lacks_target
        if not whole.any():
            raise DataError(
                f"Windows: no window of {self.length} + {self.horizon} rows is whole in the {len(ordered)} rows of "
                f"{ordered.split or 'the data'} (of {len(starts)}, {int(spans_break.sum())} span a break in time and "
                f"{int(lacks_target.sum())} lack a target). Split by_time, so that rows follow each other; or choose a "
                "shorter length."
            )
        note = (
            f"{int(whole.sum())} windows of {self.length} + {self.horizon} rows from {len(ordered)} rows; left out: "
            f"{int(spans_break.sum())} over a break in time, "
            f"{int((lacks_target & ~spans_break).sum())} with a missing target"
        )
        return starts[whole], (note,)

    def read(self, raw: Any, schema: Mapping[str, Kind] | None = None) -> Dataset:
        """At least ``length`` rows up to the forecast origin: a CSV file's path, a polars frame, or a list of dicts."""
        learned = self.need()
        kinds: dict[str, Kind] = dict(schema or learned["kinds"])
        if self.target not in learned["inputs"]:
            kinds.pop(self.target, None)
        dataset = read_rows(raw, kinds, required_columns(kinds, learned["inputs"], learned["inputs"]), "Windows")
        if len(dataset) < self.length:
            raise DataError(
                f"Windows: {dataset.origin} has {len(dataset)} rows; a forecast needs the last {self.length}."
            )
        if any(kind == "time" for kind in kinds.values()) and not dataset.of_kind("time"):
            return dataset.note("there is no time column; the rows are taken as they stand, one step apart")
        return dataset

    def decode(self, output: Tensor) -> npt.NDArray[Any]:
        """Outputs [N, H] as values float64 [N, H] in the target's own units; of [N, H, K] the middle one of K."""
        values = middle(output.detach().to("cpu", torch.float64), self.horizon)
        if values.numel() != len(values) * self.horizon:
            raise DataError(f"the model's output has shape {tuple(output.shape)}, expected [N, {self.horizon}].")
        scale = self.need()["target"]
        decoded: Values = values.reshape(len(values), self.horizon).numpy() * scale["deviation"] + scale["mean"]
        return decoded

    def decode_targets(self, targets: Mapping[str, Tensor]) -> npt.NDArray[Any]:
        """A batch's targets as values [N, H] in the target's own units."""
        return self.decode(targets["targets"])

    def present(self, decoded: npt.NDArray[Any]) -> list[dict[str, Any]]:
        """The values of the next ``horizon`` steps, nearest first."""
        return [{"values": [float(value) for value in row]} for row in decoded]

    def need(self) -> Mapping[str, Any]:
        """What was learned. Raises DataError before ``fit``."""
        if self.learned is None:
            raise DataError("Windows: has learned nothing yet; call fit(train) first.")
        return self.learned


def _cut(values: Values, starts: npt.NDArray[Any], length: int) -> Values:
    """Windows [N, length, F] of values [R, F] that begin at these rows; a copy."""
    if not len(starts):
        return np.zeros((0, length, values.shape[1]))
    views = np.lib.stride_tricks.sliding_window_view(values, length, axis=0)
    return np.ascontiguousarray(views[starts].transpose(0, 2, 1))


def _seconds(dataset: Dataset) -> Values | None:
    """Times in seconds [R], or None without a time column. Raises DataError for missing times or several columns."""
    times = dataset.of_kind("time")
    if not times:
        return None
    if len(times) > 1:
        raise DataError(
            f"Windows: the columns {', '.join(times)} are all of kind time; keep the one that orders the rows."
        )
    column = dataset.frame[times[0]]
    gone = absent(column).arg_true()
    if len(gone):
        raise DataError(
            f"Windows: column {times[0]!r} has no time at {dataset.row_names()[int(gone[0])]} ({len(gone)} such rows)."
        )
    seconds: Values = column.cast(pl.Datetime("us")).dt.epoch("us").to_numpy() / 1e6
    return seconds


def _usual_step(train: Dataset) -> float | None:
    """The median time between two rows that follow each other, in seconds."""
    seconds = _seconds(train)
    return None if seconds is None or len(seconds) < 2 else float(np.median(np.diff(np.sort(seconds))))


def _in_time(dataset: Dataset, step_s: float | None) -> tuple[Dataset, npt.NDArray[np.bool_]]:
    """The rows in order of time, and for each whether time breaks off before it. Raises DataError for equal times."""
    seconds = _seconds(dataset)
    if seconds is None or step_s is None:
        key = dataset.frame[ROW].to_numpy().astype(np.float64)
        order = np.argsort(key, kind="stable")
        jumps = np.diff(key[order]) > 1
        return dataset.take(order), np.concatenate([[False], jumps])[: len(dataset)]
    order = np.argsort(seconds, kind="stable")
    ordered, apart = dataset.take(order), np.diff(seconds[order])
    if (apart == 0).any():
        row = int(np.argmax(apart == 0))
        names = ordered.row_names()
        raise DataError(
            f"Windows: {names[row]} and {names[row + 1]} have the same time ({int((apart == 0).sum())} such pairs). "
            "If several series lie in one table, keep one of them before the split."
        )
    uneven = (apart > BREAK * step_s) | (apart < step_s / BREAK)
    return ordered, np.concatenate([[False], uneven])[: len(dataset)]
