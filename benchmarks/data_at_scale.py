"""Does data of any size cost what hand-written Polars costs, and does it keep to its memory?

Rows of six columns with gaps and outliers are made on the spot, as a folder of Parquet shards. Each contestant is a
process of its own: it learns the mean, the 3-sigma bounds of the filled column, and mean and deviation of the clipped
one; fills, clips and scales; and writes Parquet. The same figures must come out. Times are of the work, imports left
aside; peaks are of the whole process.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import arguments, memory_bytes, save, show, summary, take_turns, versions

COLUMNS = [f"c{i}" for i in range(6)]
PIECE = 900_000
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
    """A folder of shards of at most 64 MB; written by our own writer, read by every contestant."""
    from groundup.core.dataset import ROW, Dataset
    from groundup.data.shards.folder import gathered, shard_names, write_shard

    folder.mkdir(parents=True)
    vouched = []
    size = min(PIECE, max(20_000, rows // 4))
    for name, start in zip(shard_names(), range(0, rows, size), strict=False):
        frame = piece(start, min(rows, start + size)).with_row_index(ROW, start)
        kinds: Any = dict.fromkeys(COLUMNS, "number")
        if keyed:
            kinds |= {"site": "category", "at": "number"}
        vouched.append(write_shard(Dataset(frame.select(ROW, *kinds), kinds), folder / name))
    gathered(folder, vouched, None, rows, origin="made")


def a_shop(folder: Path, memory: str) -> Any:
    from groundup.data.shards import Room, Workshop, executor

    room = Room.of(memory)
    return Workshop(executor("local", room), room, folder)


def ours(source: Path, target: Path, memory: str) -> dict[str, float]:
    """Three fitted steps; one pass to learn each, one to carry them out."""
    from groundup.data.prepare import Fill, Outliers, Standardize
    from groundup.data.shards import fit_and_carry, open_shards, written

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


def pandas(source: Path, target: Path, memory: str) -> dict[str, float]:
    """The same with pandas and scikit-learn, all rows in memory."""
    import pandas as pd
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    table = pd.concat([pd.read_parquet(path, columns=COLUMNS) for path in sorted(source.glob("part-*.parquet"))])
    values = SimpleImputer(strategy="mean").fit_transform(table)
    low, high = values.mean(axis=0) - 3 * values.std(axis=0), values.mean(axis=0) + 3 * values.std(axis=0)
    scaler = StandardScaler()
    scaled = scaler.fit_transform(np.clip(values, low, high))
    target.mkdir(parents=True)
    pd.DataFrame(scaled, columns=COLUMNS).to_parquet(target / "all.parquet")
    return {n: m + 3 * s for n, m, s in zip(COLUMNS, scaler.mean_, scaler.scale_, strict=True)}


def series(source: Path, target: Path, memory: str) -> dict[str, float]:
    """Linear interpolation and a rolling median of five within each of a thousand groups."""
    from groundup.core.use import Use, make
    from groundup.data.shards import carry_out, open_shards

    shop = a_shop(target, memory)
    steps = [{"use": "interpolate"}, {"use": "median_filter", "width": 5}]
    step = make(Use("EachSeries", steps=steps, columns=COLUMNS, by=["site"], time="at"), "prepare")
    done = carry_out(shop, step, open_shards(source), "EachSeries")
    return {"rows": float(len(done))}


def duplicates(source: Path, target: Path, memory: str) -> dict[str, float]:
    """Exact duplicates looked for."""
    from groundup.core.use import Use, make
    from groundup.data.shards import carry_out, open_shards

    shop = a_shop(target, memory)
    found = carry_out(shop, make(Use("drop_exact_duplicates"), "clean"), open_shards(source), "duplicates")
    return {"rows": float(len(found))}


def loading(source: Path, target: Path, memory: str) -> dict[str, float]:
    """One epoch of batches of 1024."""
    from groundup.data.loading import batches
    from groundup.data.prepare import Fill
    from groundup.data.samples import Rows
    from groundup.data.shards import encode_shards, fit, fit_and_carry, open_shards, written

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
    "groundup, series by group": series,
    "groundup, exact duplicates": duplicates,
    "groundup, loading": loading,
}


def one_turn(name: str, source: Path, memory: str) -> dict[str, Any]:
    """A contestant in a process of its own: what it found, seconds on the wall and of processor, and its peak."""
    target = Path(tempfile.mkdtemp(prefix="scale-")) / "out"
    command = [sys.executable, __file__, "--contestant", name, "--folder", str(source), "--target", str(target)]
    done = subprocess.run([*command, "--memory", memory], capture_output=True, text=True, check=False)
    shutil.rmtree(target.parent)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def carried_out(options: argparse.Namespace) -> None:
    if options.contestant == "make":
        make(int(options.memory), Path(options.folder), options.keyed)
        return
    begun, processor = time.perf_counter(), time.process_time()
    found = CONTESTANTS[options.contestant](Path(options.folder), Path(options.target), options.memory)
    told = {"found": found, "s": time.perf_counter() - begun, "processor_s": time.process_time() - processor}
    print(json.dumps({**told, "peak_bytes": memory_bytes()[1]}))


def made(rows: int, keyed: bool, parent: Path) -> Path:
    folder = parent / f"{rows}{'-keyed' if keyed else ''}"
    command = [sys.executable, __file__, "--contestant", "make", "--folder", str(folder), "--memory", str(rows)]
    subprocess.run([*command, *(["--keyed"] if keyed else [])], check=True)
    return folder


def compete(names: list[str], source: Path, memory: str, repeats: int) -> list[dict[str, Any]]:
    """Turns about, with a check that all found the same."""
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in names}

    def turn(name: str) -> float:
        told[name].append(one_turn(name, source, memory))
        return float(told[name][-1]["s"])

    take_turns({name: (lambda name=name: turn(name)) for name in names}, repeats)
    known = told[names[0]][0]["found"]
    rows = []
    for name in names:
        for one in told[name]:
            for key, value in one["found"].items():
                if not key.endswith("_per_s"):
                    assert abs(value - known[key]) <= 1e-9 * abs(known[key]), (name, key, value, known[key])
        wall = summary([one["s"] for one in told[name]])
        first = summary([one["s"] for one in told[names[0]]])
        rows.append(
            {
                "contestant": name,
                "median s": wall["median"],
                "least s": wall["least"],
                "processor s": summary([one["processor_s"] for one in told[name]])["median"],
                "peak GB": max(one["peak_bytes"] for one in told[name]) / 1e9,
                "of ours": wall["median"] / first["median"],
                "samples/s": told[name][0]["found"].get("samples_per_s"),
            }
        )
    return rows


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=40_000_000, help="rows of the large table")
    parser.add_argument("--fitting-rows", type=int, default=4_000_000, help="rows of the table that pandas can hold")
    parser.add_argument("--only", nargs="*", choices=("polars", "pandas", "series", "limit"), help="some of the parts")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    parser.add_argument("--memory", default="600MB", help="what the shards may take")
    parser.add_argument("--keyed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        carried_out(options)
        return
    rows, fitting = (200_000, 200_000) if options.quick else (options.rows, options.fitting_rows)
    repeats = options.repeats or (1 if options.quick else 5)
    parts = options.only or ["polars", "pandas", "series", "limit"]
    tables: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="scale-") as parent:
        if "polars" in parts or "limit" in parts:
            source = made(rows, False, Path(parent))
        if "polars" in parts:
            title = f"{rows:,} rows x 6: fill, clip, z-score"
            tables[title] = compete(["groundup", "polars by hand"], source, options.memory, repeats)
        if "limit" in parts:
            limit = f"{max(64, rows * 52 // 5 // 10**6)}MB"
            for name in ("groundup", "groundup, exact duplicates", "groundup, loading"):
                title = f"{name} on {rows:,} rows, memory = {limit}, a fifth of the data"
                tables[title] = compete([name], source, limit, 1)
        if "series" in parts:
            title = f"{rows:,} rows in {GROUPS:,} groups: interpolation, rolling median"
            keyed = made(rows, True, Path(parent))
            tables[title] = compete(["groundup, series by group"], keyed, options.memory, max(1, repeats // 2))
        if "pandas" in parts and importlib.util.find_spec("pandas") is not None:
            small = made(fitting, False, Path(parent))
            title = f"{fitting:,} rows x 6: fill, clip, z-score"
            tables[title] = compete(["groundup", "pandas + scikit-learn"], small, options.memory, repeats)
    for title, found in tables.items():
        show(title, found, f"{repeats} rounds")
    if not options.quick:
        peers = versions("polars", "pandas", "scikit-learn", "pyarrow")
        for title, found in tables.items():
            save("data_at_scale", found, {"table": title, "memory": options.memory, "peers": peers})


if __name__ == "__main__":
    main()
