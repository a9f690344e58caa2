"""Steps that compare rows with one another: signatures of all rows are gathered, decided upon, and rows dropped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from groundup.core.dataset import Dataset, apply
from groundup.core.errors import DataError
from groundup.data.shards.executors import Executor
from groundup.data.shards.folder import Piece, Shards, finished, gathered, write_shard
from groundup.data.shards.states import load_state, save_state

Named = tuple[str, Any, Mapping[str, int]]


def carry_pairwise(executor: Executor, shards: Shards, named: Named, folder: Path) -> Shards:
    """The step over all rows, of which only the signatures are in memory together."""
    name, step, _ = named
    signing = [
        (piece, step, folder / f"{file.name}.npz") for piece, file in zip(shards.pieces(), shards.files, strict=True)
    ]
    signatures = list(executor.each(signature_of, signing))
    evidence: list[Any] = []
    if hasattr(step, "doubtful"):  # a second look at few rows, where short signatures do not decide
        doubtful = step.doubtful(signatures)
        looking = [(piece, step, chosen) for piece, chosen in zip(shards.pieces(), doubtful, strict=True)]
        evidence = [list(executor.each(evidence_of, looking))]
    gone = step.removed(signatures, *evidence)
    if len(gone) != len(shards.files):
        raise DataError(f"{name}: removed() tells of {len(gone)} shards, there are {len(shards.files)}.")
    tasks = [
        (piece, named, removed, folder / file.name)
        for piece, removed, file in zip(shards.pieces(), gone, shards.files, strict=True)
    ]
    made = gathered(folder, list(executor.each(drop_from, tasks)), shards)
    for _, _, path in signing:
        path.unlink(missing_ok=True)
    return made


def signature_of(piece: Piece, step: Any, path: Path) -> Any:
    """A task: what is compared of one shard's rows; what was told before is read back."""
    try:
        return load_state(path)
    except (OSError, ValueError, KeyError):
        signature = step.signature(piece.read())
        save_state(path, signature)
        return signature


def evidence_of(piece: Piece, step: Any, positions: Any) -> Any:
    """A task: what is compared of the few rows of one shard that may have to go."""
    return step.evidence(piece.read(), positions)


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
