"""What the river does to data, over rows in memory or in shards where they do not fit: here alone it is asked which."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from groundup.core import preprocessing as fitting
from groundup.core.dataset import ROW, Dataset, Splits, apply
from groundup.core.novelty import OnNew
from groundup.core.preprocessing import Encoded, Preprocessing, Watch, noted, step_name
from groundup.core.schema import Schema
from groundup.data import shards
from groundup.data.cleaning.leaks import Leak, content_column
from groundup.data.cleaning.leaks import find_leaks as find_leaks_in_memory
from groundup.data.shards import Shards, ShardSplits, Workshop
from groundup.data.shards.carry import refuse_large
from groundup.data.shards.rearrange import rearranged

Data = Dataset | Shards
Parts = Splits | ShardSplits


def read(shop: Workshop, source: Callable[[], Dataset], name: str) -> Data:
    """All rows of a source: in memory if they fit there, else in shards."""
    return shards.read(source, name, shop.room, shop.folder / "source")


def booked(data: Data, name: str) -> Data:
    """The same with what could not be read in its ledger."""
    if isinstance(data, Dataset) and data.notes:
        return apply(lambda read: read, data, name)
    return data


def carry_out(shop: Workshop, step: Any, data: Data, name: str, stage: str, watch: Watch | None = None) -> Data:
    """One step over data that are not split, booked in their ledger; in memory it is shown to ``watch``."""
    if isinstance(data, Shards):
        return shards.carry_out(shop, step, data, name, {}, stage)
    after = apply(step, data, name)
    if watch is not None:
        watch(data, after, name)
    return after


def written(shop: Workshop, data: Data, stage: str) -> Data:
    """The same with all that was put off carried out."""
    return shards.written(shop, data, stage) if isinstance(data, Shards) else data


def fingerprint(data: Data) -> str:
    """SHA-256 over the rows in order and the kinds; the same rows have the same wherever they lie."""
    return shards.fingerprint(data) if isinstance(data, Shards) else data.fingerprint()


def whole(shop: Workshop, data: Data, name: str) -> Dataset:
    """All rows in memory. Raises DataError, which names who asks for that, where they do not fit."""
    if isinstance(data, Dataset):
        return data
    refuse_large(shop.room, data, name)
    return data.whole()


def numbers(data: Data) -> np.ndarray[Any, Any]:
    """Each row's number [N]."""
    frame = data.within([ROW]).frame if isinstance(data, Shards) else data.frame
    return frame[ROW].to_numpy()


