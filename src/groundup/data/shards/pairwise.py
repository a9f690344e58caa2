"""Steps that compare rows with one another: what is compared is gathered, decided upon, and rows are dropped."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundup.core.contract import ByKeys, ByLikeness
from groundup.core.dataset import Dataset, apply
from groundup.core.errors import DataError
from groundup.core.plan import format_bytes
from groundup.data.shards.alike_rows import find_alike
from groundup.data.shards.equal_rows import find_equal
from groundup.data.shards.executors import Executor
from groundup.data.shards.folder import Piece, Shards, finished, gathered, write_shard
from groundup.data.shards.memory import Room
from groundup.data.shards.states import remembered

Named = tuple[str, Any, Mapping[str, int]]


def carry_pairwise(executor: Executor, room: Room, shards: Shards, named: Named, folder: Path) -> Shards:
    """The step over all rows: by keys where it has such, else by signatures, held in memory together.

    Raises DataError where those signatures take more than half of the memory.
    """
    step = named[1]
    if isinstance(step, ByKeys):
        gone: Iterable[Mapping[int, str]] = find_equal(executor, room, shards, step, folder)
    elif isinstance(step, ByLikeness):
        gone = find_alike(executor, room, shards, step, folder)
    else:
        gone = _by_signatures(executor, room, shards, named, folder)
    tasks = (
        (piece, named, removed, folder / file.name)
        for piece, removed, file in zip(shards.pieces(), gone, shards.files, strict=True)
    )
    made = gathered(folder, executor.each(drop_from, tasks), shards)
    for path in folder.glob("*.npz"):
        path.unlink()
    shutil.rmtree(folder / "keys", ignore_errors=True)
    return made


def _by_signatures(
    executor: Executor, room: Room, shards: Shards, named: Named, folder: Path
) -> Sequence[Mapping[int, str]]:
    """What goes of each shard, from the signatures of all rows."""
    name, step, _ = named
    signing = [
        (piece, step, folder / f"{file.name}.npz") for piece, file in zip(shards.pieces(), shards.files, strict=True)
    ]
    signatures: list[Any] = []
    size = 0
    for signature in executor.each(signature_of, signing):
        signatures.append(signature)
        size += _size_of(signature)
        if size * 2 > room.memory_bytes:
            raise DataError(
                f"{name}: what is compared of the first {len(signatures)} of {len(signing)} shards takes "
                f"{format_bytes(size)}, more than half of a memory of {format_bytes(room.memory_bytes)}. Raise "
                "recipe.data.memory, or have the step compare by keys (groundup.core.contract.ByLikeness)."
            )
    gone: Sequence[Mapping[int, str]] = step.removed(signatures)
    if len(gone) != len(shards.files):
        raise DataError(f"{name}: removed() tells of {len(gone)} shards, there are {len(shards.files)}.")
    return gone


def _size_of(state: Any) -> int:
    """Bytes that a state takes, about."""
    if isinstance(state, np.ndarray):
        return int(state.nbytes)
    if isinstance(state, Mapping):
        return sum(_size_of(value) for value in state.values())
    if isinstance(state, (list, tuple)):
        return sum(_size_of(value) for value in state)
    return sys.getsizeof(state)


def signature_of(piece: Piece, step: Any, path: Path) -> Any:
    """A task: what is compared of one shard's rows; what was told before is read back."""
    return remembered(path, lambda: step.signature(piece.read()))


def drop_from(piece: Piece, named: Named, removed: Mapping[int, str], path: Path) -> dict[str, Any]:
    """A task: one shard without the rows that go."""
    if (there := finished(path)) is not None:
        return there
    name, _, seen = named

    def dropped(dataset: Dataset) -> Dataset:
        kept = np.ones(len(dataset), dtype=bool)
        kept[list(removed)] = False
        return dataset.keep(kept, removed) if removed else dataset

    after = apply(dropped, piece.read(), name, seen)
    return write_shard(after, path, after.history[-1:])
