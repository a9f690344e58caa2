"""A family's published weights as a table of names, from which reading and writing are both derived."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from groundup.core.errors import CheckpointError, nearest


class Transform(NamedTuple):
    """How a published tensor becomes ours, and back; where ours are several, ``read`` gives, ``write`` takes them."""

    read: Callable[[Tensor], Tensor | tuple[Tensor, ...]]
    write: Callable[..., Tensor]


SAME = Transform(lambda tensor: tensor, lambda tensor: tensor)
TRANSPOSED = Transform(lambda tensor: tensor.T, lambda tensor: tensor.T)


class Weight(NamedTuple):
    """One row of a family's table: their name, our name, the transform between them; ``*`` is a layer's number.

    Where theirs has one ``*`` more than ours, its last one counts tensors that ours holds stacked along dimension 0,
    as the weights of experts are. ``ours`` may be several names, into which theirs is taken apart; ``part`` (i, n) says
    that theirs is the i-th of n equal parts of ours along dimension 0.
    """

    theirs: str
    ours: str | tuple[str, ...]
    transform: Transform = SAME
    part: tuple[int, int] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Our names."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours

    @property
    def stacked(self) -> bool:
        """Whether ours holds several of theirs."""
        return self.theirs.count("*") == self.names[0].count("*") + 1


class Place(NamedTuple):
    """Where a published tensor goes: our names, the row of the table, and its number where ours is stacked."""

    ours: tuple[str, ...]
    row: Weight
    number: int | None

    def values(self, tensor: Tensor) -> list[tuple[str, Tensor]]:
        """Our names and what each is given."""
        read = self.row.transform.read(tensor)
        return list(zip(self.ours, read if isinstance(read, tuple) else (read,), strict=True))


def split_rows(*sizes: int) -> Transform:
    """Theirs holds several of ours one after the other along dimension 0, of these sizes."""
    return Transform(lambda tensor: torch.split(tensor, list(sizes)), lambda *tensors: torch.cat(tensors))


def read_names(
    tensors: Mapping[str, Tensor],
    table: Sequence[Weight],
    expected: Mapping[str, Tensor] | None = None,
    unused: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Published tensors under our names, which ``expected`` has with tensors of their shapes; None expects nothing.

    ``unused`` are patterns of published names that are known to carry nothing. Raises CheckpointError for a
    tensor that no row maps, for one of another shape, and for an expected name that no tensor gives.
    """
    wanted = None if expected is None else {name: tensor.shape for name, tensor in expected.items()}
    return _read(tensors.items(), table, wanted, unused, None)


def fill(
    model: nn.Module,
    tensors: Iterable[tuple[str, Tensor]],
    table: Sequence[Weight],
    unused: Sequence[str] = (),
    dtype: torch.dtype | None = None,
) -> None:
    """Give a model on the meta device its weights, tensor by tensor, in ``dtype`` or as they are stored.

    Buffers, such as running statistics, stay as they are stored. What needs no change is taken as it is, so that a
    tensor that lies in a file stays there until it is used. Raises CheckpointError as ``read_names`` does.
    """
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    converted = None if dtype is None else (dtype, {name for name, _ in model.named_parameters()})
    model.load_state_dict(_read(tensors, table, wanted, unused, converted), assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())


def _read(
    tensors: Iterable[tuple[str, Tensor]],
    table: Sequence[Weight],
    wanted: Mapping[str, torch.Size] | None,
    unused: Sequence[str],
    converted: tuple[torch.dtype, set[str]] | None,
) -> dict[str, Tensor]:
    names = _Names(table, unused)
    found: dict[str, Tensor] = {}
    pieces: dict[str, _Pieces] = {}
    for name, tensor in tensors:
        place = names.place(name)
        if place is None:
            continue
        for ours, value in place.values(tensor):
            if wanted is None:
                found[ours] = value
                continue
            if ours not in wanted:
                raise CheckpointError(f"tensor {name!r} has no place in this model: it has no {ours!r}.")
            convert = converted is not None and ours in converted[1] and value.is_floating_point()
            kept = converted[0] if convert and converted is not None else value.dtype
            if place.number is not None or place.row.part is not None:
                if ours not in pieces:
                    pieces[ours] = _Pieces(ours, torch.empty(wanted[ours], dtype=kept), place)
                pieces[ours].put(name, value, place)
                continue
            if value.shape != wanted[ours]:
                said = f"{ours!r} is {tuple(value.shape)}, config.json says {tuple(wanted[ours])}"
                raise CheckpointError(f"{said} ({name}).")
            found[ours] = value.to(kept).contiguous()
    found |= {ours: piece.whole() for ours, piece in pieces.items()}
    for name in wanted or ():
        if name not in found:
            raise names.missing(name)
    return found


