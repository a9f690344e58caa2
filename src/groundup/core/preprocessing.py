"""Fitted preprocessing as a value: it learns from train alone and travels inside the checkpoint.

A step is a frozen dataclass. Its constructor is its configuration; what it learns is the field
``learned``, plain JSON, so a fitted step is itself a call that can be written down.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from groundup.core.coerce import coerce
from groundup.core.contract import contract_of
from groundup.core.dataset import Dataset, Entry, Kind, Split, Splits
from groundup.core.errors import CheckpointError, DataError
from groundup.core.expressions import booked
from groundup.core.novelty import DECLARED_NOTHING, OnNew
from groundup.core.sampling import reservoir
from groundup.core.schema import Schema
from groundup.core.use import Use, import_path, resolve, signature_of

if TYPE_CHECKING:  # what only cleans data needs no torch, which costs 200 MB
    from torch import Tensor


Watch = Callable[[Dataset, Dataset, str], None]
"""What is shown each step as it is carried out: the data before and after it, and its name in the ledger."""


class Encoded(Protocol):
    """One split ready for the model: random access by position to tensors."""

    @property
    def rows(self) -> np.ndarray[Any, Any]:
        """For each sample the ``_row`` it came from (its first, if several); names samples in messages."""
        ...

    def __len__(self) -> int: ...

    def batch(
        self, positions: np.ndarray[Any, Any], augment: Sequence[Any] = (), seed: int = 0, epoch: int = 0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(inputs, targets) of these samples; augmentation is drawn from (seed, epoch, position)."""
        ...


class Samples(Protocol):
    """The last step of the preprocessing: from rows to tensors, and from outputs back to a person's units.

    A frozen dataclass with ``learned``, like every fitted step.
    """

    learned: Mapping[str, Any] | None
    task: str
    """"classify", "regress", "forecast" or "generate"."""

    def fit(self, train: Dataset) -> Self:
        """The same builder with ``learned`` set from these rows."""
        ...

    def sizes(self) -> dict[str, Any]:
        """What a model's constructor may ask for: in_features, num_classes, vocab_size, ..."""
        ...

    def encode(self, dataset: Dataset) -> Encoded:
        """The rows as samples; targets are read where they are there."""
        ...

    def read(self, raw: Any) -> Dataset:
        """Raw input (a row, a file, a string) as a dataset of split "serve", without targets."""
        ...

    def decode(self, output: Tensor) -> np.ndarray[Any, Any]:
        """A model's output in a person's units: probabilities of classes, or values."""
        ...

    def decode_targets(self, targets: Mapping[str, Tensor]) -> np.ndarray[Any, Any]:
        """A batch's targets in the same units, to be held against ``decode``."""
        ...

    def present(self, decoded: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
        """What a person is shown for each sample: the label and its probabilities, or the value."""
        ...


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The fitted steps and the builder of samples, in order."""

    prepare: tuple[Any, ...]
    samples: Any
    schema: Mapping[str, Kind] = dataclasses.field(default_factory=dict)
    """The columns as they were before the first step, mostly a ``Schema``: what raw input is held against."""

    @classmethod
    def fit(
        cls, prepare: Sequence[Any], samples: Any, splits: Splits, on_new: OnNew = DECLARED_NOTHING
    ) -> tuple[Preprocessing, Splits]:
        """Learn the schema and fit each step on train, carry it out on all three parts; the samples come last.

        What validation and test rows have that train did not is noted; they are changed by the steps alone.
        """
        schema = Schema.of(splits.train, on_new)
        splits = splits.map(lambda part: part if part.split == "train" else noted(schema, part))
        fitted, splits = fit_steps(prepare, splits)
        return cls(fitted, fit_step(samples, splits.train), schema), splits

    def __call__(self, dataset: Dataset) -> Dataset:
        """Every fitted step over new rows. Raises DataError for a column of another type than train's."""
        if isinstance(self.schema, Schema):
            self.schema.check_types(dataset)
        return booked(dataset, self.prepare, [(step_name(step), {}) for step in self.prepare])

    def to_json(self) -> str:
        """The steps as calls with what they learned, as JSON text."""
        return _as_json(self.prepare, _call(self.samples), self.schema)

    @classmethod
    def from_json(cls, text: str, trusted: tuple[str, ...] | None = None) -> Preprocessing:
        """Read back; ``trusted`` limits the import paths, for checkpoints that were downloaded."""
        try:
            table = json.loads(text)
            prepare = tuple(_recall(call, "prepare", trusted) for call in table["prepare"])
            given = table["schema"]
            schema = Schema.from_dict(given) if isinstance(given.get("columns"), dict) else dict(given)
            return cls(prepare, _recall(table["samples"], "samples", trusted), schema)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"preprocessing.json: cannot be read: {error!r}.") from error


def noted(schema: Schema, part: Dataset) -> Dataset:
    """A part with a note on each column that has what train did not."""
    names = part.row_names() if len(part) else []
    return part.note(*(one.said(names) for one in schema.find_new(part)))


def written_down(steps: Sequence[Any], samples: Use, schema: Mapping[str, Kind]) -> str:
    """Fitted steps before their samples are made, as ``Preprocessing.to_json`` writes them with those."""
    return _as_json(steps, {"use": samples.target, "arguments": _plain(dict(samples.arguments))}, schema)


