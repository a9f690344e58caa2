"""Foreign weights made ours: a mapping of names that is proposed, shown, and complete before anything is written.

Files written by torch are read on the CPU with ``weights_only=True``; nothing in them is carried out.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from groundup.core.errors import CheckpointError, nearest
from groundup.nn.folders import read_tensors

SAME, WITHOUT_PREFIX, BY_ORDER, BY_NAME, GIVEN = (
    "same name",
    "same name without {!r}",
    "by order among equal shapes",
    "by likeness of names among equal shapes",
    "given",
)

COUNTERS = ("num_batches_tracked",)
"""Last part of names that count and weigh nothing: where only one side has one, nothing is lost."""

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "ema_state_dict", "params")
"""Keys under which training scripts put the weights beside other things; looked for in this order."""

MOST_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a mapping: their tensor, ours, and how it was found."""

    theirs: str
    ours: str
    shape: tuple[int, ...]
    how: str


@dataclasses.dataclass(frozen=True)
class NameMapping:
    """Every foreign tensor and every one of ours, each accounted for or named as open."""

    rows: tuple[Row, ...]
    unused: tuple[str, ...] = ()
    """Their tensors that are declared to carry nothing for this model."""
    kept: tuple[str, ...] = ()
    """Our tensors that keep the value that the model gives them."""
    open_theirs: tuple[tuple[str, tuple[int, ...]], ...] = ()
    open_ours: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every tensor of both sides is accounted for."""
        return not self.open_theirs and not self.open_ours

    def demand(self, where: str) -> NameMapping:
        """The same mapping. Raises CheckpointError that lists what is open where it is not complete."""
        if self.complete:
            return self
        said = []
        for whose, tensors in (
            ("of theirs without a place", self.open_theirs),
            ("of ours without a source", self.open_ours),
        ):
            if tensors:
                shown = "; ".join(f"{name} {shape}" for name, shape in tensors[:MOST_SHOWN])
                more = f"; and {len(tensors) - MOST_SHOWN} more" if len(tensors) > MOST_SHOWN else ""
                said.append(f"{len(tensors)} tensors {whose}: {shown}{more}")
        raise CheckpointError(
            f"{where}: the mapping is not complete. {'. '.join(said)}. Take another model, or name them in a mapping "
            "file: tensors under [names] (theirs = ours), what carries nothing under unused = [...]."
        )

    def to_toml(self) -> str:
        """As a file that ``read_mapping`` reads, to be looked over and changed by hand."""
        import tomli_w

        return tomli_w.dumps({"unused": list(self.unused), "names": {row.theirs: row.ours for row in self.rows}})


def read_foreign(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file: safetensors, or one that torch wrote (old tar and new zip form), on the CPU.

    Where the file holds a training script's state, the weights are taken out of it. Raises CheckpointError for a file
    that is missing, damaged, holds no tensors, or would have to run code to be read.
    """
    path = Path(path)
    if not path.is_file():
        beside = os.listdir(path.parent) if path.parent.is_dir() else []
        raise CheckpointError(f"{path}: there is no such file.{nearest(path.name, beside)}")
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds, by what stands in the bytes
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read as tensors alone: {said}. A file that holds a pickled model has to be saved "
            "anew by its owner: torch.save(model.state_dict(), ...)."
        ) from error
    found = _tensors_in(loaded)
    if not found:
        kind = sorted(loaded)[:MOST_SHOWN] if isinstance(loaded, Mapping) else type(loaded).__name__
        raise CheckpointError(f"{path}: holds no tensors by name; read {kind}.")
    return found


def _tensors_in(loaded: Any) -> dict[str, Tensor]:
    """The largest table of tensors: the file itself, or what a training script put under a key of its own."""
    if not isinstance(loaded, Mapping):
        return {}
    tables = [loaded, *(loaded[name] for name in WRAPPERS if isinstance(loaded.get(name), Mapping))]
    tensors = [{str(name): value for name, value in table.items() if isinstance(value, Tensor)} for table in tables]
    return max(tensors, key=len)


def propose(
    theirs: Mapping[str, Tensor], model: nn.Module, given: Mapping[str, str] | None = None, unused: Sequence[str] = ()
) -> NameMapping:
    """Which of their tensors is which of the model's: as ``given``, by name, by order or likeness among equal shapes.

    Nothing is guessed across shapes. Raises CheckpointError for a given name that is not there, or of another shape.
    """
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.items()}
    rows = _given(given or {}, shapes, ours)
    for name in unused:
        if name not in shapes:
            raise CheckpointError(
                f"mapping: unused names {name!r}, which the file does not have.{nearest(name, shapes)}"
            )
    left = {n: s for n, s in shapes.items() if n not in unused and n not in {row.theirs for row in rows}}
    open_ours = {n: s for n, s in ours.items() if n not in {row.ours for row in rows}}
    rows += _by_name(left, open_ours)
    left = {n: s for n, s in left.items() if n not in {row.theirs for row in rows}}
    open_ours = {n: s for n, s in open_ours.items() if n not in {row.ours for row in rows}}
    rows += _by_shape(left, open_ours)
    used, taken = {row.theirs for row in rows}, {row.ours for row in rows}
    counters = tuple(n for n in left if n not in used and n.rpartition(".")[2] in COUNTERS)
    kept = tuple(n for n in open_ours if n not in taken and n.rpartition(".")[2] in COUNTERS)
    place = {name: i for i, name in enumerate(ours)}
    return NameMapping(
        tuple(sorted(rows, key=lambda row: place[row.ours])),
        (*unused, *counters),
        kept,
        tuple((n, s) for n, s in left.items() if n not in used and n not in counters),
        tuple((n, s) for n, s in open_ours.items() if n not in taken and n not in kept),
    )


