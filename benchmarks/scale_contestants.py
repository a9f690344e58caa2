"""What takes part in ``data_at_scale``: each runs in a process of its own, which imports nothing that it does not use.

``python scale_contestants.py NAME FOLDER TARGET MEMORY`` prints one line of JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = [f"c{i}" for i in range(6)]
SHARD_BYTES = 37_500_000
"""As groundup cuts rows where 600 MB are given."""
GROUPS = 1000


def piece(start: int, stop: int) -> Any:
    """Rows from start to stop, the same whenever they are made."""
    import polars as pl

    generator = np.random.default_rng(start)
    found = {}
    for i, name in enumerate(COLUMNS):
        values = generator.normal(i, 1 + i, stop - start)
        values[generator.random(stop - start) < 0.002] *= 40
        gaps = generator.random(stop - start) < 0.05
        found[name] = pl.Series(values).set(pl.Series(gaps), None)
    place = np.arange(start, stop)
    return pl.DataFrame({**found, "site": (place % GROUPS).astype(np.int32), "at": place // GROUPS})


def make(rows: int, folder: Path, keyed: bool) -> None:
    """A folder of shards; written by our own writer, read by every contestant."""
    from groundup.core.dataset import ROW, Dataset
    from groundup.data.shards.folder import gathered, shard_names, write_shard

    folder.mkdir(parents=True)
    vouched = []
    size = min(SHARD_BYTES // (64 if keyed else 52), max(20_000, rows // 4))
    for name, start in zip(shard_names(), range(0, rows, size), strict=False):
        frame = piece(start, min(rows, start + size)).with_row_index(ROW, start)
        kinds: Any = dict.fromkeys(COLUMNS, "number")
        if keyed:
            kinds |= {"site": "category", "at": "number"}
        vouched.append(write_shard(Dataset(frame.select(ROW, *kinds), kinds), folder / name))
    gathered(folder, vouched, None, rows, origin="made")


BEGUN: list[float] = []


def begin() -> None:
    """The clock runs from here: what was imported is there."""
    BEGUN[:] = [time.perf_counter(), time.process_time()]


def peak_bytes() -> int:
    """The most memory that this process held."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def a_shop(folder: Path, memory: str) -> Any:
    from groundup.data.shards import Room, Workshop, executor

    room = Room.of(memory)
    return Workshop(executor("local", room), room, folder)


def ours(source: Path, target: Path, memory: str) -> dict[str, float]:
    """Three fitted steps; one pass to learn each, one to carry them out."""
    from groundup.data.prepare import Fill, Outliers, Standardize
    from groundup.data.shards import fit_and_carry, open_shards, written

    begin()
    shop = a_shop(target, memory)
    parts = {"train": dataclasses.replace(open_shards(source), split="train")}
    steps = []
    for i, step in enumerate([Fill(method="mean"), Outliers(method="k_sigma", k=3.0), Standardize()]):
        made, parts = fit_and_carry(shop, step, parts, f"{i}")
        steps.append(made)
    done = written(shop, parts["train"], "end")
    assert [entry.rows_after for entry in done.history] == [len(done)] * 3
    learned = steps[-1].learned["columns"]
    return {name: learned[name]["mean"] + 3 * learned[name]["deviation"] for name in COLUMNS}


def polars(source: Path, target: Path, memory: str) -> dict[str, float]:
    """The same by hand: three streaming queries to learn, one to write."""
    import polars as pl

    begin()

    def learn(frame: Any, *what: Callable[[Any], Any]) -> list[dict[str, float]]:
        asked = [function(pl.col(name)).alias(f"{i}{name}") for i, function in enumerate(what) for name in COLUMNS]
        row = frame.select(asked).collect(engine="streaming").row(0, named=True)
        return [{name: row[f"{i}{name}"] for name in COLUMNS} for i in range(len(what))]

    table = pl.scan_parquet(source / "part-*.parquet")
    (means,) = learn(table, lambda c: c.mean())
    table = table.with_columns([pl.col(n).fill_null(means[n]) for n in COLUMNS])
    means, deviations = learn(table, lambda c: c.mean(), lambda c: c.std(ddof=0))
    table = table.with_columns(
        [pl.col(n).clip(means[n] - 3 * deviations[n], means[n] + 3 * deviations[n]) for n in COLUMNS]
    )
    means, deviations = learn(table, lambda c: c.mean(), lambda c: c.std(ddof=0))
    table = table.with_columns([(pl.col(n) - means[n]) / deviations[n] for n in COLUMNS])
    target.mkdir(parents=True)
    table.sink_parquet(target / "all.parquet", compression="lz4", statistics=False)
    return {name: means[name] + 3 * deviations[name] for name in COLUMNS}


def ours_in_memory(source: Path, target: Path, memory: str) -> dict[str, float]:
    """The steps alone, on rows that are in memory."""
    from groundup.core.expressions import booked
    from groundup.core.preprocessing import fit_step, step_name
    from groundup.data.prepare import Fill, Outliers, Standardize
    from groundup.data.shards import open_shards

    rows = dataclasses.replace(open_shards(source).whole(), split="train")
    begin()
    for step in (Fill(method="mean"), Outliers(method="k_sigma", k=3.0), Standardize()):
        made = fit_step(step, rows)
        rows = booked(rows, [made], [(step_name(step), {})])
    learned = made.learned["columns"]
    return {name: learned[name]["mean"] + 3 * learned[name]["deviation"] for name in COLUMNS}


def pandas(source: Path, target: Path, memory: str) -> dict[str, float]:
    """The same with pandas and scikit-learn, from files to a file, all rows in memory."""
    table, found = _with_scikit_learn(source, "files")
    target.mkdir(parents=True)
    table.to_parquet(target / "all.parquet")
    return found


