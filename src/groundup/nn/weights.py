"""A family's published weights as a table of names, from which reading and writing are both derived."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from groundup.core.errors import CheckpointError, nearest


class Transform(NamedTuple):
    """How a published tensor becomes ours, and back."""

    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor], Tensor]


SAME = Transform(lambda tensor: tensor, lambda tensor: tensor)
TRANSPOSED = Transform(lambda tensor: tensor.T, lambda tensor: tensor.T)


class Weight(NamedTuple):
    """One row of a family's table: their name, our name, the transform between them; ``*`` is a layer's number."""

    theirs: str
    ours: str
    transform: Transform = SAME


def read_names(
    tensors: Mapping[str, Tensor], table: Sequence[Weight], expected: Iterable[str], unused: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Published tensors under our names.

    ``unused`` are patterns of published names that are known to carry nothing. Raises CheckpointError for a
    tensor that no row maps and for an ``expected`` name of ours that no tensor gives.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _translate(name, [(row.theirs, row.ours) for row in table])
        if match is not None:
            ours, row = match
            found[ours] = table[row].transform.read(tensor)
        elif _translate(name, [(pattern, "") for pattern in unused]) is None:
            raise CheckpointError(
                f"tensor {name!r} has no place in this model.{nearest(name, (row.theirs for row in table))}"
            )
    for name in expected:
        if name not in found:
            match = _translate(name, [(row.ours, row.theirs) for row in table])
            said = f" (published as {match[0]!r})" if match else ""
            raise CheckpointError(f"the model needs a tensor for {name!r}{said}, and there is none.")
    return found


def write_names(tensors: Mapping[str, Tensor], table: Sequence[Weight]) -> dict[str, Tensor]:
    """Our tensors under the published names. Raises CheckpointError for a tensor that no row maps."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _translate(name, [(row.ours, row.theirs) for row in table])
        if match is None:
            raise CheckpointError(
                f"tensor {name!r} has no published name: the model's layers were changed (swapped, or LoRA that is "
                "not merged). Merge or undo that before you write it in this format."
            )
        theirs, row = match
        found[theirs] = table[row].transform.write(tensor)
    return found


def _translate(name: str, patterns: Sequence[tuple[str, str]]) -> tuple[str, int] | None:
    """(the name's translation, the pattern's index): ``*`` is one number, put in the same place."""
    for index, (pattern, target) in enumerate(patterns):
        match = re.fullmatch(re.escape(pattern).replace(r"\*", r"(\d+)"), name)
        if match:
            for number in match.groups():
                target = target.replace("*", number, 1)
            return target, index
    return None
