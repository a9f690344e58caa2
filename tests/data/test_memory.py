"""The memory that is given is kept to on data five times as large, as the system measures it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from groundup.data.shards import parse_bytes

MEMORY = "64MB"
TIMES = 5
SCRIPT = Path(__file__).parent / "measure_memory.py"

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc"),
    pytest.mark.xdist_group("memory"),
]


def run(*words: Any) -> dict[str, Any]:
    """What a process of its own told."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2"}
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def made(kind: str, folder: Path) -> dict[str, Any]:
    """A folder of shards that hold five times the memory, and what is told of it."""
    told = run("make", folder / kind, kind, TIMES * parse_bytes(MEMORY))
    assert told["size_bytes"] >= TIMES * parse_bytes(MEMORY)
    return {**told, "folder": folder / kind}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return made("table", tmp_path_factory.mktemp("memory"))


@pytest.mark.parametrize("work", ["cleaning", "exact", "loading"])
def test_a_table_is_worked_on_in_a_fifth_of_its_size(work: str, table: dict[str, Any], tmp_path: Path) -> None:
    told = run(work, table["folder"], tmp_path / "out", MEMORY)
    assert told["found"] == table["rows"]
    assert told["rose"] <= parse_bytes(MEMORY), f"{told['rose'] / 1e6:.0f} MB"


@pytest.mark.slow
def test_near_duplicates_are_dropped_in_a_fifth_of_the_size_of_all_texts(tmp_path: Path) -> None:
    texts = made("text", tmp_path)
    told = run("near", texts["folder"], tmp_path / "out", MEMORY)
    assert told["found"] == texts["rows"] * 3 // 4
    assert told["rose"] <= parse_bytes(MEMORY), f"{told['rose'] / 1e6:.0f} MB"
