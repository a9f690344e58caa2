"""Foreign weights made ours: a mapping of names that is proposed, shown, and complete before anything is written.

Files written by torch are read on the CPU with ``weights_only=True``; nothing in them is carried out.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from groundup.core.errors import CheckpointError, nearest
from groundup.models.hugging_face import fill_published
from groundup.nn.folders import read_tensors
from groundup.nn.weights import Weight, place_of, places_of

PUBLISHED, SAME, WITHOUT_PREFIX, BY_SEQUENCE, ONLY_ONE, BY_ORDER, BY_NAME, GIVEN = (
    "published name of this family",
    "same name",
    "same name without {!r}",
    "the whole sequence of layers agrees",
    "the only one of its shape",
    "guessed by order among equal shapes",
    "guessed by likeness of names among equal shapes",
    "given",
)
GUESSES = (BY_ORDER, BY_NAME)
"""Ways of finding a place that may be wrong although every shape fits."""

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

    @property
    def guesses(self) -> tuple[Row, ...]:
        """Rows that fit by shape and may be wrong all the same."""
        return tuple(row for row in self.rows if row.how in GUESSES)

    def demand(self, where: str) -> NameMapping:
        """The same mapping. Raises CheckpointError that lists what is open, or guessed, where anything is."""
        if self.complete and not self.guesses:
            return self
        if self.complete:
            shown = "; ".join(f"{row.theirs} -> {row.ours} {row.shape}" for row in self.guesses[:MOST_SHOWN])
            raise CheckpointError(
                f"{where}: {len(self.guesses)} of {len(self.rows)} tensors fit several places by their shape, and "
                f"their names do not tell which: {shown}; ... A wrong guess would not be noticed, so look the proposal "
                "over and give it back as the mapping file."
            )
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
        """As a file that ``read_mapping`` reads, to be looked over and changed by hand; what is open is a comment."""
        lines = [
            "# theirs = ours; tensors of theirs that carry nothing for this model stand under unused.",
            "unused = [",
        ]
        lines += [*(f"  {json.dumps(name)}," for name in self.unused), "]", "", "[names]"]
        lines += [
            f"{json.dumps(row.theirs)} = {json.dumps(row.ours)}{f'  # {row.how}' if row.how in GUESSES else ''}"
            for row in self.rows
        ]
        for said, tensors in (("theirs without a place", self.open_theirs), ("ours without a source", self.open_ours)):
            lines += [f"# {said}: {json.dumps(name)} {shape}" for name, shape in tensors]
        return "\n".join(lines) + "\n"

    def counts(self) -> dict[str, int]:
        """How many tensors there are of each kind."""
        guessed = len(self.guesses)
        return {
            "matched": len(self.rows) - guessed,
            "guessed": guessed,
            "unused": len(self.unused),
            "kept": len(self.kept),
            "without a place": len(self.open_theirs),
            "missing": len(self.open_ours),
        }

    def tables(self) -> dict[str, list[tuple[str, str, str]]]:
        """How it was found, or what is missing -> (theirs, ours, tensors), layer by layer; every tensor of both."""
        lines = [(row.how, row.theirs, row.ours, row.shape) for row in self.rows]
        lines += [("unused: carry nothing for this model", name, "", ()) for name in self.unused]
        lines += [("count only, and start anew", "", name, ()) for name in self.kept]
        lines += [("OPEN: without a place in the model", name, "", shape) for name, shape in self.open_theirs]
        lines += [("MISSING: nothing in the file for it", "", name, shape) for name, shape in self.open_ours]
        found: dict[str, dict[tuple[str, str], list[str]]] = {}
        for how, theirs, ours, shape in lines:
            (layer, _, part), (own_layer, _, own) = theirs.rpartition("."), ours.rpartition(".")
            name = part if part == own or not own else own if not part else f"{part} -> {own}"
            found.setdefault(how, {}).setdefault((layer, own_layer), []).append(f"{name} {_sized(shape)}".strip())
        return {
            how: [(theirs or "-", ours or "-", ", ".join(parts)) for (theirs, ours), parts in layers.items()]
            for how, layers in found.items()
        }


def _sized(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


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
    """Which of their tensors is which of the model's: as ``given``, by the family's published names, by equal names, by
    the sequence of layers, by shapes that occur once; and what is left is guessed and marked so.

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
    rows += _published(left, open_ours, getattr(model, "WEIGHTS", ())) or _by_name(left, open_ours)
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


def take_published(theirs: Mapping[str, Tensor], model: Any, where: Path) -> NameMapping | None:
    """Fill a family's model with tensors that have its published names, those that are converted on the way included.

    None, and the model as it was, where they are not just those that the family has.
    """
    if not hasattr(model, "WEIGHTS"):
        return None
    prefix = getattr(model, "PREFIX", "")
    rows, unused = [], []
    for name, tensor in theirs.items():
        ours = places_of(name, model.WEIGHTS) or places_of(prefix + name, model.WEIGHTS)
        if ours:
            rows.append(Row(name, " + ".join(ours), tuple(tensor.shape), PUBLISHED))
        else:
            unused.append(name)
    try:
        fill_published(model, theirs.items(), where, next(model.parameters()).dtype)
    except CheckpointError:
        return None
    return NameMapping(tuple(rows), tuple(unused))


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


