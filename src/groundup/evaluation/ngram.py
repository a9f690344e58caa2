"""An n-gram model of tokens, as a baseline: interpolated modified Kneser-Ney, whole arrays at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from groundup.core.errors import DataError

Array = np.ndarray[Any, Any]

UNSEEN = -1


@dataclasses.dataclass(frozen=True)
class _Level:
    """The grams of one length: each is its context (the number of a shorter gram) and the token after it."""

    keys: Array
    """context * (V + 1) + token, sorted: a gram's number is its place here."""
    discounted: Array
    """Count of each gram less its discount."""
    totals: Array
    """Sum of counts by context."""
    left_over: Array
    """What the discounts leave for the shorter gram, by context."""

    def find(self, keys: Array, known: Array) -> Array:
        """Numbers of these grams, UNSEEN where train did not have one."""
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(known & (self.keys[place] == keys), place, UNSEEN)


@dataclasses.dataclass(frozen=True)
class NGram:
    """Probability of a token after the ``order - 1`` tokens before it in its document.

    Chen and Goodman 1999, section 3: three discounts a length, interpolated down to the uniform
    distribution, so that every token has a probability and all of them add up to exactly one.
    """

    vocab_size: int
    levels: tuple[_Level, ...]

    @classmethod
    def fit(cls, tokens: Array, starts: Array, order: int, vocab_size: int) -> NGram:
        """Count the grams of documents that begin at ``starts`` in ``tokens`` [N]; no gram crosses a border."""
        if not len(tokens):
            raise DataError("the n-gram model: there are no tokens to count.")
        stream, real = _padded(tokens, starts, order, vocab_size)
        numbers: list[Array] = []
        keys: list[Array] = []
        before = np.zeros(len(stream), dtype=np.int64)
        for _ in range(order):
            unique, numbered = np.unique(_keys(before, stream, vocab_size), return_inverse=True)
            keys.append(unique)
            numbers.append(numbered)
            before = numbered
        counts = np.bincount(numbers[-1][real], minlength=len(keys[-1]))
        levels = [_level(keys[-1], counts, vocab_size, len(keys[-2]) if order > 1 else 1)]
        for length in range(order - 1, 0, -1):
            counts = _continuations(numbers, length, counts, stream == vocab_size, real, len(keys[length - 1]))
            contexts = len(keys[length - 2]) if length > 1 else 1
            levels.append(_level(keys[length - 1], counts, vocab_size, contexts))
        return cls(vocab_size, tuple(reversed(levels)))

    def nats(self, tokens: Array, starts: Array) -> Array:
        """-ln p of each token [N] given those before it in its document."""
        stream, real = _padded(tokens, starts, len(self.levels), self.vocab_size)
        probability = np.full(len(stream), 1 / self.vocab_size)
        context = np.zeros(len(stream), dtype=np.int64)
        for level in self.levels:
            context_before = np.concatenate([[UNSEEN], context[:-1]]) if level is not self.levels[0] else context
            known = context_before != UNSEEN
            gram = level.find(_keys(context, stream, self.vocab_size), known)
            totals = np.where(known, level.totals[context_before], 0.0)
            own = np.where(gram != UNSEEN, level.discounted[gram], 0.0)
            mixed = (own + level.left_over[context_before] * probability) / np.where(totals > 0, totals, 1.0)
            probability = np.where(totals > 0, mixed, probability)
            context = gram
        found: Array = -np.log(probability[real])
        return found


def _padded(tokens: Array, starts: Array, order: int, pad: int) -> tuple[Array, Array]:
    """The documents with order - 1 pads before each, and where the real tokens stand."""
    document = np.searchsorted(starts, np.arange(len(tokens)), side="right")
    place = np.arange(len(tokens)) + document * (order - 1)
    stream = np.full(len(tokens) + len(starts) * (order - 1), pad, dtype=np.int64)
    stream[place] = tokens
    return stream, place


def _keys(numbers: Array, stream: Array, vocab_size: int) -> Array:
    """Each position's gram as one number: that of the gram before it, and the token."""
    before = np.concatenate([[0], numbers[:-1]])
    return before * (vocab_size + 1) + stream


def _continuations(numbers: list[Array], length: int, longer: Array, pads: Array, real: Array, size: int) -> Array:
    """For each gram of ``length`` how many different tokens come before it; where that is a border, how often it is.

    ``longer`` are the counts of grams one longer, ``real`` the positions that count.
    """
    occurrence = np.zeros(len(longer), dtype=np.int64)
    occurrence[numbers[length][real]] = real
    seen = occurrence[longer > 0]
    counts = np.bincount(numbers[length - 1][seen], minlength=size)
    first = real[pads[real - length + 1]] if length > 1 else real[:0]
    at_border = np.bincount(numbers[length - 1][first], minlength=size)
    found: Array = np.where(at_border > 0, at_border, counts)
    return found


def _level(keys: Array, counts: Array, vocab_size: int, num_contexts: int) -> _Level:
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    context = keys // (vocab_size + 1)
    return _Level(
        keys=keys,
        discounted=counts - discounts,
        totals=np.bincount(context, weights=counts, minlength=num_contexts),
        left_over=np.bincount(context, weights=discounts, minlength=num_contexts),
    )


def _discounts(counts: Array) -> Array:
    """What is taken from grams seen 0, 1, 2, and 3 or more times (Chen and Goodman 1999, equation 26).

    Where a formula has nothing to stand on (small vocabularies have no rare grams) one discount serves all.
    """
    once, twice, thrice, four = (int((counts == n).sum()) for n in (1, 2, 3, 4))
    share = once / (once + 2 * twice) if once and twice else 0.5
    if once and twice and thrice and four:
        found = np.array(
            [0.0, 1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four / thrice]
        )
        if (found[1:] > 0).all():
            return found
    return np.array([0.0, share, share, share])
