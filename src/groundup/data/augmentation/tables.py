"""Rows of a table changed for training: noise, and new rows between those of a rare class.

A step has ``change_row(rng, inputs, position, table)``: the inputs float32 [F] of the row at ``position`` as they
stand, and the whole of train as the model sees it (``TrainTable``); it gives the inputs anew. ``MixUp`` mixes rows too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from groundup.core.errors import DataError
from groundup.data.augmentation.affine import need

Inputs = npt.NDArray[np.float32]
Deviations = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

ROWS_AT_ONCE = 1 << 16


class TrainTable(Protocol):
    """What a step may look at: the encoded rows of train."""

    inputs: Inputs
    """[N, F], as the model sees them."""
    targets: npt.NDArray[Any] | None
    """Class numbers [N], or scaled values [N, 1]."""

    @property
    def numbers(self) -> npt.NDArray[np.bool_]:
        """Which inputs [F] are numbers; the others are yes and no."""
        ...

    @property
    def classes(self) -> list[str]:
        """The classes as strings; none where a value is predicted."""
        ...

    def kept(self, key: Any, make: Any) -> Any:
        """What ``make()`` gives, made once."""
        ...


@dataclasses.dataclass(frozen=True)
class RowNoise:
    """Add normal noise to each number of a row, of ``deviation`` times that column's deviation over train.

    Yes and no stay as they are. Bishop, Neural Computation 7, 1995: it acts as Tikhonov regularisation.
    """

    deviation: float = 0.1

    def __post_init__(self) -> None:
        need(self.deviation >= 0, "deviation", self.deviation, "0 or more")

    def change_row(self, rng: np.random.Generator, inputs: Inputs, position: int, table: TrainTable) -> Inputs:
        """inputs + deviation * N(0, 1) * the columns' own deviations."""
        spread = table.kept("deviations", lambda: deviations(table.inputs) * table.numbers)
        noise = self.deviation * rng.standard_normal(len(inputs)) * spread
        return np.asarray(inputs + noise, dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class Smote:
    """Move a row of a rare class part of the way, u from 0 to 1, to one of its nearest ``neighbours`` in its class.

    So each epoch sees other rows between those of the class; with ``sampling = "balanced"`` beside it, as many as there
    are of the largest class. Chawla et al., J. Artificial Intelligence Research 16, 2002; there the new rows are made
    once. Distances are those of the inputs as the model sees them, so scale numbers before. Numbers are moved; yes and
    no are taken together from the nearer of the two, so that no category becomes a mixture.

    Without ``classes`` all but the largest are rare. A row is moved with ``probability``; by default with 1 - n / N, n
    rows in its class and N in the largest: the share of new ones when the class is filled up to that size. Neighbours
    are sought among train's rows alone, and validation and test rows never come here.
    """

    neighbours: int = 5
    classes: Sequence[str] | None = None
    probability: float | None = None

    def __post_init__(self) -> None:
        need(self.neighbours >= 1, "neighbours", self.neighbours, "at least 1")
        held = self.probability is None or 0 <= self.probability <= 1
        need(held, "probability", self.probability, "0 to 1")

    def change_row(self, rng: np.random.Generator, inputs: Inputs, position: int, table: TrainTable) -> Inputs:
        """x + u (x' - x) for the numbers; x or x' for the rest."""
        share, chosen, way = rng.uniform(), rng.uniform(), rng.uniform()  # always drawn, whatever the row's class
        key = ("smote", self.neighbours, None if self.classes is None else tuple(self.classes))
        chance, nearest = table.kept(key, lambda: self._search(table))
        assert table.targets is not None
        number = int(table.targets[position])
        if number not in nearest or share >= (chance[number] if self.probability is None else self.probability):
            return inputs
        of_class, found = nearest[number]
        near = found[np.searchsorted(of_class, position)]
        other = table.inputs[of_class[near[int(chosen * len(near))]]]
        moved = inputs + np.float32(way) * (other - inputs)
        return np.where(table.numbers, moved, inputs if way < 0.5 else other)

    def _search(self, table: TrainTable) -> tuple[Deviations, dict[int, tuple[Places, Places]]]:
        """For each class the default chance to be moved; for each rare one where its rows are, and each row's
        neighbours among these."""
        from sklearn.neighbors import NearestNeighbors  # type: ignore[import-untyped]

        if table.targets is None or not table.classes:
            raise DataError("Smote: there are no classes, and only rows of rare classes are filled up.")
        counts = np.bincount(table.targets, minlength=len(table.classes))
        rare = [i for i in range(len(counts)) if 0 < counts[i] < counts.max()]
        if self.classes is not None:
            strange = [name for name in self.classes if name not in table.classes]
            if strange:
                raise DataError(
                    f"Smote.classes: there is no class {strange[0]!r}; train has {', '.join(table.classes)}."
                )
            rare = [table.classes.index(name) for name in self.classes]
        nearest: dict[int, tuple[Places, Places]] = {}
        for number in rare:
            of_class = np.flatnonzero(table.targets == number)
            count = min(self.neighbours, len(of_class) - 1)
            if count >= 1:
                search = NearestNeighbors(n_neighbors=count).fit(table.inputs[of_class])
                # Asked without rows of its own it leaves each row itself out, also where others equal it.
                nearest[number] = of_class, search.kneighbors(return_distance=False)
        return 1 - counts / counts.max(), nearest


def deviations(inputs: Inputs) -> Deviations:
    """The population's deviation of each column of [N, F], a part of the rows in memory at a time."""
    blocks = [inputs[i : i + ROWS_AT_ONCE] for i in range(0, len(inputs), ROWS_AT_ONCE)]
    mean = sum(block.sum(axis=0, dtype=np.float64) for block in blocks) / len(inputs)
    found: Deviations = np.sqrt(sum(((block - mean) ** 2).sum(axis=0) for block in blocks) / len(inputs))
    return found
