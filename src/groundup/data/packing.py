"""Documents in sequences of one length: a stream of tokens, windows over it, and which tokens are learned.

Two ways to lay windows: ``cut_stream`` cuts the stream wherever a window is full, so that nothing is lost;
``fit_whole`` puts whole documents together, so that each is seen from its beginning.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groundup.core.errors import DataError

Array = np.ndarray[Any, Any]

MASKED = -100
"""The target that no loss counts, as in torch.nn.functional.cross_entropy."""

PADDING_DOCUMENT = -1
"""The document that padding belongs to: none sees it, and it sees none."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PackedSequences:
    """Documents one after another, and the windows of ``length`` tokens that a model sees.

    A window begins at ``begins[i]`` and shows the stream up to ``ends[i]``; behind that it is padding. The target
    of each token is the next one of its own document; it is masked where there is none, and where the next token is
    one of the first ``given`` of its document: those are a prompt, not to be learned.
    """

    tokens: Array
    """[N] int32: all documents, each closed by the end of text (unless it was too long and cut)."""
    starts: Array
    """[D] where each document begins in ``tokens``."""
    given: Array
    """[D] how many first tokens of each document are not learned; at least 1, as nothing comes before the first."""
    begins: Array
    ends: Array
    rows: Array
    """[S] the ``_row`` of the first document in each window."""
    length: int
    end_of_text: int
    texts: list[str]
    """The documents as text."""
    num_bytes: int
    """Bytes of UTF-8 that the targets stand for: what bits per byte divide by."""
    notes: tuple[str, ...] = ()
    """What was left out, and how much of it."""
    repeated: Array | None = None
    """[S] how many first tokens of each window are shown again, as context; their targets are masked."""

    def __len__(self) -> int:
        return len(self.begins)

    def __repr__(self) -> str:
        return f"{len(self)} sequences of {self.length}: {len(self.starts)} documents, {len(self.tokens):,} tokens"

    @property
    def num_targets(self) -> int:
        """Tokens that are learned: each of them once in an epoch."""
        lengths = np.diff(np.append(self.starts, len(self.tokens)))
        return int(np.maximum(lengths - self.given, 0).sum())

    def batch(
        self, positions: Array, augment: Sequence[Any] = (), seed: int = 0, epoch: int = 0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """``tokens`` and ``documents`` [B, T] int64; ``targets`` [B, T] int64, the next tokens, -100 where masked.

        Documents count from 0 in each window; padding is -1. Nothing is drawn; augmentation raises DataError.
        """
        if augment:
            raise DataError("text samples take no augmentation; leave data.augment out of the recipe.")
        place = self.begins[positions][:, None] + np.arange(self.length)
        shown = place < self.ends[positions][:, None]
        place = np.minimum(place, len(self.tokens) - 2)
        document = self._document(place)
        learned = shown & _is_target(self, place + 1)
        if self.repeated is not None:
            learned &= np.arange(self.length) >= self.repeated[positions][:, None]
        tokens = np.where(shown, self.tokens[place], self.end_of_text)
        targets = np.where(learned, self.tokens[place + 1], MASKED)
        documents = np.where(shown, document - document[:, :1], PADDING_DOCUMENT)
        return (
            {"tokens": _int64(tokens), "documents": _int64(documents)},
            {"targets": _int64(targets)},
        )

    def unlearned(self, documents: Sequence[int]) -> PackedSequences:
        """The same sequences, but nothing of these documents is learned; windows left without a target are gone."""
        lengths = np.diff(np.append(self.starts, len(self.tokens)))
        given = self.given.copy()
        given[list(documents)] = lengths[list(documents)]
        masked = dataclasses.replace(self, given=given)
        targets = [
            _is_target(masked, np.arange(b + 1, e + 1)).any() for b, e in zip(self.begins, self.ends, strict=True)
        ]
        kept = np.array(targets, dtype=bool)
        repeated = None if self.repeated is None else self.repeated[kept]
        return dataclasses.replace(
            masked, begins=self.begins[kept], ends=self.ends[kept], rows=self.rows[kept], repeated=repeated
        )

    def _document(self, place: Array) -> Array:
        return np.searchsorted(self.starts, place, side="right") - 1


def _is_target(packed: PackedSequences, place: Array) -> Array:
    """Whether the tokens at these places are learned. One that is stands behind another of its document."""
    document = packed._document(place)
    learned: Array = place - packed.starts[document] >= packed.given[document]
    return learned


def _int64(array: Array) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))


def cut_stream(lengths: Sequence[int], length: int) -> tuple[Array, Array]:
    """(begins, ends) of windows of ``length`` over documents that follow one another; the last may be shorter.

    The windows' targets, each one place further, are every token of the stream but the very first. A window without
    a target (one token long, on the last token of a document) is left out.
    """
    size = int(sum(lengths))
    begins = np.arange(0, max(size - 1, 0), length, dtype=np.int64)
    ends = np.minimum(begins + length, size - 1)
    starts = np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))])
    # Targets are the places after begin up to end, less those where a document starts.
    firsts = np.searchsorted(starts, ends, side="right") - np.searchsorted(starts, begins, side="right")
    useful = ends - begins > firsts
    return begins[useful], ends[useful]


def fit_whole(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Documents put together, none cut, to at most ``capacity`` tokens: best fit, the longest first.

    Gives the numbers of the documents in each window. At most 11/9 of the fewest windows possible, plus one (Johnson
    et al. 1974). ``lengths`` must not be larger than ``capacity``.
    """
    windows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, window), sorted
    for document in np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        need = int(lengths[document])
        found = bisect.bisect_left(room, (need, -1))
        if found < len(room):
            left, window = room.pop(found)
        else:
            left, window = capacity, len(windows)
            windows.append([])
        windows[window].append(document)
        bisect.insort(room, (left - need, window))
    return windows
