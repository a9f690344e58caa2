"""All samples of a split as one value whose arrays and rows lie in files: what mixes samples may ask for any of them.

Files are mapped, so what lies in memory are the pages that were asked for, and the system takes these back when it
needs room. It is the samples' own code that runs over them: a sample becomes what it becomes in memory, bit for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.preprocessing import step_name
from groundup.data.shards.exchange import Array, write_pieces
from groundup.data.shards.folder import Piece


@dataclasses.dataclass(frozen=True)
class MappedRows:
    """Rows in files, of which those at any positions can be taken."""

    files: tuple[Any, ...]
    """Arrow's record batches."""
    starts: Array
    """Position of each file's first row, and the number of rows [N + 1]."""
    like: Dataset

    def take(self, positions: Array) -> Dataset:
        """The rows at these positions, in this order."""
        file = np.searchsorted(self.starts, positions, side="right") - 1
        order = np.argsort(file, kind="stable")
        parts = [self.files[i].take(pa.array(positions[file == i] - self.starts[i])) for i in np.unique(file).tolist()]
        frame = pl.from_arrow(pa.Table.from_batches(parts))
        assert isinstance(frame, pl.DataFrame)
        return self.like.with_frame(frame[np.argsort(order, kind="stable")])


def map_samples(pieces: Sequence[Piece], samples: Any, starts: Array, folder: Path) -> Any:
    """The encoded samples of all shards as one, its fields named by ``ON_DISK`` written below ``folder``."""
    folder.mkdir(exist_ok=True)
    arrays: dict[str, Any] = {}
    files = []
    encoded: Any = None
    for i, piece in enumerate(pieces):
        encoded = samples.encode(piece.read())
        if not hasattr(encoded, "ON_DISK"):
            raise DataError(
                f"{step_name(samples)}: its samples lie in shards and do not say by ON_DISK which of their fields may "
                "lie in files; so none can be mixed with others. Leave the step out, or raise recipe.data.memory."
            )
        for name in encoded.ON_DISK:
            part = getattr(encoded, name)
            if isinstance(part, Dataset):
                files.append(_mapped_frame(part.frame, folder / f"{name}-{i:05d}.arrow"))
            elif part is not None:
                if name not in arrays:
                    shape = (int(starts[-1]), *part.shape[1:])
                    arrays[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", part.dtype, shape)
                arrays[name][starts[i] : starts[i + 1]] = part
    fields: dict[str, Any] = dict.fromkeys(encoded.ON_DISK)
    for name, array in arrays.items():
        array.flush()
        fields[name] = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))
    if files:
        fields["dataset"] = MappedRows(tuple(files), starts, encoded.dataset)
    return type(encoded)(samples=samples, **fields)


def _mapped_frame(frame: pl.DataFrame, path: Path) -> Any:
    write_pieces([frame], path)
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