class _Pieces:
    """One of our tensors while its published pieces come in."""

    def __init__(self, name: str, tensor: Tensor, place: Place) -> None:
        self.name = name
        self.tensor = tensor
        stack = len(tensor) if place.number is not None else 1
        parts = place.row.part[1] if place.row.part is not None else 1
        self.open = dict.fromkeys(itertools.product(range(stack), range(parts)))

    def put(self, name: str, value: Tensor, place: Place) -> None:
        """One piece into its place. Raises CheckpointError when there is none for it."""
        part = 0 if place.row.part is None else place.row.part[0]
        key = (place.number or 0, part)
        if place.number is not None and place.number >= len(self.tensor):
            raise CheckpointError(f"tensor {name!r}: the model has {len(self.tensor)} of these, by config.json.")
        target = self.tensor if place.number is None else self.tensor[place.number]
        if place.row.part is not None:
            target = target.chunk(place.row.part[1])[part]
        if value.shape != target.shape:
            said = f"a piece of {self.name!r} is {tuple(value.shape)}, config.json says {tuple(target.shape)}"
            raise CheckpointError(f"{said} ({name}).")
        target.copy_(value)
        self.open.pop(key, None)

    def whole(self) -> Tensor:
        """The tensor. Raises CheckpointError when a piece is missing."""
        if self.open:
            number, part = next(iter(self.open))
            raise CheckpointError(
                f"the model needs all pieces of {self.name!r}; {len(self.open)} are not there, the first is number "
                f"{number}{f' (part {part})' if part else ''}."
            )
        return self.tensor


def write_names(tensors: Mapping[str, Tensor], table: Sequence[Weight]) -> dict[str, Tensor]:
    """Our tensors under the published names. Raises CheckpointError for a tensor that no row maps."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        rows = [(row, match) for row in table for n in row.names if (match := _numbers(name, n)) is not None]
        if not rows:
            raise CheckpointError(
                f"tensor {name!r} has no published name: the model's layers were changed (swapped, or LoRA that is "
                "not merged). Merge or undo that before you write it in this format."
            )
        for row, numbers in rows if rows[0][0].part is not None else rows[:1]:
            values = [tensor]
            if len(row.names) > 1:
                names = [_put(n, numbers) for n in row.names]
                if name != names[0]:
                    continue
                values = [tensors[n] for n in names]
            for theirs, pieces in _unstacked(row, numbers, values):
                found[theirs] = row.transform.write(*pieces)
    return found


def _unstacked(row: Weight, numbers: Sequence[str], values: list[Tensor]) -> Iterator[tuple[str, list[Tensor]]]:
    """(published name, its tensors) for each piece that ours holds in this row."""

    def cut(tensor: Tensor) -> Tensor:
        return tensor if row.part is None else tensor.chunk(row.part[1])[row.part[0]]

    if not row.stacked:
        yield _put(row.theirs, numbers), [cut(value) for value in values]
        return
    for number in range(len(values[0])):
        yield _put(row.theirs, (*numbers, str(number))), [cut(value[number]) for value in values]


@dataclasses.dataclass(frozen=True)
class _Names:
    """The table seen from the published side."""

    table: Sequence[Weight]
    unused: Sequence[str]

    def place(self, name: str) -> Place | None:
        """Where a published tensor goes; None where it is known to carry nothing."""
        for row in self.table:
            numbers = _numbers(name, row.theirs)
            if numbers is not None:
                kept = numbers[:-1] if row.stacked else numbers
                ours = tuple(_put(n, kept) for n in row.names)
                return Place(ours, row, int(numbers[-1]) if row.stacked else None)
        if any(_numbers(name, pattern) is not None for pattern in self.unused):
            return None
        raise CheckpointError(
            f"tensor {name!r} has no place in this model.{nearest(name, (row.theirs for row in self.table))}"
        )

    def missing(self, name: str) -> CheckpointError:
        """What to say of a name of ours that no tensor gave."""
        published = next(self._published(name), None)
        said = f" (published as {published!r})" if published else ""
        return CheckpointError(f"the model needs a tensor for {name!r}{said}, and there is none.")

    def _published(self, name: str) -> Iterator[str]:
        for row in self.table:
            for ours in row.names:
                numbers = _numbers(name, ours)
                if numbers is not None:
                    yield _put(row.theirs, numbers)


def places_of(name: str, table: Sequence[Weight]) -> tuple[str, ...]:
    """Our names of what a published tensor becomes, whatever is done to it; none where no row of the table has it."""
    try:
        place = _Names(table, ()).place(name)
    except CheckpointError:
        return ()
    return place.ours if place is not None else ()


def place_of(name: str, table: Sequence[Weight]) -> str | None:
    """Our name for a published one that goes there unchanged; None where there is none, or it is changed on the way."""
    for row in table:
        numbers = _numbers(name, row.theirs)
        if numbers is not None and isinstance(row.ours, str) and row.part is None and row.transform is SAME:
            return None if row.stacked else _put(row.ours, numbers)
    return None


def fits(name: str, pattern: str) -> bool:
    """Whether a published name is one of a pattern's."""
    return _numbers(name, pattern) is not None


def _numbers(name: str, pattern: str) -> tuple[str, ...] | None:
    """The numbers that stand where the pattern has ``*``, or None where it does not fit; ``**`` is any text."""
    match = _compiled(pattern).fullmatch(name)
    return match.groups() if match else None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", r"(\d+)"))


def _put(pattern: str, numbers: Sequence[str]) -> str:
    """The pattern with numbers in the places of its ``*``; a place without one stays."""
    for number in numbers:
        pattern = pattern.replace("*", number, 1)
    return pattern
