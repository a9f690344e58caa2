"""Run in processes of their own: makes data, or works on them and tells how far memory rose.

That is over what was there when the same had been done with ten rows: libraries lay out much when they are first used.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from groundup.core.dataset import ROW, Dataset
from groundup.data.cleaning import drop_exact_duplicates, drop_near_duplicates
from groundup.data.loading import batches
from groundup.data.prepare import Fill, Outliers, Standardize
from groundup.data.samples import Rows
from groundup.data.shards import (
    Room,
    Shards,
    Workshop,
    carry_out,
    cut,
    encode_shards,
    executor,
    fit,
    fit_and_carry,
    open_shards,
    written,
)
from groundup.data.shards.folder import gathered, shard_names, write_shard

NEAR_EVERY = 4
"""Each so many-th document is another one with a sentence changed."""


def status(name: str) -> int:
    """Bytes, by Linux."""
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def documents(size_bytes: int) -> Iterator[list[str]]:
    """Of twenty sentences each; some thousands at a time, so many bytes in all."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlucm", k=draw.randint(2, 12))) for _ in range(5000)]
    sentences = [" ".join(draw.choices(words, k=14)) + "." for _ in range(20_000)]
    made, count = 0, 0
    while made < size_bytes:
        found: list[str] = []
        chosen = [draw.choices(sentences, k=20) for _ in range(1500)]
        for parts in chosen:
            count += 1
            if count % NEAR_EVERY == 0:
                parts = [*chosen[(count - 2) % len(chosen)][:-1], sentences[count % len(sentences)]]
            found.append(" ".join(parts))
        made += sum(map(len, found))
        yield found


def tables(size_bytes: int) -> Iterator[pl.DataFrame]:
    """Six columns with gaps and outliers."""
    draw = np.random.default_rng(0)
    for _ in range(0, size_bytes, 50_000 * 52):
        values = draw.normal(size=(6, 50_000))
        values[draw.random(values.shape) < 0.002] *= 40
        columns = {
            f"c{i}": pl.Series(one).set(pl.Series(draw.random(50_000) < 0.05), None) for i, one in enumerate(values)
        }
        yield pl.DataFrame(columns)


def make(kind: str, size_bytes: int, folder: Path) -> None:
    """A folder of shards."""
    folder.mkdir()
    parts = tables(size_bytes) if kind == "table" else (pl.DataFrame({"text": one}) for one in documents(size_bytes))
    vouched, rows = [], 0
    for name, frame in zip(shard_names(), parts, strict=False):
        kinds = dict.fromkeys(frame.columns, "text" if kind == "text" else "number")
        dataset = Dataset(frame.with_row_index(ROW, rows), kinds, "train")  # type: ignore[arg-type]
        vouched.append(write_shard(dataset, folder / name))
        rows += len(dataset)
    made = gathered(folder, vouched, None, rows, split="train")
    print(json.dumps({"size_bytes": made.size_bytes, "rows": rows}))


def near(shop: Workshop, shards: Shards) -> int:
    """Near duplicates dropped."""
    return len(carry_out(shop, drop_near_duplicates(), shards, "near"))


def exact(shop: Workshop, shards: Shards) -> int:
    """Exact duplicates dropped."""
    return len(carry_out(shop, drop_exact_duplicates(), shards, "exact"))


def cleaning(shop: Workshop, shards: Shards) -> int:
    """Filled, clipped and scaled."""
    parts = {"train": shards}
    for i, step in enumerate([Fill(method="mean"), Outliers(method="k_sigma", k=3.0), Standardize()]):
        _, parts = fit_and_carry(shop, step, parts, f"{i}")
    return len(written(shop, parts["train"], "end"))


def loading(shop: Workshop, shards: Shards) -> int:
    """Encoded, and an epoch of batches taken."""
    _, parts = fit_and_carry(shop, Fill(method="mean"), {"train": shards}, "fill")
    train = dataclasses.replace(written(shop, parts["train"], "end"), history=())
    samples, _ = fit(shop, Rows("c0", task="regress"), train, "rows")
    seen = 0
    for batch in batches(encode_shards(shop, samples, train, "samples"), 1024, seed=0):
        seen += batch.num_samples
        if batch.bookmark.epoch:
            break
    return seen


def main() -> None:
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "make":
        make(sys.argv[3], int(sys.argv[4]), folder)
        return
    room = Room.of(sys.argv[4])
    shop = Workshop(executor("local", room), room, Path(sys.argv[3]))
    work = {"near": near, "exact": exact, "cleaning": cleaning, "loading": loading}[what]
    shards = open_shards(folder)
    few = shop.folder.with_name(f"{shop.folder.name}-few")
    few.mkdir()
    work(dataclasses.replace(shop, folder=few / "out"), cut(shards.pieces()[0].read().take(np.arange(10)), few, 1000))
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what there is
    found = work(shop, shards)
    print(json.dumps({"found": found, "rose": status("VmHWM") - before, "before": before}))


if __name__ == "__main__":
    main()