def _as_json(steps: Sequence[Any], samples: Mapping[str, Any], schema: Mapping[str, Kind]) -> str:
    plain = schema.to_dict() if isinstance(schema, Schema) else dict(schema)
    table = {"prepare": [_call(step) for step in steps], "samples": samples, "schema": plain}
    return json.dumps(table, ensure_ascii=False, indent=1)


def what_was_learned(steps: Sequence[Any], history: Sequence[Entry]) -> list[dict[str, Any]]:
    """Each fitted step with the split that it was learned from, the rows of it that it saw, and its columns.

    ``history`` ends, for train, in one line for each of the ``steps``; empty where none was fitted in this run.
    """
    if not steps:
        return []
    of_train = [entry for entry in history if entry.split == "train"]
    return [
        {"step": entry.step, "split": split, "rows": rows, "columns": list((step.learned or {}).get("columns", {}))}
        for entry, step in zip(of_train[-len(steps) :], steps, strict=True)
        for split, rows in entry.learned_from.items()
    ]


def fit_steps(steps: Sequence[Any], splits: Splits, watch: Watch | None = None) -> tuple[tuple[Any, ...], Splits]:
    """Each step fitted on train and carried out on all three parts, each of which is shown to ``watch``."""
    fitted: list[Any] = []
    for step in steps:
        name, seen = step_name(step), learned_from(step, len(splits.train))
        made = fit_step(step, splits.train)
        before = splits
        splits = splits.map(lambda part, made=made, book=(name, seen): booked(part, [made], [book]))  # type: ignore[misc]
        if watch is not None:
            for one, other in zip(before.parts().values(), splits.parts().values(), strict=True):
                watch(one, other, name)
        fitted.append(made)
    return tuple(fitted), splits


def fit_step(step: Any, train: Dataset) -> Any:
    """Fit one step on train; on anything else it is refused. A plain function has nothing to fit."""
    if not hasattr(step, "fit"):
        return step
    refuse_fit(step, train.split)
    if contract_of(step) == "sampled":
        train = reservoir(train, step.sample_rows, getattr(step, "seed", 0))
    return step.fit(train)


def refuse_fit(step: Any, split: Split | None) -> None:
    """Raises DataError for fitting on anything but train."""
    if split != "train":
        raise DataError(
            f"{step_name(step)}: fitting on {split or 'data that is not yet split'} would leak; "
            "only the train split may be fitted on."
        )


def learned_from(step: Any, num_train: int) -> dict[str, int]:
    """Which split, and how many rows of it, a step learns from when train has so many; empty if it learns nothing."""
    if not hasattr(step, "fit"):
        return {}
    return {"train": min(step.sample_rows, num_train) if contract_of(step) == "sampled" else num_train}


def step_name(step: Any) -> str:
    """The name a step goes by in messages and in the ledger."""
    return str(
        getattr(step, "__name__", None) or getattr(getattr(step, "func", step), "__name__", None) or type(step).__name__
    )


def _call(step: Any) -> dict[str, Any]:
    """A made part as a call: an instance by its fields, a function by the options bound to it."""
    if dataclasses.is_dataclass(step) and not isinstance(step, type):
        given = {f.name: getattr(step, f.name) for f in dataclasses.fields(step) if f.init}
        name = import_path(type(step))
    else:
        given = dict(getattr(step, "keywords", {}))
        name = import_path(getattr(step, "func", step))
    # What was learned is data: a column named "use" in it is no call.
    return {"use": name, "arguments": {n: v if n == "learned" else _plain(v) for n, v in given.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, Use):
        return {"call": value.target, "arguments": {n: _plain(v) for n, v in value.arguments.items()}}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, PurePath):
        return value.as_posix()
    return _call(value) if callable(value) or dataclasses.is_dataclass(value) else value


def _recall(call: Mapping[str, Any], slot: str, trusted: tuple[str, ...] | None) -> Any:
    """The part that ``_call`` wrote down. Not through ``make``, which reads any table with "use" in it as a call."""
    where = f"preprocessing.{slot}"
    found = resolve(call["use"], slot, where=where, trusted=trusted)
    _, hints = signature_of(found)
    arguments = {
        name: value
        if name == "learned"
        else coerce(_remake(value, name, trusted), hints.get(name, Any), f"{where}.{name}")
        for name, value in call["arguments"].items()
    }
    if inspect.isclass(found):
        return found(**arguments)
    return functools.partial(found, **arguments) if arguments else found


def _remake(value: Any, slot: str, trusted: tuple[str, ...] | None) -> Any:
    if isinstance(value, list):
        return [_remake(item, slot, trusted) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"use", "arguments"}:
        return _recall(value, slot, trusted)
    items = {name: _remake(item, name, trusted) for name, item in value.items()}
    if items.keys() != {"call", "arguments"}:
        return items
    if trusted is not None and ":" in items["call"]:
        resolve(items["call"], slot, where=f"preprocessing.{slot}", trusted=trusted)  # made later, so looked at now
    return Use(items["call"], **items["arguments"])


def as_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor over the same memory; a read-only array is copied first."""
    import torch

    return torch.from_numpy(array if array.flags.writeable else array.copy())
