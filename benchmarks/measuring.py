"""What every benchmark shares: contestants take turns, and a result says where and from what it was made."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from groundup.core.report import machine
from groundup.planning.hardware import hardware

FOLDER = Path(__file__).resolve().parent


def arguments(question: str) -> argparse.ArgumentParser:
    """The options that every script has."""
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: shows that it works, measures nothing, saves nothing"
    )
    parser.add_argument("--repeats", type=int, help="rounds; each contestant has one turn a round")
    return parser


def take_turns(contestants: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What each contestant gave in each round; who begins changes, so that no one always follows the same other."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(contestants[name]())
    return found


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, least, most and number of rounds."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "rounds": len(values)}


def show(title: str, rows: Sequence[Mapping[str, Any]], caption: str = "") -> None:
    """A table on the terminal; the first row gives the columns."""
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for number, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in rows[0]))
    Console().print(table)


def save(question: str, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    """Append one line to ``results/QUESTION.jsonl``: the rows, and all that they depend on."""
    here = hardware()
    line = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "machine": {
            "processor": here.processor,
            "cores": here.num_cores,
            "memory_bytes": here.memory_bytes,
            "bf16": here.bf16,
            "gpus": [name for name, _ in here.gpus],
            "load": round(os.getloadavg()[1], 1),
        },
        "versions": {**machine(), **versions("transformers", "tokenizers", "safetensors")},
        "settings": dict(settings),
        "rows": [dict(row) for row in rows],
    }
    path = FOLDER / "results" / f"{question}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(f"appended to benchmarks/results/{path.name}")


def versions(*packages: str) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit that was measured, marked when files were changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=FOLDER, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = "+changes" if git("status", "--porcelain", "--", "../src", ".", ":!results") else ""
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + changed


def memory_bytes() -> tuple[int, int]:
    """This process's memory now and at its peak; not by getrusage on Linux, which counts the parent too."""
    status = Path("/proc/self/status")
    if not status.is_file():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return peak, peak
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    now, peak = (int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2e}" if 0 < abs(value) < 0.01 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
