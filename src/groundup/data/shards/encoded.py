"""Samples of shards, ready for the model: a few shards are in memory, in whatever order samples are asked for.

An epoch goes through the shards in an order of its own, a few at a time, and through the rows of those few by chance,
drawn from (seed, epoch) alone; so a bookmark still says all that resuming needs. What mixes a sample with others takes
these from all of train, which is mapped into memory for it.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.plan import format_bytes
from groundup.core.preprocessing import step_name
from groundup.data.loading import times_before
from groundup.data.shards.carry import Workshop
from groundup.data.shards.exchange import Array
from groundup.data.shards.folder import Piece, Shards
from groundup.data.shards.mapped import map_samples

if TYPE_CHECKING:
    from torch import Tensor

SHARDS_AT_ONCE = 4
"""Shards that rows are mixed within, and that are held in memory, where it has room for so many."""


@dataclasses.dataclass(frozen=True)
class EpochOrder:
    """The order of one epoch, of which as much is drawn as is asked for: ``order[start:stop]`` are positions.

    With ``weights`` as many samples are drawn with replacement, in proportion to them: first how many of each mixture
    of shards, from a multinomial distribution, then these; which is as good as to draw each from all.
    """

    starts: Array
    """Position of each shard's first sample, and the number of samples [N + 1]."""
    seed: int
    epoch: int
    at_once: int = SHARDS_AT_ONCE
    weights: Array | None = None
    drawn: dict[int, tuple[Array, Array]] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @functools.cached_property
    def windows(self) -> list[Array]:
        """The shards in the order of the epoch, a few at a time."""
        shuffled = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.starts) - 1)
        return [shuffled[i : i + self.at_once] for i in range(0, len(shuffled), self.at_once)]

    @functools.cached_property
    def ends(self) -> Array:
        """Place in the order behind each window's last sample."""
        if self.weights is None:
            return np.cumsum([(self.starts[window + 1] - self.starts[window]).sum() for window in self.windows])
        weights = np.array([self.weights[self._positions(number)].sum() for number in range(len(self.windows))])
        draw = np.random.default_rng([self.seed, self.epoch, len(self.windows)])
        return np.cumsum(draw.multinomial(len(self), weights / weights.sum()))

    def __getitem__(self, cut: slice) -> Array:
        return self._cut(cut, 0)

    def times_before(self, cut: slice) -> Array:
        """How often each place's sample stood in the order before."""
        return self._cut(cut, 1)

    def _cut(self, cut: slice, which: int) -> Array:
        start, stop, _ = cut.indices(len(self))
        found = [np.zeros(0, dtype=np.int64)]
        for number in range(int(np.searchsorted(self.ends, start, side="right")), len(self.windows)):
            begins = int(self.ends[number - 1]) if number else 0
            if begins >= stop:
                break
            found.append(self._window(number)[which][max(0, start - begins) : stop - begins])
        return np.concatenate(found)

    def _positions(self, number: int) -> Array:
        dtype = np.min_scalar_type(len(self))  # four bytes a sample where that is enough
        return np.concatenate([np.arange(*self.starts[i : i + 2], dtype=dtype) for i in self.windows[number]])

    def _window(self, number: int) -> tuple[Array, Array]:
        """The samples of one window in their order, and how often each stood there before."""
        if number not in self.drawn:
            if len(self.drawn) >= 2:  # a batch may lie across two
                self.drawn.pop(min(self.drawn))
            positions, draw = self._positions(number), np.random.default_rng([self.seed, self.epoch, number])
            if self.weights is None:
                draw.shuffle(positions)
                self.drawn[number] = positions, np.broadcast_to(0, len(positions))
            else:
                size = int(self.ends[number] - (self.ends[number - 1] if number else 0))
                weights = self.weights[positions]
                chosen = draw.choice(positions, size, p=weights / weights.sum()) if size else positions[:0]
                self.drawn[number] = chosen, times_before(chosen)
        return self.drawn[number]


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedShards:
    """One split as samples, encoded a shard at a time when they are asked for."""

    pieces: Sequence[Piece]
    samples: Any
    starts: Array
    rows: Array
    """For each sample the ``_row`` it came from."""
    memory_bytes: int
    folder: Path
    """For samples that are mapped into memory."""
    at_once: int = SHARDS_AT_ONCE
    targets: Array | None = None
    """[N, ...] as the builder of samples encodes them."""
    held: collections.OrderedDict[int, Any] = dataclasses.field(default_factory=collections.OrderedDict)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def order(self, seed: int, epoch: int, weights: Array | None = None) -> EpochOrder:
        """The order of one epoch, drawn from (seed, epoch)."""
        return EpochOrder(self.starts, seed, epoch, self.at_once, weights)

    @functools.cached_property
    def mapped(self) -> Any:
        """All samples as one value, in files."""
        return map_samples(self.pieces, self.samples, self.starts, self.folder / "mapped")

    def batch(
        self, positions: Array, augment: Sequence[Any] = (), seed: int = 0, epoch: int = 0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(inputs, targets) of these samples, in this order."""
        import torch

        from groundup.data.augmentation.drawing import looks_at_others

        positions = np.asarray(positions)
        if any(looks_at_others(step) for step in augment):
            mixed: tuple[dict[str, Tensor], dict[str, Tensor]] = self.mapped.batch(positions, augment, seed, epoch)
            return mixed
        shard = np.searchsorted(self.starts, positions, side="right") - 1
        order = np.argsort(shard, kind="stable")
        found = {}
        # What is held comes first: where a batch lies across two mixtures, the old one makes room for the new.
        for number in sorted(np.unique(shard).tolist(), key=lambda number: number not in self.held):
            within = positions[shard == number] - self.starts[number]
            found[number] = self._shard(number).batch(within, augment, seed, epoch)
        parts = [found[number] for number in sorted(found)]
        back = torch.from_numpy(np.argsort(order, kind="stable"))
        inputs, targets = (
            {name: torch.cat([part[side][name] for part in parts])[back] for name in parts[0][side]} for side in (0, 1)
        )
        return inputs, targets

    def _shard(self, number: int) -> Any:
        if number in self.held:
            self.held.move_to_end(number)
        else:
            while len(self.held) >= self.at_once:
                self.held.popitem(last=False)
            give_back(self.rows)
            self.held[number] = self.samples.encode(self.pieces[number].read())
        return self.held[number]

    def arrays(self) -> tuple[Array, Array]:
        """Inputs and targets of all samples, as baselines take them. Raises DataError when they do not fit."""
        size = sum(one.nbytes for one in self._shard(0).arrays()) * len(self.pieces)
        if size * 2 > self.memory_bytes:
            raise DataError(
                f"a baseline sees all {len(self):,} samples at once, and their {format_bytes(size)} do not fit in half "
                f"of a memory of {format_bytes(self.memory_bytes)}. Take baselines = [], or raise recipe.data.memory."
            )
        found = [self._shard(number).arrays() for number in range(len(self.pieces))]
        return np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found])

    def describe(self, position: int) -> dict[str, Any]:
        """One sample as the model sees it."""
        number = int(np.searchsorted(self.starts, position, side="right")) - 1
        described: dict[str, Any] = self._shard(number).describe(int(position - self.starts[number]))
        return described


def encode_shards(shop: Workshop, samples: Any, shards: Shards, stage: str) -> EncodedShards:
    """Every shard encoded once, so that what cannot be is told before training, and counted.

    Raises DataError as the builder does, and for one whose samples go across rows of several shards.
    """
    if not getattr(samples, "BY_ROW", False):
        raise DataError(
            f"{step_name(samples)}: its samples are made of all rows together, so it needs them in memory, and "
            f"{format_bytes(shards.size_bytes)} do not fit. Raise recipe.data.memory, or take fewer rows."
        )
    folder = shop.stage(stage)
    pieces = shards.pieces()
    tasks = [(piece, samples, folder / f"{i}.npy") for i, piece in enumerate(pieces)]
    told = list(shop.executor.each(count_samples, tasks))
    counts = [count for count, _ in told]
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    room = shop.room.memory_bytes
    at_once = max(1, min(SHARDS_AT_ONCE, room // 2 // max(1, *(size for _, size in told))))
    rows = _gathered([path for *_, path in tasks], folder / "rows.npy", starts)
    targets = _gathered([_targets_of(path) for *_, path in tasks], folder / "targets.npy", starts)
    none = np.zeros(0, dtype=np.uint64)
    return EncodedShards(pieces, samples, starts, none if rows is None else rows, room, folder, at_once, targets)


def _targets_of(path: Path) -> Path:
    return path.with_name(f"targets-{path.name}")


def _gathered(paths: Sequence[Path], into: Path, starts: Array) -> Array | None:
    """What the shards' files hold as one array in a file; None where there is nothing."""
    if not starts[-1] or not all(path.is_file() for path in paths):
        return None
    like = next(part for part in (np.load(path, mmap_mode="r") for path in paths) if len(part))
    about = {"descr": like.dtype.str, "fortran_order": False, "shape": (int(starts[-1]), *like.shape[1:])}
    with into.open("wb") as file:  # written, not mapped: pages that are mapped count as memory once they are touched
        np.lib.format.write_array_header_1_0(file, about)
        for path in paths:
            np.load(path).astype(like.dtype, order="C", copy=False).tofile(file)
    return np.asarray(np.load(into, mmap_mode="r"))


def give_back(array: Array) -> None:
    """Of an array in a mapped file, the memory of what was read; it is read again when it is asked for again."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def count_samples(piece: Piece, samples: Any, path: Path) -> tuple[int, int]:
    """A task: one shard encoded, its samples' rows and targets written down; gives their number and bytes."""
    encoded = samples.encode(piece.read())
    np.save(path, np.asarray(encoded.rows, dtype=np.uint64))
    if isinstance(targets := getattr(encoded, "targets", None), np.ndarray):
        np.save(_targets_of(path), targets)
    held = [getattr(encoded, field.name) for field in dataclasses.fields(encoded)]
    size = sum(one.nbytes for one in held if isinstance(one, np.ndarray))
    return len(encoded), size + sum(int(one.frame.estimated_size()) for one in held if isinstance(one, Dataset))
