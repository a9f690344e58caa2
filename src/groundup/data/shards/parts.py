"""Train, validation and test of shards: the split is decided by the columns it looks at, and rows follow in files."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl

from groundup.core.contract import declared
from groundup.core.dataset import ROW, Dataset, Split, Splits
from groundup.core.errors import DataError
from groundup.data.shards.carry import Workshop, refuse_large, write_pairs
from groundup.data.shards.exchange import Array
from groundup.data.shards.folder import MANIFEST, Piece, Shards, finished, gathered, open_shards, write_shard
from groundup.data.shards.rearrange import rearranged

PARTS: tuple[Split, ...] = ("train", "valid", "test")
TRAIN, VALID, TEST, NOWHERE = range(4)


@dataclasses.dataclass(frozen=True)
class ShardSplits:
    """The three parts in shards: what ``Splits`` is in memory."""

    train: Shards
    valid: Shards
    test: Shards

    def parts(self) -> dict[str, Shards]:
        """By name, in order."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def split_shards(
    shop: Workshop, split: Callable[[Dataset], Splits], shards: Shards, name: str, stage: str
) -> dict[str, Shards]:
    """The parts by name. In memory is no more than the columns that the split's options name, and rows' numbers.

    Raises DataError as the split does, and for one that cuts rows up.
    """
    folders = {part: shop.stage(f"{stage}-{part}") for part in PARTS}
    if all((folder / MANIFEST).is_file() for folder in folders.values()):
        made: dict[str, Shards] = {part: open_shards(folder) for part, folder in folders.items()}
    else:
        made = _made(shop, split, shards, name, folders)
        made = {part: made[part].booked(f"split {name}", len(shards)).save() for part in PARTS}
    if shop.changes is not None:
        write_pairs(shop.executor, shards, [made[part] for part in PARTS], shop.changes / "split", "split")
    return made


def _made(
    shop: Workshop, split: Callable[[Dataset], Splits], shards: Shards, name: str, folders: dict[Split, Path]
) -> dict[str, Shards]:
    positions, gone = _positions(split, _thin(shop, split, shards, name), name)
    if gone:  # a column that named the part
        shards = shards.then("", functools.partial(_without, columns=gone)).without(gone)
    ordered = [part for part in PARTS if (np.diff(positions[part]) > 0).all()]
    made = _in_place(shop, shards, {part: positions[part] for part in ordered}, folders)
    for part in PARTS:
        if part not in made:
            made[part] = rearranged(shop.executor, shop.room, shards, positions[part], folders[part], split=part)
    return made


def _thin(shop: Workshop, split: Any, shards: Shards, name: str) -> Dataset:
    """The columns that the split looks at, each row numbered by its position."""
    columns = _looked_at(split, shards)
    if columns is None:
        refuse_large(shop.room, shards, name)
        columns = shards.columns
    thin = shards.within([ROW, *columns])
    thin = thin.with_frame(thin.frame.drop(ROW).with_row_index(ROW) if columns else _numbers(len(shards)))
    return dataclasses.replace(thin, origin=shards.origin)


def _numbers(size: int) -> pl.DataFrame:
    return pl.DataFrame({ROW: pl.Series(np.arange(size, dtype=np.uint32))})


def _without(dataset: Dataset, columns: Sequence[str]) -> Dataset:
    """The rows without columns."""
    kinds = {name: kind for name, kind in dataset.kinds.items() if name not in columns}
    return dataclasses.replace(dataset, frame=dataset.frame.drop(columns), kinds=kinds)


def _looked_at(split: Any, shards: Shards) -> list[str] | None:
    """The columns that the split's options name; None for a split of one's own that does not say, and may look at all.

    It says so by ``looks_at``, names of options or columns.
    """
    function = getattr(split, "func", split)
    said = declared(split, "looks_at")
    if said is None and not str(getattr(function, "__module__", "")).startswith("groundup."):
        return None
    options = {}
    if inspect.isfunction(function):
        parameters = inspect.signature(function).parameters.values()
        options = {p.name: p.default for p in parameters if p.default is not p.empty}
    options |= dict(getattr(split, "keywords", {}))
    named = [options.get(one, one) for one in said] if said is not None else list(options.values())
    flat = [name for one in named for name in (one if isinstance(one, (list, tuple)) else [one])]
    return list(dict.fromkeys(name for name in flat if isinstance(name, str) and name in shards.columns))


def _positions(split: Callable[[Dataset], Splits], thin: Dataset, name: str) -> tuple[dict[str, Array], list[str]]:
    """Where each part's rows stand, in its order; and the columns that the split took away."""
    parts = split(thin).parts()
    found = {part: dataset.frame[ROW].to_numpy().astype(np.int64) for part, dataset in parts.items()}
    gone = [column for column in thin.columns if column not in parts["train"].columns]
    taken = np.concatenate(list(found.values()))
    if len(np.unique(taken)) != len(taken) or any(
        not part.frame.equals(thin.frame.drop(gone)[found[named]]) for named, part in parts.items()
    ):
        raise DataError(
            f"{name}: cuts rows up or changes them, which needs all of them in memory, and they do not fit. Cut them "
            "before, take a split that leaves rows whole, or raise recipe.data.memory."
        )
    return found, gone


def _in_place(
    shop: Workshop, shards: Shards, positions: dict[Any, Array], folders: dict[Split, Path]
) -> dict[str, Shards]:
    """The parts whose rows keep their order: each shard is read once and written once for each of them."""
    part_of = np.full(len(shards), NOWHERE, dtype=np.uint8)
    for part, chosen in positions.items():
        part_of[chosen] = PARTS.index(part)
    starts = shards.starts
    tasks = [
        (piece, part_of[starts[i] : starts[i + 1]], {part: folders[part] / file.name for part in positions})
        for i, (piece, file) in enumerate(zip(shards.pieces(), shards.files, strict=True))
    ]
    vouched = list(shop.executor.each(write_parts, tasks))
    return {
        part: gathered(folders[part], [one[part] for one in vouched], shards, len(chosen), split=part)
        for part, chosen in positions.items()
    }


def write_parts(piece: Piece, part_of: Array, paths: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """A task: the rows of one shard by part."""
    there = {part: finished(path) for part, path in paths.items()}
    if all(there.values()):
        return {part: vouched for part, vouched in there.items() if vouched is not None}
    dataset = piece.seen()
    assert set(paths) <= set(get_args(Split))
    return {
        part: write_shard(dataset.take(np.flatnonzero(part_of == PARTS.index(part))), path)
        for part, path in paths.items()
    }
