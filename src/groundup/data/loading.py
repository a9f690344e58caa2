"""Streams of batches. The order of an epoch is drawn from (seed, epoch) alone, so a bookmark says all that resuming
needs. There is no thread behind it: gathering a batch costs microseconds a sample, on cores that training uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.core.batch import Batch, Bookmark
from groundup.core.errors import DataError
from groundup.core.preprocessing import Encoded

if TYPE_CHECKING:
    from torch import Tensor

START = Bookmark()


def batches(
    encoded: Encoded,
    batch_size: int,
    *,
    seed: int,
    bookmark: Bookmark = START,
    augment: Sequence[Any] = (),
    shuffle: bool = True,
    weights: np.ndarray[Any, Any] | None = None,
) -> Iterator[Batch]:
    """Batches without end, epoch after epoch, from where ``bookmark`` stands.

    Each epoch hands out every sample once, in an order of its own (as they stand without ``shuffle``; drawn by
    the samples themselves where they have ``order(seed, epoch, weights)``); its last batch
    may be short. With ``weights`` [N] an epoch draws as many samples with replacement, in proportion to them, and each
    time that a sample comes again it is augmented anew. A batch carries the bookmark that stands behind it, and a
    stream begun there goes on bit for bit as this one does. Raises DataError for data without samples, for a bookmark
    that lies outside of it, and for weights that are no weights.
    """
    _check(encoded, batch_size)
    if seed < 0:
        raise DataError(f"batches: the seed is {seed}; expected 0 or more.")
    if bookmark.epoch < 0 or not 0 <= bookmark.position <= len(encoded):
        raise DataError(
            f"batches: the bookmark (epoch {bookmark.epoch}, position {bookmark.position}) lies outside of data with "
            f"{len(encoded)} samples. Was it made on other data?"
        )
    if weights is not None:
        _check_weights(weights, len(encoded), shuffle)
    return _endless(encoded, batch_size, seed, bookmark, tuple(augment), shuffle, weights)


def _endless(
    encoded: Encoded,
    batch_size: int,
    seed: int,
    bookmark: Bookmark,
    augment: tuple[Any, ...],
    shuffle: bool,
    weights: np.ndarray[Any, Any] | None,
) -> Iterator[Batch]:
    epoch, position = bookmark
    size = len(encoded)
    while True:
        order = _order(encoded, seed, epoch, weights) if shuffle else np.arange(size)
        again = _times_before(order) if weights is not None and augment else None
        while position < size:
            cut = slice(position, position + batch_size)
            positions = order[cut]
            if again is None:
                inputs, targets = encoded.batch(positions, augment, seed, epoch)
            else:
                inputs, targets = _drawn_again(encoded, positions, again(cut), augment, (seed, epoch))
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


def epoch_order(size: int, seed: int, epoch: int, weights: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
    """The order of one epoch, drawn from (seed, epoch): a permutation of ``range(size)``, or as many weighted draws."""
    draw = np.random.default_rng([seed, epoch])
    if weights is None:
        return draw.permutation(size)
    return draw.choice(size, size, p=weights / weights.sum())


AGAIN = 1 << 32
"""A sample that was drawn n times before in an epoch is augmented as in the epoch ``epoch + n AGAIN``."""


def _times_before(order: Any) -> Callable[[slice], np.ndarray[Any, Any]]:
    own: Callable[[slice], np.ndarray[Any, Any]] | None = getattr(order, "times_before", None)
    return own if own is not None else times_before(order).__getitem__


def times_before(order: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """How often each place's sample stood in the order before."""
    by_sample = np.argsort(order, kind="stable")
    ordered = order[by_sample]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    times = np.empty(len(order), dtype=np.int64)
    times[by_sample] = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    return times


def _drawn_again(
    encoded: Encoded,
    positions: np.ndarray[Any, Any],
    again: np.ndarray[Any, Any],
    augment: tuple[Any, ...],
    drawn_from: tuple[int, int],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A batch in which a sample that was there before in this epoch draws its augmentation anew."""
    import torch

    seed, epoch = drawn_from
    places = [np.flatnonzero(again == times) for times in np.unique(again)]
    parts = [encoded.batch(positions[place], augment, seed, epoch + int(again[place[0]]) * AGAIN) for place in places]
    back = torch.from_numpy(np.argsort(np.concatenate(places)))
    inputs, targets = (
        {name: torch.cat([part[i][name] for part in parts])[back] for name in parts[0][i]} for i in (0, 1)
    )
    return inputs, targets


def _check_weights(weights: np.ndarray[Any, Any], size: int, shuffle: bool) -> None:
    if not shuffle:
        raise DataError("batches: weights are for drawing; they mean nothing where samples come as they stand.")
    if weights.shape != (size,) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
        raise DataError(
            f"batches: expected {size} weights of 0 or more, not all of them 0; read shape {weights.shape}, from "
            f"{weights.min(initial=np.inf):g} to {weights.max(initial=-np.inf):g}."
        )


def _order(encoded: Encoded, seed: int, epoch: int, weights: np.ndarray[Any, Any] | None = None) -> Any:
    """The order of an epoch, sliced as it is handed out; data that are not in memory have one that spares reading."""
    own = getattr(encoded, "order", None)
    return epoch_order(len(encoded), seed, epoch, weights) if own is None else own(seed, epoch, weights)


def _check(encoded: Encoded, batch_size: int) -> None:
    if batch_size < 1:
        raise DataError(f"the batch size is {batch_size}; expected at least 1.")
    if len(encoded) == 0:
        raise DataError("there are no samples to make batches of: this part of the data is empty.")
