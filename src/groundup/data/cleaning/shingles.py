"""Documents as sets of hashed token runs, computed in bulk: what resemblance is measured on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SIZE = 5
"""Tokens in one shingle."""

BYTES_AT_ONCE = 1_000_000
SPACE, WORD, MARK, LEAD, REST = range(5)


def _classes() -> Array:
    """What each byte of UTF-8 is: white space, of a word, a mark, the first byte of a longer character, or its rest."""
    kind = np.full(256, MARK, dtype=np.uint8)
    kind[[9, 10, 11, 12, 13, 32]] = SPACE
    kind[[*range(48, 58), *range(65, 91), *range(97, 123), 95]] = WORD
    kind[0x80:0xC0] = REST
    kind[0xC0:] = LEAD
    return kind


CLASSES = _classes()


def _mixed(values: Array) -> Array:
    """The finishing step of splitmix64 (Steele, Lea, Flood 2014): each bit depends on all."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = values ^ (values >> np.uint64(31))
    return mixed


FACTOR = np.uint64(0x9E3779B97F4A7C15)
BYTE_VALUES = _mixed(np.arange(1, 257, dtype=np.uint64) * FACTOR)


def shingles(texts: Sequence[str]) -> list[Array]:
    """For each text the sorted distinct 64-bit hashes of its runs of five tokens.

    A token is a word (ASCII letters, digits, underscore), any other ASCII mark, or one character beyond ASCII;
    white space only separates. A text of one to four tokens has one shingle, an empty one none.
    """
    found: list[Array] = []
    for part in _portions(texts):
        found.extend(_portion(part))
    return found


def _portions(texts: Sequence[str]) -> Iterator[list[bytes]]:
    portion: list[bytes] = []
    size = 0
    for text in texts:
        # A lone surrogate is no UTF-8; it still must hash the same each time.
        portion.append(text.encode("utf-8", "surrogatepass"))
        size += len(portion[-1])
        if size >= BYTES_AT_ONCE:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _portion(documents: list[bytes]) -> list[Array]:
    content = np.frombuffer(b"\n".join(documents) + b"\n", dtype=np.uint8)
    ends = np.cumsum([len(document) + 1 for document in documents])
    starts, tokens = _token_hashes(content)
    first = np.searchsorted(starts, np.concatenate([[0], ends]))
    # A run that begins in one document and ends in the next is cut away below, by its start.
    padded = np.concatenate([tokens, np.zeros(SIZE - 1, dtype=np.uint64)])
    runs = np.zeros(len(tokens), dtype=np.uint64)
    for k in range(SIZE):
        runs += padded[k : k + len(tokens)] * BYTE_VALUES[k]
    runs = _mixed(runs)
    found: list[Array] = []
    for begin, end in zip(first[:-1].tolist(), first[1:].tolist(), strict=True):
        if end - begin >= SIZE:
            found.append(np.unique(runs[begin : end - SIZE + 1]))
        elif end > begin:
            found.append(_mixed(np.array([_whole(tokens[begin:end])], dtype=np.uint64)))
        else:
            found.append(np.empty(0, dtype=np.uint64))
    return found


def _whole(tokens: Array) -> np.uint64:
    weighted: np.uint64 = (tokens * BYTE_VALUES[16 : 16 + len(tokens)]).sum(dtype=np.uint64)
    return weighted


def _token_hashes(content: Array) -> tuple[Array, Array]:
    """Where each token begins, and its hash: the sum of byte values times powers of a factor by place, mixed."""
    kind = CLASSES[content]
    before = np.concatenate([[np.uint8(SPACE)], kind[:-1]])
    begins = ((kind == WORD) & (before != WORD)) | (kind == MARK) | (kind == LEAD)
    # A continuation byte after anything but its character cannot come from encoded text; it would only add to a hash.
    starts = np.flatnonzero(begins)
    if len(starts) == 0:
        return starts, np.empty(0, dtype=np.uint64)
    number = np.cumsum(begins) - 1
    place = np.arange(len(content)) - starts[np.maximum(number, 0)]
    inside = (kind != SPACE) & (number >= 0)
    place = np.where(inside, place, 0)
    powers = np.cumprod(np.full(int(place.max()) + 1, FACTOR, dtype=np.uint64), dtype=np.uint64)
    values = np.where(inside, BYTE_VALUES[content] * powers[place], np.uint64(0))
    return starts, _mixed(np.add.reduceat(values, starts))