def some(data: Data, most: int) -> Dataset:
    """Rows from all over the data, about as many as is said, or all of fewer."""
    if isinstance(data, Dataset):
        return data
    step = max(1, len(data) // most)
    parts = [dataset.with_frame(dataset.frame[::step]) for dataset in (piece.seen() for piece in data.pieces())]
    return parts[0].with_frame(pl.concat([part.frame for part in parts]))


def marked(data: Data, rows: Iterable[int]) -> np.ndarray[Any, Any]:
    """Which rows have one of these numbers [N]."""
    return np.isin(numbers(data), sorted(rows))


def take(shop: Workshop, data: Data, positions: np.ndarray[Any, Any], stage: str) -> Data:
    """The rows at these positions, in this order."""
    if isinstance(data, Dataset):
        return data.take(positions)
    return rearranged(shop.executor, shop.room, data, positions, shop.stage(stage))


# ---------------------------------------------------------------------------------------------- the three parts


def split(
    shop: Workshop, how: Callable[[Dataset], Splits], data: Data, source: Data, name: str
) -> tuple[Parts, tuple[Leak, ...]]:
    """The three parts, and the rows of valid and test that stand in an earlier one.

    ``source`` is what was read before any cleaning.
    """
    if isinstance(data, Dataset):
        assert isinstance(source, Dataset)
        splits = how(data)
        source = _without_gone(source, data, splits)
        splits = splits.map(lambda part: part.booked(f"split {name}", len(data)))
        return splits, find_leaks(splits, source)
    assert isinstance(source, Shards)
    parts = shards.split_shards(shop, how, data, name, "split")
    gone = [column for column in data.columns if column not in parts["train"].columns]
    return ShardSplits(**parts), tuple(shards.find_twins(shop.executor, source, parts, gone))


def _without_gone(source: Dataset, dataset: Dataset, splits: Splits) -> Dataset:
    """What was read without columns that the split took away: one that names the part makes no row another."""
    gone = [name for name in dataset.columns if name not in splits.train.columns and name in source.columns]
    return dataclasses.replace(
        source, frame=source.frame.drop(gone), kinds={n: kind for n, kind in source.kinds.items() if n not in gone}
    )


def find_leaks(splits: Splits, source: Dataset) -> tuple[Leak, ...]:
    """Rows of valid and test that stand in an earlier split as well: texts and images exactly or nearly, others equal.

    These are compared as they were read: rows that are equal only because columns were dropped are different rows.
    """
    content = content_column(splits.train)
    if content is not None:
        return tuple(find_leaks_in_memory(splits, content))
    as_read = splits.map(lambda p: p.with_frame(p.frame.select(ROW).join(source.frame, on=ROW), source.kinds))
    return tuple(find_leaks_in_memory(as_read))


def learn_schema(shop: Workshop, splits: Parts, on_new: OnNew) -> tuple[Schema, Parts]:
    """What train's columns are, and the parts, in which is noted what others have that train did not."""
    if isinstance(splits, Splits):
        learned = Schema.of(splits.train, on_new)
        return learned, splits.map(lambda part: part if part.split == "train" else noted(learned, part))
    learned, parts = shards.learn_schema(shop, splits.parts(), on_new, "schema")
    return learned, ShardSplits(**parts)


def fit_steps(
    shop: Workshop, steps: Sequence[Any], splits: Parts, watch: Watch | None = None
) -> tuple[tuple[Any, ...], Parts]:
    """Each step fitted on train and carried out on all parts; in memory it is shown to ``watch``."""
    if isinstance(splits, Splits):
        return fitting.fit_steps(steps, splits, watch)
    fitted, parts = [], splits.parts()
    for i, step in enumerate(steps):
        step, parts = shards.fit_and_carry(shop, step, parts, f"prepare-{i}-{step_name(step)}")
        fitted.append(step)
    return tuple(fitted), ShardSplits(**parts)


def carry_out_fitted(shop: Workshop, preprocessing: Preprocessing, splits: Parts) -> Parts:
    """Steps that were fitted before, on all parts."""
    if isinstance(splits, Splits):
        return splits.map(preprocessing)
    parts = splits.parts()
    for i, step in enumerate(preprocessing.prepare):
        name = step_name(step)
        parts = {
            split: shards.carry_out(shop, step, part, name, {}, f"prepare-{i}-{name}-{split}")
            for split, part in parts.items()
        }
    return ShardSplits(**parts)


def all_written(shop: Workshop, splits: Parts) -> Parts:
    """The parts with all that was put off carried out."""
    if isinstance(splits, Splits):
        return splits
    return ShardSplits(**{split: shards.written(shop, part, split) for split, part in splits.parts().items()})


def delivered(shop: Workshop, splits: Parts, folder: Path) -> ShardSplits:
    """The parts as shards in folders of their names."""
    if isinstance(splits, ShardSplits):
        return ShardSplits(**{s: shards.delivered(shop, part, folder / s) for s, part in splits.parts().items()})
    parts: dict[str, Shards] = {}
    for name, part in splits.parts().items():
        (folder / name).mkdir(exist_ok=True)
        parts[name] = shards.cut(part, folder / name, shop.room.shard_bytes)
    return ShardSplits(**parts)


# ---------------------------------------------------------------------------------------------- samples


def fit_samples(shop: Workshop, samples: Any, splits: Parts) -> Any:
    """The builder of samples fitted on train."""
    if isinstance(splits, Splits):
        return fitting.fit_step(samples, splits.train)
    return shards.fit(shop, samples, shards.written(shop, splits.train, "train"), "samples")[0]


def encode(shop: Workshop, samples: Any, data: Data, stage: str) -> Encoded:
    """Rows as samples; of shards, a few are in memory at a time."""
    if isinstance(data, Shards):
        return shards.encode_shards(shop, samples, data, stage)
    encoded: Encoded = samples.encode(data)
    return encoded


def encode_all(shop: Workshop, samples: Any, splits: Parts) -> dict[str, Encoded]:
    """The parts as samples."""
    name = step_name(samples)
    return {split: encode(shop, samples, part, f"{name}-{split}") for split, part in splits.parts().items()}


# ---------------------------------------------------------------------------------------------- what was read


def write_quarantine(shop: Workshop, data: Data, folder: Path) -> dict[str, int]:
    """What the source could not take, in a file of its own where there is any; and how much it read.

    ``data`` is the source's rows or any part of them; empty for a folder of shards that is taken as it stands.
    """
    if isinstance(data, Dataset):
        quarantine = data.quarantine
        if quarantine.rejected:
            (folder / "quarantine.jsonl").write_text(quarantine.to_json_lines(), encoding="utf-8")
        return {"read": quarantine.read, "accepted": quarantine.accepted, "rejected": len(quarantine.rejected)}
    if not (shop.folder / "source" / "shards.json").is_file():
        return {}
    source = shards.open_shards(shop.folder / "source")
    if source.rejected:
        shutil.copy(shop.folder / "source" / "quarantine.jsonl", folder / "quarantine.jsonl")
    return {"read": len(source) + source.rejected, "accepted": len(source), "rejected": source.rejected}
