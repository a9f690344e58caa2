"""Steps carried out over shards as each one's contract says: the same steps that a table in memory goes through."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundup.core.contract import Mergeable, contract_of, declared
from groundup.core.dataset import Dataset, apply, fingerprint_of, merge_entries
from groundup.core.errors import DataError
from groundup.core.plan import format_bytes
from groundup.core.preprocessing import refuse_fit, step_name
from groundup.core.sampling import merged_reservoir, reservoir
from groundup.data.shards.changes import Place, close_step, write_pair
from groundup.data.shards.executors import Executor
from groundup.data.shards.folder import (
    MANIFEST,
    Piece,
    Shards,
    finished,
    gathered,
    open_shards,
    shard_names,
    write_shard,
)
from groundup.data.shards.keyed import carry_keyed, keys_of
from groundup.data.shards.memory import COPIES_OF_ALL, Room
from groundup.data.shards.pairwise import Named, carry_pairwise
from groundup.data.shards.removed import write_list
from groundup.data.shards.states import remembered

LOCAL = ("row-local", "fitted", "sampled")
"""Contracts of steps whose call takes shards one by one."""


@dataclasses.dataclass(frozen=True)
class Workshop:
    """Where steps are carried out over shards: by whom, in how much memory, and in which folder results lie."""

    executor: Executor
    room: Room
    folder: Path
    changes: Path | None = None
    """Where it is written down what each step changes; None where it is not."""

    def changes_of(self, split: str | None) -> Path | None:
        """The same for data that are not split, or for one part."""
        return None if self.changes is None else self.changes / (split or "clean")

    def stage(self, name: str) -> Path:
        """The folder of one stage's shards, made when it is first asked for."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path


def carry_out(
    shop: Workshop, step: Any, shards: Shards, name: str, seen: Mapping[str, int] | None = None, stage: str = ""
) -> Shards:
    """One step over all shards. What takes shards one by one is put off until rows are next read.

    Raises DataError as the step does, and for a step that must see all rows when they do not fit in memory.
    """
    if contract_of(step) in LOCAL:
        return shards.then(name, step, seen)
    named = (name, step, dict(seen or {}))
    stage = stage or name
    shards = written(shop, shards, f"{stage}-before")
    folder = shop.stage(stage)
    made = open_shards(folder) if (folder / MANIFEST).is_file() else _carried(shop, step, shards, named, folder)
    if (place := shop.changes_of(shards.split)) is not None:
        write_pairs(shop.executor, shards, [made], place, name)
    return made


def _carried(shop: Workshop, step: Any, shards: Shards, named: Named, folder: Path) -> Shards:
    """A step that sees more than one shard at a time."""
    name, kind = named[0], contract_of(step)
    if kind == "keyed" and (keys_of(step, name) or declared(step, "halo") is not None):
        return carry_keyed(shop.executor, shop.room, shards, named, folder)
    if kind == "pairwise":
        return carry_pairwise(shop.executor, shop.room, shards, named, folder)
    refuse_large(shop.room, shards, name, "name its key (by = [...])" if kind == "keyed" else "")
    after = apply(step, shards.whole(), name, named[2])
    write_list(after.history[-1], folder / "removed-00000.jsonl")
    history = (*after.history[:-1], merge_entries(after.history[-1:]))
    return cut(dataclasses.replace(after, history=history), folder, shop.room.shard_bytes)


DECLARE = (
    "declare what it must see (groundup.core.contract): 'row-local' if rows do not depend on one another, 'keyed' with "
    "`by` if those of one key do, partial/merge/finish if it learns from rows"
)


def refuse_large(room: Room, shards: Shards, name: str, mend: str = "") -> None:
    """Raises DataError unless all rows fit in memory."""
    if not room.fits(shards.size_bytes):
        raise DataError(
            f"{name}: must see all {len(shards):,} rows of {shards.split or 'the data'} at once, and their "
            f"{format_bytes(shards.size_bytes)} do not fit in a memory of {format_bytes(room.memory_bytes)}: work "
            f"takes {COPIES_OF_ALL} times as much. Raise recipe.data.memory, or {mend or DECLARE}."
        )


def written(shop: Workshop, shards: Shards, stage: str) -> Shards:
    """The same rows with every step that was put off carried out and booked, in files; one pass over all shards."""
    return delivered(shop, shards, shop.stage(stage)) if shards.chain else shards


def delivered(shop: Workshop, shards: Shards, folder: Path) -> Shards:
    """The same in a folder of one's own, whether anything was put off or not."""
    folder.mkdir(parents=True, exist_ok=True)
    changes = shop.changes_of(shards.split)
    made = open_shards(folder) if (folder / MANIFEST).is_file() else None
    if made is None:
        tasks = [
            (piece, folder / file.name, None if changes is None else Place(changes, i))
            for i, (piece, file) in enumerate(zip(shards.pieces(), shards.files, strict=True))
        ]
        made = gathered(folder, list(shop.executor.each(write_done, tasks)), shards)
    if changes is not None:
        names = [pending.name for pending in shards.chain if pending.name]
        for step, name in enumerate(names, len(shards.history)):
            close_step(changes, step, name, len(shards.files))
    return made