def pandas_in_memory(source: Path, target: Path, memory: str) -> dict[str, float]:
    """The steps alone."""
    return _with_scikit_learn(source, "rows")[1]


def _with_scikit_learn(source: Path, begin_with: str) -> tuple[Any, dict[str, float]]:
    import pandas as pd
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    if begin_with == "files":
        begin()
    table = pd.concat([pd.read_parquet(path, columns=COLUMNS) for path in sorted(source.glob("part-*.parquet"))])
    if begin_with == "rows":
        begin()
    values = SimpleImputer(strategy="mean").fit_transform(table)
    low, high = values.mean(axis=0) - 3 * values.std(axis=0), values.mean(axis=0) + 3 * values.std(axis=0)
    scaler = StandardScaler()
    scaled = pd.DataFrame(scaler.fit_transform(np.clip(values, low, high)), columns=COLUMNS)
    return scaled, {n: m + 3 * s for n, m, s in zip(COLUMNS, scaler.mean_, scaler.scale_, strict=True)}


def series(source: Path, target: Path, memory: str) -> dict[str, float]:
    """Linear interpolation and a rolling median of five within each of a thousand groups."""
    from groundup.core.use import Use, make
    from groundup.data.shards import carry_out, open_shards

    begin()
    shop = a_shop(target, memory)
    steps = [{"use": "interpolate"}, {"use": "median_filter", "width": 5}]
    step = make(Use("EachSeries", steps=steps, columns=COLUMNS, by=["site"], time="at"), "prepare")
    done = carry_out(shop, step, open_shards(source), "EachSeries")
    parts = [_sums({n: piece.read([n]).frame[n].to_numpy() for n in COLUMNS}) for piece in done.pieces()]
    return {name: sum(part[name] for part in parts) for name in COLUMNS}


def pandas_series(source: Path, target: Path, memory: str) -> dict[str, float]:
    """The same with pandas, all rows in memory: its own interpolation and rolling median by group."""
    import pandas as pd

    begin()
    table = pd.concat([pd.read_parquet(path) for path in sorted(source.glob("part-*.parquet"))])
    table = table.sort_values(["site", "at"], kind="stable")
    for name in COLUMNS:
        lines = table.groupby("site")[name].transform(lambda one: one.interpolate(limit_direction="both"))
        table[name] = lines.groupby(table["site"]).rolling(5, min_periods=1).median().to_numpy()
    target.mkdir(parents=True)
    table.sort_values("_row").to_parquet(target / "all.parquet")
    return _sums({name: table[name].to_numpy() for name in COLUMNS})


def _sums(columns: dict[str, Any]) -> dict[str, float]:
    """By which contestants are compared."""
    return {name: float(np.abs(values).sum()) for name, values in columns.items()}


def duplicates(source: Path, target: Path, memory: str) -> dict[str, float]:
    """Exact duplicates looked for."""
    from groundup.core.use import Use, make
    from groundup.data.shards import carry_out, open_shards

    begin()
    shop = a_shop(target, memory)
    found = carry_out(shop, make(Use("drop_exact_duplicates"), "clean"), open_shards(source), "duplicates")
    return {"rows": float(len(found))}


def near_duplicates(source: Path, target: Path, memory: str) -> dict[str, float]:
    """Near duplicates of texts dropped."""
    from groundup.core.use import Use, make
    from groundup.data.shards import carry_out, open_shards

    begin()
    shop = a_shop(target, memory)
    found = carry_out(shop, make(Use("drop_near_duplicates"), "clean"), open_shards(source), "duplicates")
    return {"rows": float(len(found))}


def loading(source: Path, target: Path, memory: str) -> dict[str, float]:
    """One epoch of batches of 1024."""
    from groundup.data.loading import batches
    from groundup.data.prepare import Fill
    from groundup.data.samples import Rows
    from groundup.data.shards import encode_shards, fit, fit_and_carry, open_shards, written

    begin()
    shop = a_shop(target, memory)
    parts = {"train": dataclasses.replace(open_shards(source), split="train")}
    _, parts = fit_and_carry(shop, Fill(method="mean"), parts, "fill")
    parts["train"] = dataclasses.replace(written(shop, parts["train"], "end"), history=())
    samples, _ = fit(shop, Rows("c0", task="regress"), parts["train"], "rows")
    encoded = encode_shards(shop, samples, parts["train"], "samples")
    seen = 0
    started = time.perf_counter()
    for batch in batches(encoded, 1024, seed=0):
        seen += batch.num_samples
        if batch.bookmark.epoch:
            break
    return {"rows": float(seen), "samples_per_s": seen / (time.perf_counter() - started)}


CONTESTANTS: dict[str, Callable[[Path, Path, str], dict[str, float]]] = {
    "groundup": ours,
    "polars by hand": polars,
    "pandas + scikit-learn": pandas,
    "groundup, in memory": ours_in_memory,
    "pandas + scikit-learn, in memory": pandas_in_memory,
    "groundup, series by group": series,
    "pandas, series by group": pandas_series,
    "groundup, exact duplicates": duplicates,
    "groundup, near duplicates": near_duplicates,
    "groundup, loading": loading,
}


def main() -> None:
    name, folder, target, memory = sys.argv[1:5]
    if name == "make":
        make(int(memory), Path(folder), target == "keyed")
        return
    found = CONTESTANTS[name](Path(folder), Path(target), memory)
    wall, processor = time.perf_counter() - BEGUN[0], time.process_time() - BEGUN[1]
    print(json.dumps({"found": found, "s": wall, "processor_s": processor, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
