"""A folder of shards that was written earlier, as a source: the river entered from the middle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from groundup.core.dataset import Dataset
from groundup.data.shards.folder import Shards, open_shards, verify

__all__ = ["shards"]


def shards(path: str | Path, folder: Path = Path()) -> Dataset:
    """The rows of a folder of Parquet shards, as ``groundup clean`` writes them; their ledger comes with them.

    What does not fit in memory is taken from the files where they lie, a shard at a time. Raises DataError for a folder
    that is none, was not finished, or whose files are not what was written.
    """
    return dataclasses.replace(_opened(path, folder).whole(), split=None)


def _opened(path: str | Path, folder: Path = Path()) -> Shards:
    found = open_shards(folder / Path(path).expanduser())
    verify(found)
    return dataclasses.replace(found, split=None)


shards.opened = _opened  # type: ignore[attr-defined]
