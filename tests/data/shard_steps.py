"""One small step of each contract, in a module that worker processes can import."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl

from groundup.core.contract import contract
from groundup.core.dataset import Dataset, Kind
from groundup.core.statistics import Moments
from groundup.data.cleaning.clusters import links_of


@contract("row-local")
def clip(dataset: Dataset, low: float = -2.0, high: float = 2.0) -> Dataset:
    return dataset.with_frame(dataset.frame.with_columns(pl.col("x").clip(low, high)))


@contract("row-local")
def drop_negative(dataset: Dataset) -> Dataset:
    return dataset.keep((dataset.frame["x"].fill_null(0) >= 0).to_numpy(), "negative: x")


@contract("row-local")
def note_gaps(dataset: Dataset) -> Dataset:
    return dataset.note(f"x: {dataset.frame['x'].null_count()} missing")


@dataclasses.dataclass(frozen=True)
class FillMean:
    """Fitted by pieces."""

    column: str = "x"
    learned: Mapping[str, Any] | None = None

    def fit(self, train: Dataset) -> Self:
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> Any:
        return Moments.of(shard.frame[self.column].drop_nulls().to_numpy()).state

    def merge(self, one: Any, other: Any) -> Any:
        return Moments.from_state(one).merge(Moments.from_state(other)).state

    def finish(self, state: Any) -> Self:
        return dataclasses.replace(self, learned={"mean": Moments.from_state(state).mean, "rows": state[0]})

    def __call__(self, dataset: Dataset) -> Dataset:
        assert self.learned is not None
        return dataset.with_frame(dataset.frame.with_columns(pl.col(self.column).fill_null(self.learned["mean"])))


@dataclasses.dataclass(frozen=True)
class CenterOnSample:
    """Fitted on a sample."""

    sample_rows: int = 50
    seed: int = 3
    learned: Mapping[str, Any] | None = None
    CONTRACT: ClassVar = "sampled"

    def fit(self, train: Dataset) -> Self:
        rows = train.frame["_row"].to_list()
        return dataclasses.replace(self, learned={"rows": len(train), "named": rows, "mean": train.frame["x"].mean()})

    def __call__(self, dataset: Dataset) -> Dataset:
        assert self.learned is not None
        return dataset.with_frame(dataset.frame.with_columns(pl.col("x") - self.learned["mean"]))


@dataclasses.dataclass(frozen=True)
class TargetMean:
    """A statistic of the target, fitted as a whole."""

    learned: Mapping[str, Any] | None = None

    def fit(self, train: Dataset) -> Self:
        return dataclasses.replace(self, learned={"rows": len(train), "mean": train.frame["y"].mean()})

    def __call__(self, dataset: Dataset) -> Dataset:
        assert self.learned is not None
        return dataset.with_frame(dataset.frame.with_columns(mean=pl.lit(self.learned["mean"])), {"mean": "number"})


@contract("keyed")
def fill_forward(dataset: Dataset, by: Sequence[str] = ("site",)) -> Dataset:
    """Within a site, in order of time."""
    filled = pl.col("x").fill_null(strategy="forward").over(by, order_by="time")
    return dataset.with_frame(dataset.frame.with_columns(filled))


@contract("keyed", by="site")
def drop_first(dataset: Dataset) -> Dataset:
    """The earliest row of each site goes."""
    first = dataset.frame.select((pl.col("time") == pl.col("time").min()).over("site")).to_series()
    return dataset.keep((~first).to_numpy(), "first: of its site")


@contract("keyed", halo=2, looks_ahead=True)
def centred_median(dataset: Dataset) -> Dataset:
    """Over five rows in order of time, whatever the site."""
    order = dataset.frame["time"].arg_sort().to_numpy()
    smooth = dataset.frame["x"][order].rolling_median(5, center=True, min_samples=1)
    back = np.argsort(order)
    return dataset.with_frame(dataset.frame.with_columns(smooth=smooth[back]), {"smooth": "number"})


@dataclasses.dataclass(frozen=True)
class DropClose:
    """Of rows whose x are close to one another, link by link, the first stays."""

    distance: float = 1e-4
    CONTRACT: ClassVar = "pairwise"

    def signature(self, shard: Dataset) -> Any:
        x = shard.frame["x"].fill_null(0.0).to_numpy()
        keys = np.floor((x / self.distance / 2)[:, None] + np.array([0.0, 0.5])) * 2 + np.array([0, 1])
        same = np.where(shard.frame["x"].is_null().to_numpy(), np.uint64(0), (x + 0.0).view(np.uint64) | np.uint64(1))
        return {"same": same, "keys": keys.astype(np.int64).view(np.uint64)}

    def evidence(self, shard: Dataset, positions: Any) -> tuple[Any, Any]:
        return shard.frame["x"][positions].to_numpy(), np.ones(len(positions), np.int64)

    def likeness(self, values: Any, offsets: Any, one: Any, other: Any) -> Any:
        apart = np.abs(values[offsets[one]] - values[offsets[other]])
        return np.where(apart < self.distance, 1 - apart, 0.0)

    def reason(self, first: str, likeness: float) -> str:
        return f"close: {likeness:.6f} to {first}"

    def __call__(self, dataset: Dataset) -> Dataset:
        gone = links_of(self, dataset)
        kept = np.ones(len(dataset), dtype=bool)
        kept[list(gone)] = False
        return dataset.keep(kept, gone)


@dataclasses.dataclass(frozen=True)
class DropTwins:
    """Of rows with equal x and site the first stays."""

    def signature(self, shard: Dataset) -> Any:
        return shard.frame.select("x", "site").hash_rows(seed=1).to_numpy()

    def removed(self, signatures: list[Any]) -> list[dict[int, str]]:
        seen: set[int] = set()
        gone: list[dict[int, str]] = []
        for hashes in signatures:
            here = {}
            for place, one in enumerate(hashes.tolist()):
                if one in seen:
                    here[place] = "twin: of an earlier row"
                seen.add(one)
            gone.append(here)
        return gone

    def __call__(self, dataset: Dataset) -> Dataset:
        (gone,) = self.removed([self.signature(dataset)])
        kept = np.ones(len(dataset), dtype=bool)
        kept[list(gone)] = False
        return dataset.keep(kept, gone)


def rank(dataset: Dataset) -> Dataset:
    """Must see everything, and says nothing of it."""
    return dataset.with_frame(dataset.frame.with_columns(rank=pl.col("x").rank()), {"rank": "number"})


@contract("row-local")
def die_once(dataset: Dataset, marker: str = "") -> Dataset:
    """The first worker that gets here is killed."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return dataset
    os.kill(os.getpid(), signal.SIGKILL)
    return dataset


