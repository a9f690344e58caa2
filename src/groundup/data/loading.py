"""Streams of batches. The order of an epoch is drawn from (seed, epoch) alone, so a bookmark says all that resuming
needs. There is no thread behind it: gathering a batch costs microseconds a sample, on cores that training uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from groundup.core.batch import Batch, Bookmark
from groundup.core.errors import DataError
from groundup.core.preprocessing import Encoded

START = Bookmark()


def batches(
    encoded: Encoded,
    batch_size: int,
    *,
    seed: int,
    bookmark: Bookmark = START,
    augment: Sequence[Any] = (),
    shuffle: bool = True,
) -> Iterator[Batch]:
    """Batches without end, epoch after epoch, from where ``bookmark`` stands.

    Each epoch hands out every sample once, in an order of its own (as they stand without ``shuffle``; drawn by the
    samples themselves where they have ``order(seed, epoch)``); its last batch may be short. A batch carries the
    bookmark that stands behind it, and a stream begun there goes on bit for bit as this one does. Raises DataError for
    data without samples, and for a bookmark that lies outside of it.
    """
    _check(encoded, batch_size)
    if seed < 0:
        raise DataError(f"batches: the seed is {seed}; expected 0 or more.")
    if bookmark.epoch < 0 or not 0 <= bookmark.position <= len(encoded):
        raise DataError(
            f"batches: the bookmark (epoch {bookmark.epoch}, position {bookmark.position}) lies outside of data with "
            f"{len(encoded)} samples. Was it made on other data?"
        )
    return _endless(encoded, batch_size, seed, bookmark, tuple(augment), shuffle)


def _endless(
    encoded: Encoded, batch_size: int, seed: int, bookmark: Bookmark, augment: tuple[Any, ...], shuffle: bool
) -> Iterator[Batch]:
    epoch, position = bookmark
    size = len(encoded)
    while True:
        order = _order(encoded, seed, epoch) if shuffle else np.arange(size)
        while position < size:
            positions = order[position : position + batch_size]
            inputs, targets = encoded.batch(positions, augment, seed, epoch)
            position += len(positions)
            behind = Bookmark(epoch, position) if position < size else Bookmark(epoch + 1, 0)
            yield Batch(inputs, targets, behind, encoded.rows[positions])
        epoch, position = epoch + 1, 0


def once(encoded: Encoded, batch_size: int) -> Iterator[Batch]:
    """Every sample once, in order and un-augmented: for evaluation. The last batch may be short."""
    _check(encoded, batch_size)
    return _in_order(encoded, batch_size)


def _in_order(encoded: Encoded, batch_size: int) -> Iterator[Batch]:
    for start in range(0, len(encoded), batch_size):
        positions = np.arange(start, min(start + batch_size, len(encoded)))
        inputs, targets = encoded.batch(positions)
        yield Batch(inputs, targets, Bookmark(0, int(positions[-1]) + 1), encoded.rows[positions])


def num_batches(encoded: Encoded, batch_size: int) -> int:
    """Batches in one epoch, the short one included."""
    _check(encoded, batch_size)
    return -(-len(encoded) // batch_size)


def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray[Any, Any]:
    """The order of one epoch: a permutation of ``range(size)`` drawn from (seed, epoch)."""
    return np.random.default_rng([seed, epoch]).permutation(size)


def _order(encoded: Encoded, seed: int, epoch: int) -> Any:
    """The order of an epoch, sliced as it is handed out; data that are not in memory have one that spares reading."""
    own = getattr(encoded, "order", None)
    return epoch_order(len(encoded), seed, epoch) if own is None else own(seed, epoch)


def _check(encoded: Encoded, batch_size: int) -> None:
    if batch_size < 1:
        raise DataError(f"the batch size is {batch_size}; expected at least 1.")
    if len(encoded) == 0:
        raise DataError("there are no samples to make batches of: this part of the data is empty.")
