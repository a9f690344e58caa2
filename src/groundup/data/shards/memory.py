"""How much memory data may take, and what follows from it: the size of a shard, and how many are worked on at once."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Literal, get_args

from groundup.core.errors import RecipeError

Runner = Literal["local", "processes", "ray"]
"""Who carries steps out over shards: this process, a pool of processes here, or a Ray cluster."""

LARGEST_SHARD = 64_000_000
SMALLEST_SHARD = 4_000_000
SHARDS_IN_MEMORY = 16
"""A shard is at most this part of the memory: a step holds a shard, what it makes of it, and what lies in between."""

COPIES = 6
"""Shards' worth of memory that one worker takes at its most."""

COPIES_OF_ALL = 4
"""Times its size that a table takes at its most, when everything is done to it in memory."""

PROCESS_BYTES = 150_000_000
"""What a process takes before it holds any data."""

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


@dataclasses.dataclass(frozen=True)
class Room:
    """The memory that data may take in all, workers included.

    What this process and its libraries take lies beside it: 0.2 GB, with torch 0.4 GB.
    """

    memory_bytes: int
    num_cores: int

    @classmethod
    def of(cls, memory: str | None = None) -> Room:
        """From ``"2GB"`` or ``"500MiB"``; by default half of what is free. Raises RecipeError for anything else."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(parse_bytes(memory) if memory else free_bytes() // 2, cores)

    @property
    def spelled(self) -> str:
        """The memory as a recipe says it."""
        return f"{max(self.memory_bytes // 10**6, SHARDS_IN_MEMORY * SMALLEST_SHARD // 10**6)}MB"

    @property
    def shard_bytes(self) -> int:
        """The most a shard holds in memory; the same for every runner, since their output must be the same."""
        return max(SMALLEST_SHARD, min(LARGEST_SHARD, self.memory_bytes // SHARDS_IN_MEMORY))

    @property
    def num_threads(self) -> int:
        """Shards worked on at once in this process."""
        return self._fitting(COPIES * self.shard_bytes)

    @property
    def num_processes(self) -> int:
        """Workers of a pool, each with one shard at a time."""
        return self._fitting(PROCESS_BYTES + COPIES * self.shard_bytes)

    def _fitting(self, worker_bytes: int) -> int:
        return max(1, min(self.num_cores, (self.memory_bytes - PROCESS_BYTES) // worker_bytes))

    def fits(self, size_bytes: int) -> bool:
        """Whether a table of this size can be worked on as a whole."""
        return size_bytes * COPIES_OF_ALL <= self.memory_bytes


def parse_bytes(text: str, where: str = "recipe.data.memory") -> int:
    """``"2GB"`` as 2,000,000,000, ``"2GiB"`` as 2^31. Raises RecipeError for what is no size, or too little."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B)\s*", text, re.IGNORECASE)
    if not found:
        raise RecipeError(f'{where}: read {text!r}, expected a size such as "2GB" or "500MB".')
    size = int(float(found[1]) * _UNITS[found[2].upper()])
    if size < SHARDS_IN_MEMORY * SMALLEST_SHARD:
        raise RecipeError(
            f'{where}: read {text!r}; at least "{SHARDS_IN_MEMORY * SMALLEST_SHARD // 10**6}MB" is needed.'
        )
    return size


def free_bytes() -> int:
    """Memory that can be taken now without pushing anything out; 4 GB where the system does not tell."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 4 * 10**9


def check_runner(runner: str, where: str = "recipe.data.runner") -> Runner:
    """The runner's name. Raises RecipeError for any other."""
    for known in get_args(Runner):
        if runner == known:
            return known  # type: ignore[no-any-return]
    raise RecipeError(f"{where}: read {runner!r}, expected one of {', '.join(get_args(Runner))}.")