def _given(
    given: Mapping[str, str], theirs: Mapping[str, tuple[int, ...]], ours: Mapping[str, tuple[int, ...]]
) -> list[Row]:
    rows = []
    for name, place in given.items():
        if name not in theirs:
            raise CheckpointError(f"mapping: names {name!r}, which the file does not have.{nearest(name, theirs)}")
        if place not in ours:
            raise CheckpointError(
                f"mapping: {name!r} goes to {place!r}, which the model does not have.{nearest(place, ours)}"
            )
        if theirs[name] != ours[place]:
            raise CheckpointError(f"mapping: {name!r} is {theirs[name]}, the model's {place!r} is {ours[place]}.")
        rows.append(Row(name, place, theirs[name], GIVEN))
    doubled = [place for place in given.values() if list(given.values()).count(place) > 1]
    if doubled:
        raise CheckpointError(f"mapping: {doubled[0]!r} is given more than one tensor.")
    return rows


def _by_name(theirs: Mapping[str, tuple[int, ...]], ours: Mapping[str, tuple[int, ...]]) -> list[Row]:
    """Equal names and shapes, once what all of their names begin with, such as ``module.``, is taken off."""
    words = [name.split(".")[:-1] for name in theirs]
    shared = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))
    prefix = "".join(f"{column[0]}." for column in shared)
    best: list[Row] = []
    for cut in dict.fromkeys(("", prefix)):
        how = WITHOUT_PREFIX.format(cut) if cut else SAME
        bare = {name.removeprefix(cut): name for name in theirs}
        rows = [Row(bare[n], n, s, how) for n, s in ours.items() if n in bare and theirs[bare[n]] == s]
        best = max(best, rows, key=len)
    return best


def _by_shape(theirs: Mapping[str, tuple[int, ...]], ours: Mapping[str, tuple[int, ...]]) -> list[Row]:
    """Among tensors of one shape and one last name (weight, bias, ...): in order where the numbers of them agree,
    otherwise the assignment with the most alike names (Hungarian method)."""
    rows: list[Row] = []
    for by_last_name in (True, False):  # where last names differ (gamma, kernel), the shape alone must do
        left = {n: s for n, s in theirs.items() if n not in {row.theirs for row in rows}}
        wanted = {n: s for n, s in ours.items() if n not in {row.ours for row in rows}}
        for key, names in _grouped(wanted, by_last_name).items():
            candidates = _grouped(left, by_last_name).get(key, [])
            if len(candidates) == len(names):
                rows += [Row(t, o, key[0], BY_ORDER) for t, o in zip(candidates, names, strict=True)]
            elif candidates:
                rows += [Row(t, o, key[0], BY_NAME) for t, o in _most_alike(candidates, names)]
    return rows


def _grouped(shapes: Mapping[str, tuple[int, ...]], by_last_name: bool) -> dict[tuple[tuple[int, ...], str], list[str]]:
    groups: dict[tuple[tuple[int, ...], str], list[str]] = {}
    for name, shape in shapes.items():
        groups.setdefault((shape, name.rpartition(".")[2] if by_last_name else ""), []).append(name)
    return groups


def _most_alike(theirs: Sequence[str], ours: Sequence[str]) -> list[tuple[str, str]]:
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    likeness = np.array([[difflib.SequenceMatcher(None, t, o).ratio() for o in ours] for t in theirs])
    return [(theirs[i], ours[j]) for i, j in zip(*linear_sum_assignment(-likeness), strict=True)]


def carry_over(mapping: NameMapping, theirs: Mapping[str, Tensor], model: nn.Module) -> nn.Module:
    """Give the model their values, each in the model's own type, by a mapping that is complete."""
    mapping.demand("convert")
    state = model.state_dict()
    for row in mapping.rows:
        state[row.ours] = theirs[row.theirs].to(state[row.ours].dtype)
    model.load_state_dict(state)
    return model


def read_mapping(path: str | Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """(names, unused) of a mapping file. Raises CheckpointError when it is missing or no such file."""
    import tomllib

    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read as a mapping: {error}.") from error
    strange = sorted(set(table) - {"names", "unused"})
    names, unused = table.get("names", {}), table.get("unused", [])
    texts = isinstance(names, dict) and all(isinstance(value, str) for value in names.values())
    if strange or not texts or not isinstance(unused, list):
        raise CheckpointError(
            f"{path}: expected a table [names] of theirs = ours and a list unused; read {table!r:.200}."
        )
    return names, tuple(unused)
