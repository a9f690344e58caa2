"""Does data of any size cost what hand-written Polars costs, and does it keep to its memory?

Rows of six columns with gaps and outliers are made on the spot, as a folder of Parquet shards. Each contestant is a
process of its own: it learns the mean, the 3-sigma bounds of the filled column, and mean and deviation of the clipped
one; fills, clips and scales; and writes Parquet. Series by group are interpolated and smoothed by a rolling median,
beside pandas where it can hold them. Contestants must find the same figures. Times are of the work, imports left
aside; peaks are of the whole process.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import arguments, save, show, summary, take_turns, versions

CONTESTANT = Path(__file__).with_name("scale_contestants.py")
GROUPS = 1000
SETTLE_S = 5.0
"""Between turns. A virtual machine hands freed memory back to its host after some seconds, and what is written into new
memory then takes twice as long: who writes earlier after a turn would be spared that."""


def one_turn(name: str, source: Path, memory: str) -> dict[str, Any]:
    """A contestant in a process of its own: what it found, seconds on the wall and of processor, and its peak."""
    target = Path(tempfile.mkdtemp(prefix="scale-")) / "out"
    command = [sys.executable, str(CONTESTANT), name, str(source), str(target), memory]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    shutil.rmtree(target.parent)
    time.sleep(SETTLE_S)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def made(rows: int, keyed: bool, parent: Path) -> Path:
    """The folder of shards that all contestants read; made once."""
    folder = parent / f"{rows}{'-keyed' if keyed else ''}"
    if folder.is_dir():
        return folder
    command = [sys.executable, str(CONTESTANT), "make", str(folder), "keyed" if keyed else "plain", str(rows)]
    subprocess.run(command, check=True)
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
    parser.add_argument("--memory", default="600MB", help="what the shards may take")
    options = parser.parse_args()
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
            names = ["groundup", "pandas + scikit-learn"]
            tables[title] = compete(names, small, options.memory, repeats)
            names = [f"{name}, in memory" for name in names]
            tables[f"{title}, without files"] = compete(names, small, options.memory, repeats)
            small = made(fitting, True, Path(parent))
            title = f"{fitting:,} rows in {GROUPS:,} groups: interpolation, rolling median"
            names = ["groundup, series by group", "pandas, series by group"]
            tables[title] = compete(names, small, options.memory, max(1, repeats // 2))
    for title, found in tables.items():
        show(title, found, f"{repeats} rounds")
    if not options.quick:
        peers = versions("polars", "pandas", "scikit-learn", "pyarrow")
        for title, found in tables.items():
            save("data_at_scale", found, {"table": title, "memory": options.memory, "peers": peers})


if __name__ == "__main__":
    main()