@contract("row-local")
def dawdle(dataset: Dataset, seconds: float = 0.3, folder: str = "") -> Dataset:
    """Takes its time, and leaves a mark for each shard that it was carried out over."""
    time.sleep(seconds)
    first = int(dataset.frame["_row"][0])
    Path(folder, f"{first}-{os.getpid()}-{time.monotonic_ns()}").touch()
    return dataset


@dataclasses.dataclass(frozen=True)
class Made:
    """A source of so many rows that can be had in pieces."""

    rows: int = 20_000
    sites: int = 7
    width: int = 0
    """Further columns, to make rows large."""

    def frame(self, start: int, stop: int) -> pl.DataFrame:
        place = np.arange(start, stop, dtype=np.uint64)
        mixed = place * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        x = (mixed % np.uint64(1000)).astype(np.float64) / 100 - 5
        values = pl.Series("x", x).set(pl.Series(mixed % np.uint64(11) == 0), None)
        site = pl.Series("site", [f"s{value}" for value in (mixed % np.uint64(self.sites)).tolist()], dtype=pl.String)
        when = pl.Series("time", (place * np.uint64(7919) % np.uint64(self.rows + 1)).astype(np.int64))
        more = [pl.Series(f"w{i}", x + i) for i in range(self.width)]
        return pl.DataFrame([values, site, when.cast(pl.Datetime("us")), pl.Series("y", x * 2 + 1), *more])

    def kinds(self) -> dict[str, Kind]:
        more: dict[str, Kind] = {f"w{i}": "number" for i in range(self.width)}
        return {"x": "number", "site": "category", "time": "time", "y": "number", **more}

    def __call__(self) -> Dataset:
        return Dataset.of(self.frame(0, self.rows), self.kinds(), origin="made")

    def shards(self, rows_at_once: int) -> Iterator[Dataset]:
        for start in range(0, self.rows, rows_at_once):
            yield Dataset.of(self.frame(start, min(self.rows, start + rows_at_once)), self.kinds(), origin="made")


@contract("row-local")
def spoil_held_out(dataset: Dataset, rows: int, seed: int = 0) -> Dataset:
    """Other values wherever the random split of so many rows will not put them into train."""
    order = np.random.default_rng(seed).permutation(rows)
    held_out = np.zeros(rows, dtype=bool)
    held_out[order[: round(rows * 0.1) * 2]] = True
    spoilt = pl.Series(held_out[dataset.frame["_row"].to_numpy()])
    changed = [pl.when(spoilt).then(1e6).otherwise(pl.col(name)).alias(name) for name in ("x", "y")]
    return dataset.with_frame(dataset.frame.with_columns(changed))
