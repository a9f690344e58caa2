"""Documents as sets of hashed token runs, computed in bulk: what resemblance is measured on.

A token's hash is a polynomial of its bytes, so that it is a difference of two prefix sums; no token is ever a string.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

SIZE = 5
"""Tokens in one shingle."""

BYTES_AT_ONCE = 1 << 17
"""So that the arrays of one portion stay within a processor's cache; a longer document is a portion of its own."""

APART, INSIDE, BEGINS = range(3)
"""A byte that begins no token, one of a word, which begins a token where none stands before it, one that begins one."""


class Runs(NamedTuple):
    """The hashed runs of tokens of some documents, one document behind the other."""

    hashes: Array
    """uint64, in order of appearance, a run that stands twice is there twice."""
    offsets: Array
    """[documents + 1]: where each document's runs begin, and end."""
    sequences: Array
    """[documents] uint64: the hash of all of a document's tokens in their order, 0 where it has none."""


def _mixed(values: Array) -> Array:
    """The finishing step of splitmix64 (Steele, Lea, Flood 2014): each bit depends on all."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


FACTOR = 0x9E3779B97F4A7C15
INVERSE = pow(FACTOR, -1, 1 << 64)
PLACE_VALUES = _mixed(np.arange(1, 257, dtype=np.uint64) * np.uint64(FACTOR))
WHITE = b"\t\n\v\f\r "


def _table(inside: bytes, rest: bytes = b"") -> bytes:
    """What each byte of UTF-8 is to a tokenizer; ``rest`` are those that only go on with a character."""
    kinds = dict.fromkeys(range(256), BEGINS) | dict.fromkeys(WHITE + rest, APART) | dict.fromkeys(inside, INSIDE)
    return bytes(kinds[byte] for byte in range(256))


WORD = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
MARKS_APART = _table(WORD, bytes(range(0x80, 0xC0)))
WORDS_ALONE = _table(bytes(byte for byte in range(256) if byte not in WHITE))
VALUES = bytes(0 if byte in WHITE else byte for byte in range(256))
"""A byte's value in a hash."""


def shingles(texts: Sequence[str]) -> list[Array]:
    """For each text the sorted distinct 64-bit hashes of its runs of five tokens.

    A token is a word (ASCII letters, digits, underscore), any other ASCII mark, or one character beyond ASCII;
    white space only separates. A text of one to four tokens has one shingle, an empty one none.
    """
    found: list[Array] = []
    for runs in hashed_runs(texts):
        borders = runs.offsets.tolist()
        found += [_distinct(runs.hashes[a:b]) for a, b in itertools.pairwise(borders)]
    return found


def _distinct(values: Array) -> Array:
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def hashed_runs(texts: Iterable[str], size: int = SIZE, words: bool = False) -> Iterator[Runs]:
    """The hashed runs of ``size`` tokens, portion by portion. A text of fewer has one run of all its tokens.

    With ``words`` a token is whatever stands between white space.
    """
    for portion in _portions(texts):
        yield _runs(portion, size, WORDS_ALONE if words else MARKS_APART)


def _portions(texts: Iterable[str]) -> Iterator[list[bytes]]:
    portion: list[bytes] = []
    length = 0
    for text in texts:
        # A lone surrogate is no UTF-8; it still must hash the same each time.
        portion.append(text.encode("utf-8", "surrogatepass"))
        length += len(portion[-1])
        if length >= BYTES_AT_ONCE:
            yield portion
            portion, length = [], 0
    if portion:
        yield portion


def _runs(documents: list[bytes], size: int, kinds: bytes) -> Runs:
    content = b"\n".join(documents) + b"\n"
    ends = np.cumsum([len(document) + 1 for document in documents])
    starts, tokens = _token_hashes(content, kinds)
    borders = np.searchsorted(starts, np.concatenate([[0], ends]))
    first, counts = borders[:-1], np.diff(borders)
    padded = np.concatenate([tokens, np.zeros(size - 1, dtype=np.uint64)])
    runs = padded[: len(tokens)] * PLACE_VALUES[0]
    for k in range(1, size):
        runs += padded[k : k + len(tokens)] * PLACE_VALUES[k]
    short = np.flatnonzero((counts < size) & (counts > 0))
    for k in range(min(size - 1, int(counts[short].max(initial=0)))):  # what stands behind them is another document's
        those = short[counts[short] > k]
        whole = runs[first[those]] if k else np.zeros(len(those), dtype=np.uint64)
        runs[first[those]] = whole + tokens[first[those] + k] * PLACE_VALUES[128 + k]
    kept = np.where(counts >= size, counts - size + 1, np.minimum(counts, 1))
    offsets = np.concatenate([[0], np.cumsum(kept)])
    places = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], kept)
    return Runs(_mixed(runs[places]), offsets, _sequences(tokens, first, counts))


def _sequences(tokens: Array, first: Array, counts: Array) -> Array:
    place = (np.arange(len(tokens)) - np.repeat(first, counts)).astype(np.uint64)
    sums = _sums(_mixed(tokens ^ (place * np.uint64(FACTOR))))
    found = sums[first + counts] - sums[first]
    return np.where(counts > 0, _mixed(found + counts.astype(np.uint64)), np.uint64(0))


def _token_hashes(content: bytes, kinds: bytes) -> tuple[Array, Array]:
    """Where each token begins, and its hash: the sum of byte values times powers of a factor by place, mixed."""
    kind = np.frombuffer(content.translate(kinds), dtype=np.uint8)
    begins = kind == INSIDE
    begins[1:] &= kind[:-1] != INSIDE
    begins |= kind == BEGINS
    # A continuation byte after anything but its character cannot come from encoded text; it would only add to a hash.
    starts = np.flatnonzero(begins)
    borders = np.append(starts, len(content))
    values = np.frombuffer(content.translate(VALUES), dtype=np.uint8)
    cuts = np.unique(np.searchsorted(starts, np.arange(0, len(content), 2 * BYTES_AT_ONCE)))
    found = []
    for a, b in itertools.pairwise([*cuts.tolist(), len(starts)]):
        part = values[borders[a] : borders[b]]
        powers, inverses = _powers(len(part) + 1)
        sums = _sums(part * powers[: len(part)])
        found.append(np.diff(sums[borders[a : b + 1] - borders[a]]) * inverses[starts[a:b] - borders[a]])
    return starts, _mixed(np.concatenate([*found, np.empty(0, dtype=np.uint64)]))


def _sums(values: Array) -> Array:
    """[n + 1]: the sum of all values before each place, modulo 2^64."""
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values, out=sums[1:])
    return sums


def _powers(count: int) -> tuple[Array, Array]:
    """At least so many powers of the factor and of its inverse, modulo 2^64."""
    usual = 4 * BYTES_AT_ONCE
    return _usual_powers(usual) if count <= usual else (_powers_of(FACTOR, count), _powers_of(INVERSE, count))


@functools.lru_cache(maxsize=1)
def _usual_powers(count: int) -> tuple[Array, Array]:
    return _powers_of(FACTOR, count), _powers_of(INVERSE, count)


def _powers_of(factor: int, count: int) -> Array:
    values = np.full(count, factor, dtype=np.uint64)
    values[0] = 1
    return np.cumprod(values, dtype=np.uint64)
