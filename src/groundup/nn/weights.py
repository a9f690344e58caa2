"""A family's published weights as a table of names, from which reading and writing are both derived."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from groundup.core.errors import CheckpointError, nearest


class Transform(NamedTuple):
    """How a published tensor becomes ours, and back."""

    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor], Tensor]


SAME = Transform(lambda tensor: tensor, lambda tensor: tensor)
TRANSPOSED = Transform(lambda tensor: tensor.T, lambda tensor: tensor.T)


class Weight(NamedTuple):
    """One row of a family's table: their name, our name, the transform between them; ``*`` is a layer's number.

    Where theirs has one ``*`` more than ours, its last one counts tensors that ours holds stacked along dimension 0,
    as the weights of experts are.
    """

    theirs: str
    ours: str
    transform: Transform = SAME

    @property
    def stacked(self) -> bool:
        """Whether ours holds several of theirs."""
        return self.theirs.count("*") == self.ours.count("*") + 1


class Place(NamedTuple):
    """Where a published tensor goes: our name, the row of the table, and its number where ours is stacked."""

    ours: str
    row: Weight
    number: int | None


def read_names(
    tensors: Mapping[str, Tensor], table: Sequence[Weight], expected: Iterable[str], unused: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Published tensors under our names.

    ``unused`` are patterns of published names that are known to carry nothing. Raises CheckpointError for a
    tensor that no row maps and for an ``expected`` name of ours that no tensor gives.
    """
    names = _Names(table, unused)
    found: dict[str, Tensor] = {}
    stacks: dict[str, dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        place = names.place(name)
        if place is None:
            continue
        value = place.row.transform.read(tensor)
        if place.number is None:
            found[place.ours] = value
        else:
            stacks.setdefault(place.ours, {})[place.number] = value
    for ours, pieces in stacks.items():
        found[ours] = torch.stack([pieces[i] for i in _complete(ours, pieces)])
    for name in expected:
        if name not in found:
            raise names.missing(name)
    return found


def fill(
    model: nn.Module,
    tensors: Iterable[tuple[str, Tensor]],
    table: Sequence[Weight],
    unused: Sequence[str] = (),
    dtype: torch.dtype | None = None,
) -> None:
    """Give a model on the meta device its weights, tensor by tensor, in ``dtype`` or as they are stored.

    What needs no change is taken as it is, so that a tensor that lies in a file stays there until it is used. Raises
    CheckpointError as ``read_names`` does, and for a tensor of another shape than the model's.
    """
    names = _Names(table, unused)
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found: dict[str, Tensor] = {}
    seen: dict[str, dict[int, None]] = {}
    for name, tensor in tensors:
        place = names.place(name)
        if place is None:
            continue
        if place.ours not in wanted:
            raise CheckpointError(f"tensor {name!r} has no place in this model: it has no {place.ours!r}.")
        value = place.row.transform.read(tensor)
        kept = dtype if dtype is not None and value.is_floating_point() else value.dtype
        shape = wanted[place.ours] if place.number is None else wanted[place.ours][1:]
        if value.shape != shape:
            raise CheckpointError(f"{place.ours!r} is {tuple(value.shape)}, config.json says {tuple(shape)} ({name}).")
        if place.number is None:
            found[place.ours] = value.to(kept).contiguous()
            continue
        if place.ours not in found:
            found[place.ours] = torch.empty(wanted[place.ours], dtype=kept)
        if place.number >= len(found[place.ours]):
            raise CheckpointError(f"tensor {name!r}: the model has {len(found[place.ours])} of these, by config.json.")
        found[place.ours][place.number] = value
        seen.setdefault(place.ours, {})[place.number] = None
    for ours, indices in seen.items():
        _complete(ours, indices, len(found[ours]))
    for name in wanted:
        if name not in found:
            raise names.missing(name)
    model.load_state_dict(found, assign=True)
    model.requires_grad_(True)


def write_names(tensors: Mapping[str, Tensor], table: Sequence[Weight]) -> dict[str, Tensor]:
    """Our tensors under the published names. Raises CheckpointError for a tensor that no row maps."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        row, numbers = next(
            ((row, match) for row in table if (match := _numbers(name, row.ours)) is not None), (None, None)
        )
        if row is None or numbers is None:
            raise CheckpointError(
                f"tensor {name!r} has no published name: the model's layers were changed (swapped, or LoRA that is "
                "not merged). Merge or undo that before you write it in this format."
            )
        if row.stacked:
            for index, piece in enumerate(tensor):
                found[_put(row.theirs, (*numbers, str(index)))] = row.transform.write(piece)
        else:
            found[_put(row.theirs, numbers)] = row.transform.write(tensor)
    return found


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
                index = int(numbers[-1]) if row.stacked else None
                return Place(_put(row.ours, numbers[:-1] if row.stacked else numbers), row, index)
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
            numbers = _numbers(name, row.ours)
            if numbers is not None:
                yield _put(row.theirs, numbers)


def _complete(name: str, indices: Mapping[int, object], count: int | None = None) -> list[int]:
    """The indices in order. Raises CheckpointError when one is missing."""
    count = max(indices) + 1 if count is None else count
    if missing := [index for index in range(count) if index not in indices]:
        raise CheckpointError(f"the model needs {count} tensors for {name!r}, and number {missing[0]} is not there.")
    return sorted(indices)


def _numbers(name: str, pattern: str) -> tuple[str, ...] | None:
    """The numbers that stand where the pattern has ``*``, or None where it does not fit."""
    match = re.fullmatch(re.escape(pattern).replace(r"\*", r"(\d+)"), name)
    return match.groups() if match else None


def _put(pattern: str, numbers: Sequence[str]) -> str:
    """The pattern with numbers in the places of its ``*``; a place without one stays."""
    for number in numbers:
        pattern = pattern.replace("*", number, 1)
    return pattern