def write_pairs(executor: Executor, before: Shards, after: Sequence[Shards], folder: Path, name: str) -> None:
    """Write down what became of each shard's rows in those at its place, of one folder or of several."""
    step = len(before.history)
    pieces = [shards.pieces() for shards in after]
    tasks = [
        (piece, [those[i] for those in pieces if i < len(those)], Place(folder, i).of(step), name)
        for i, piece in enumerate(before.pieces())
    ]
    for _ in executor.each(write_pair, tasks):
        pass
    close_step(folder, step, name, len(tasks))


def write_done(piece: Piece, path: Path, place: Place | None = None) -> dict[str, Any]:
    """A task: the steps that were put off over one shard; what is there already is left as it is."""
    there = finished(path)
    if there is not None:
        return there
    dataset = piece.done(place)
    return write_shard(dataset, path, dataset.history[len(piece.history) :])


def fit(shop: Workshop, step: Any, train: Shards, stage: str) -> tuple[Any, dict[str, int]]:
    """One step fitted on the shards of train, and how many rows it saw; on anything else it is refused.

    A plain function has nothing to fit, and sees none.
    """
    if not hasattr(step, "fit"):
        return step, {}
    refuse_fit(step, train.split)
    if contract_of(step) == "sampled":
        seed = getattr(step, "seed", 0)
        tasks = [(piece, step.sample_rows, seed) for piece in train.pieces()]
        sample: Dataset | None = None
        for piece in shop.executor.each(sample_of, tasks):
            sample = piece if sample is None else merged_reservoir([sample, piece], step.sample_rows, seed)
        assert sample is not None
        return step.fit(sample), {"train": len(sample)}
    learning_step: Any = step
    if not isinstance(step, Mergeable):
        refuse_large(shop.room, train, step_name(step))
        whole = train.whole()
        return step.fit(whole), {"train": len(whole)}
    folder = shop.stage(f"{stage}-states")
    learning = [
        (piece, step, folder / f"{file.name}.npz") for piece, file in zip(train.pieces(), train.files, strict=True)
    ]
    state, rows = None, 0
    for told in shop.executor.each(partial_of, learning):
        if told["rows"]:  # a shard of which no row is left tells nothing
            state = step.merge(state, told["state"]) if rows else told["state"]
            rows += told["rows"]
    if not rows:
        return learning_step.fit(train.pieces()[0].seen()), {"train": 0}
    return step.finish(state), {"train": rows}


def partial_of(piece: Piece, step: Any, path: Path) -> dict[str, Any]:
    """A task: what one shard of train tells a step; what was told before is read back."""
    told: dict[str, Any] = remembered(path, lambda: dict(zip(("rows", "state"), piece.tells(step), strict=True)))
    return told


def sample_of(piece: Piece, size: int, seed: int) -> Dataset:
    """A task: one shard's part of the sample."""
    return reservoir(piece.seen(), size, seed)


def fit_and_carry(shop: Workshop, step: Any, parts: Mapping[str, Shards], stage: str) -> tuple[Any, dict[str, Shards]]:
    """Fit one step on train and carry it out on every part."""
    name = step_name(step)
    if contract_of(step) not in LOCAL:  # seen whole: what was put off is done once, not again for each look
        parts = {split: written(shop, part, f"{stage}-{split}-before") for split, part in parts.items()}
    step, seen = fit(shop, step, parts["train"], stage)
    return step, {split: carry_out(shop, step, part, name, seen, f"{stage}-{split}") for split, part in parts.items()}


def fingerprint(shards: Shards) -> str:
    """SHA-256 over the rows in order and the kinds: what the same rows in memory have, wherever they are cut."""
    return fingerprint_of((piece.seen() for piece in shards.pieces()), shards.kinds)


def cut(dataset: Dataset, folder: Path, shard_bytes: int) -> Shards:
    """A dataset in memory as shards of at most so many bytes, one at least."""
    size = dataset.frame.estimated_size()
    num = max(1, -(-int(size) // shard_bytes))
    rows = max(1, -(-len(dataset) // num))
    vouched = []
    for name, start in zip(shard_names(), range(0, max(1, len(dataset)), rows), strict=False):
        part = dataclasses.replace(dataset, frame=dataset.frame[start : start + rows])
        there = finished(folder / name)
        same = there is not None and there["rows"] == len(part)
        vouched.append(there if there is not None and same else write_shard(part, folder / name))
    return gathered(
        folder,
        vouched,
        None,
        len(dataset),
        split=dataset.split,
        origin=dataset.origin,
        history=dataset.history,
        kinds=dataset.kinds,
    )
