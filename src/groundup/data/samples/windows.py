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

from groundup.core.contract import State
from groundup.core.dataset import ROW, Dataset, Kind
from groundup.core.errors import DataError, RecipeError
from groundup.core.preprocessing import step_name
from groundup.core.statistics import Moments, Quantiles
from groundup.core.use import Use, make
from groundup.data.augmentation.drawing import augmented, need_method
from groundup.data.augmentation.series import Window
from groundup.data.prepare.columns import known_numbers, merged, need_some, numbers, pieces
from groundup.data.samples.raw import read_rows, without
from groundup.data.samples.rows import choose_inputs, input_numbers, required_columns
from groundup.data.samples.targets import (
    TargetScale,
    absent,
    finish_scale,
    from_scale,
    merge_scales,
    middle,
    partial_scale,
    refuse_changed,
    to_scale,
)

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
        """``{"inputs": [B, T, F]}`` and ``{"targets": [B, H]}``, float32 and scaled.

        Steps of ``augment`` that have ``change_window`` act in turn on standardised windows, those that mix come last.
        """
        if not augment:
            inputs, targets = self._changed(positions, (), [])
        else:
            inputs, targets = augmented(self._changed, augment, self.rows, positions, (seed, epoch), None)
        return {"inputs": inputs}, {} if targets is None else {"targets": targets}

    def _changed(
        self, positions: npt.NDArray[Any], steps: Sequence[Any], generators: Sequence[np.random.Generator]
    ) -> tuple[Tensor, Tensor | None]:
        need_method(steps, "change_window", "(rng, window)")
        learned = self.samples.need()
        inputs = self._inputs(positions)
        targets = None if self.target is None else to_scale(self._future(positions), learned["target"])
        numbers = np.array([learned["kinds"][name] == "number" for name in learned["inputs"]])
        at = self.samples.sizes()["target_input"]
        for i, rng in enumerate(generators if steps else ()):
            future = np.zeros(0) if targets is None else targets[i]
            window = Window(inputs[i].astype(np.float64), future, numbers, at)
            for step in steps:
                window = step.change_window(rng, window)
            inputs[i] = window.inputs
            if targets is not None:
                targets[i] = window.targets
        return torch.from_numpy(inputs), None if targets is None else torch.from_numpy(targets.astype(np.float32))

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
    The target is scaled by ``target_scale`` as in ``Rows``, and forecasts come back in its own units.

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
    target_scale: TargetScale = "z_score"
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
        """Learn each input's mean and deviation, the target's scale, and the usual step of time."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """Moments of the inputs, how the target lies, and the steps of time between these rows."""
        shard.need(self.target, by="Windows.target")
        refuse_changed(shard, self.target, "Windows")
        if shard.kinds[self.target] != "number":
            raise DataError(
                f"Windows.target: column {self.target!r} is of kind {shard.kinds[self.target]}; forecasts are numbers."
            )
        return {
            **pieces(shard, self._choose(shard), lambda name: Moments.of(known_numbers(shard, name, "Windows")).state),
            "target": partial_scale(known_numbers(shard, self.target, "Windows.target"), self.target_scale),
            "apart": Quantiles.of(_apart(shard)).state,
            "kinds": dict(shard.kinds),
        }

    def merge(self, one: State, other: State) -> State:
        """What both tell together."""
        both = merged(one, other, lambda a, b: Moments.from_state(a).merge(Moments.from_state(b)).state)
        apart = Quantiles.from_state(one["apart"]).merge(Quantiles.from_state(other["apart"]))
        target = merge_scales(one["target"], other["target"])
        return {**both, "target": target, "apart": apart.state, "kinds": one["kinds"]}

    def finish(self, state: State) -> Self:
        """The same builder with what was learned. Raises DataError for a column without a value."""
        means, deviations, rows = [], [], state["rows"]
        for name, column in state["columns"].items():
            seen = Moments.from_state(column)
            need_some(seen.count, rows, name, "Windows")
            number = state["kinds"][name] == "number"
            means.append(seen.mean if number else 0.0)
            deviations.append((seen.deviation if number else 1.0) or 1.0)
        need_some(Moments.from_state(state["target"]["moments"]).count, rows, self.target, "Windows.target")
        apart = Quantiles.from_state(state["apart"])
        learned = {
            "rows": rows,
            "inputs": list(state["columns"]),
            "means": means,
            "deviations": deviations,
            "target": finish_scale(state["target"], self.target_scale, f"Windows.target: column {self.target!r}"),
            "step_s": float(apart.at(0.5)[0]) if apart.count else None,
            "kinds": state["kinds"],
        }
        return dataclasses.replace(self, learned=learned)

    def _choose(self, train: Dataset) -> list[str]:
        if self.inputs is not None:
            return choose_inputs(train, self.inputs, (), "Windows")
        return choose_inputs(train, train.of_kind("number", "boolean"), (), "Windows")

    def sizes(self) -> dict[str, Any]:
        """``input_shape`` (T, F), ``in_features``, ``length``, ``horizon``, ``out_features`` (the horizon).

        ``target_input`` is the place among the inputs of the target's own past, None where it is not there or the
        target is on another scale.
        """
        inputs = self.need()["inputs"]
        same = self.target in inputs and self.target_scale == "z_score"
        return {
            "input_shape": (self.length, len(inputs)), "in_features": len(inputs), "length": self.length,
            "horizon": self.horizon, "out_features": self.horizon,
            "target_input": inputs.index(self.target) if same else None,
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
        kinds = schema or learned["kinds"]
        if self.target not in learned["inputs"]:
            kinds = without(kinds, self.target)
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
        return from_scale(values.reshape(len(values), self.horizon).numpy(), self.need()["target"])

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


def _apart(shard: Dataset) -> Values:
    """The times between two rows that follow each other, in seconds; none without a time column."""
    seconds = _seconds(shard)
    return np.empty(0) if seconds is None else np.diff(np.sort(seconds))


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