def _published(
    theirs: Mapping[str, tuple[int, ...]], ours: Mapping[str, tuple[int, ...]], table: Sequence[Weight]
) -> list[Row]:
    """By the family's own table of published names, where it is one name for one; without what stands before all."""
    found: list[Row] = []
    bare = {name.removeprefix(_before_all(theirs)): name for name in theirs}
    for names in ({name: name for name in theirs}, bare):
        rows = []
        for name, whole in names.items():
            place = place_of(name, table)
            if place is not None and place in ours and theirs[whole] == ours[place]:
                rows.append(Row(whole, place, theirs[whole], PUBLISHED))
        found = max(found, rows, key=len)
    return found


def _before_all(names: Mapping[str, object]) -> str:
    """What all names begin with, dot by dot, such as ``module.``."""
    words = [name.split(".")[:-1] for name in names]
    shared = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))
    return "".join(f"{column[0]}." for column in shared)


def _by_name(theirs: Mapping[str, tuple[int, ...]], ours: Mapping[str, tuple[int, ...]]) -> list[Row]:
    """Equal names and shapes, once what all of their names begin with, such as ``module.``, is taken off."""
    prefix = _before_all(theirs)
    best: list[Row] = []
    for cut in dict.fromkeys(("", prefix)):
        how = WITHOUT_PREFIX.format(cut) if cut else SAME
        bare = {name.removeprefix(cut): name for name in theirs}
        rows = [Row(bare[n], n, s, how) for n, s in ours.items() if n in bare and theirs[bare[n]] == s]
        best = max(best, rows, key=len)
    return best


def _by_shape(theirs: Mapping[str, tuple[int, ...]], ours: Mapping[str, tuple[int, ...]]) -> list[Row]:
    """By the sequence of layers where it agrees as a whole, unless the file has its names by the alphabet.

    Otherwise by layers that are the only ones with their shapes; what then is left can only be guessed, in the order of
    the numbers in names.
    """
    layers, wanted = _layers(theirs), _layers(ours)
    alphabetical = len(theirs) > 1 and list(theirs) == sorted(theirs)  # as safetensors files are: no order of layers
    if not alphabetical and list(map(_shapes, layers.values())) == list(map(_shapes, wanted.values())):
        pairs = zip(layers.values(), wanted.values(), strict=True)
        return [row for layer, own in pairs for row in _alike(layer, own, BY_SEQUENCE)]
    layers = _layers({name: theirs[name] for name in sorted(theirs, key=_natural)})
    rows: list[Row] = []
    for shapes, places in _grouped(wanted).items():
        candidates = _grouped(layers).get(shapes, [])
        if len(candidates) == len(places):
            how = ONLY_ONE if len(places) == 1 else BY_ORDER
            for layer, own in zip(candidates, places, strict=True):
                rows += _alike(layers[layer], wanted[own], how)
    left = {n: s for n, s in theirs.items() if n not in {row.theirs for row in rows} and not _counts(n)}
    open_ours = {n: s for n, s in ours.items() if n not in {row.ours for row in rows} and not _counts(n)}
    for shape in dict.fromkeys(open_ours.values()):
        names = [n for n, s in open_ours.items() if s == shape]
        others = [n for n, s in left.items() if s == shape]
        rows += [Row(t, o, shape, BY_NAME) for t, o in _most_alike(others, names)] if others else []
    return rows


Layer = dict[str, tuple[str, tuple[int, ...]]]
"""Last part of a name -> (the whole name, its shape), of the tensors that share what stands before."""


def _layers(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Layer]:
    """The tensors layer by layer, in order of first appearance."""
    found: dict[str, Layer] = {}
    for name, shape in shapes.items():
        layer, _, part = name.rpartition(".")
        found.setdefault(layer, {})[part] = (name, shape)
    return found


def _shapes(layer: Layer) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """What a layer is told by: its parts and their shapes, but for counters."""
    return tuple(sorted((part, shape) for part, (_, shape) in layer.items() if part not in COUNTERS))


def _grouped(layers: Mapping[str, Layer]) -> dict[tuple[tuple[str, tuple[int, ...]], ...], list[str]]:
    groups: dict[tuple[tuple[str, tuple[int, ...]], ...], list[str]] = {}
    for name, layer in layers.items():
        if _shapes(layer):
            groups.setdefault(_shapes(layer), []).append(name)
    return groups


def _alike(theirs: Layer, ours: Layer, how: str) -> list[Row]:
    return [Row(theirs[part][0], name, shape, how) for part, (name, shape) in ours.items() if part in theirs]


def _counts(name: str) -> bool:
    return name.rpartition(".")[2] in COUNTERS


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Names in order of their numbers: layers.9 before layers.10."""
    return [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in name.split(".")]


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
