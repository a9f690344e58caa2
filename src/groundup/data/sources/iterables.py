"""Rows that Python makes: a function that gives an iterable, a frame or arrays is a source too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from groundup.core.dataset import Dataset, Entry
from groundup.core.errors import DataError
from groundup.data.sources.shards import Piece, sharded


@dataclasses.dataclass(frozen=True)
class iterable:
    """Rows from a function of one's own: ``of = "my_pkg:rows"``, called without arguments.

    It gives dicts, (x, y) pairs, a polars or pandas frame, an Arrow table, or numpy arrays; how they become columns is
    told in ``groundup.core.rows.frame_of``. A recipe may name such a function as the source itself, too. Raises
    DataError when there is nothing, or something that is no row.
    """

    of: Callable[..., Any]

    def __call__(self) -> Dataset:
        """All rows."""
        return as_dataset(self.of(), str(getattr(getattr(self.of, "func", self.of), "__name__", "rows")))

    def shards(self, rows_at_once: int) -> Iterator[Dataset]:
        """The same in slices; the rows are made once and held."""
        whole = self()
        rejected = tuple(whole.quarantine.rejected)
        pieces = [Piece(whole.frame.drop("_row"), rejected, (len(whole),) * len(rejected))]
        return sharded(pieces, whole.kinds, whole.history[0], whole.origin, rows_at_once)


def as_dataset(found: Any, name: str) -> Dataset:
    """What a source gave, as a dataset: one that is a dataset already stays as it is."""
    if isinstance(found, Dataset):
        return found
    if found is None:
        raise DataError(f"{name}: the source gave nothing back; it must return, or yield, rows.")
    dataset = Dataset.of_rows(found, origin=name)
    notes = (str(dataset.quarantine), *dataset.notes)
    entry = Entry(name, None, dataset.quarantine.read, len(dataset), notes=notes)
    return dataclasses.replace(dataset, history=(entry,), notes=())
