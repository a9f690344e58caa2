"""How labelled texts become numbers: by words that train has, or by the tokens of a published model."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from groundup.core.preprocessing import as_tensor
from groundup.data.augmentation.words import Words
from groundup.data.tokenizer_file import TokenizerFile

Array = np.ndarray[Any, Any]

PADDING, UNKNOWN, RESERVED = 0, 1, 2
"""What fills a text up to the common length, a word that train did not have, and the first word's number."""

BAG = 2000
"""So many words are counted for what is no network."""


class WordsOfTrain:
    """Words and signs by their place in train's vocabulary; a strange one by one of so many buckets, if there are."""

    def __init__(self, words: Sequence[str], buckets: int) -> None:
        self.words, self.buckets = words, buckets
        self.size = RESERVED + len(words) + buckets
        self.unit = "words"
        self.frequent = np.arange(RESERVED, RESERVED + min(BAG, len(words)))
        """Numbers of the most frequent ones, which come first."""

    def number(self, texts: Sequence[Words], length: int) -> tuple[list[Array], list[int]]:
        """The numbers of each text, cut to ``length``, and how many there were; one without words is an unknown one."""
        first = RESERVED + len(self.words)
        found = ([self._numbers.get(t) or _strange(t, first, self.buckets) for t in tokens_of(text)] for text in texts)
        whole = [np.array(numbers or [UNKNOWN], dtype=np.int64) for numbers in found]
        return [numbers[:length] for numbers in whole], [len(numbers) for numbers in whole]

    def inputs(self, numbers: Array, lengths: Array) -> dict[str, Tensor]:
        """``inputs`` [B, T] int64: a model tells padding by its number."""
        return {"inputs": as_tensor(numbers)}

    def spell(self, numbers: Array) -> list[str]:
        """The words of numbers [N]."""
        places = (numbers - RESERVED).tolist()
        return [self.words[place] if 0 <= place < len(self.words) else "<unknown>" for place in places]

    def notes(self, texts: Sequence[Words], numbers: Array) -> list[str]:
        """How many words train did not have."""
        tokens = [token for text in texts for token in tokens_of(text)]
        strange = sum(token not in self._numbers for token in tokens)
        return [f"{strange} of {len(tokens)} words are not in train's vocabulary"] if strange else []

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: RESERVED + i for i, word in enumerate(self.words)}


class PublishedTokens:
    """Tokens of a published tokenizer, with those that it puts around a text."""

    def __init__(self, tokenizer: TokenizerFile, frequent: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.size, self.unit = tokenizer.vocab_size, "tokens"
        self.frequent = np.array(frequent, dtype=np.int64)

    def number(self, texts: Sequence[Words], length: int) -> tuple[list[Array], list[int]]:
        """The tokens of each text, cut to ``length`` so that those around it stay, and how many there were."""
        return self.tokenizer.encode_framed([text.text for text in texts], length)

    def inputs(self, numbers: Array, lengths: Array) -> dict[str, Tensor]:
        """``tokens`` [B, T] int64, T that of the longest text among them, and ``lengths`` [B] int64."""
        return {"tokens": as_tensor(numbers[:, : max(1, lengths.max(initial=1))]), "lengths": as_tensor(lengths)}

    def spell(self, numbers: Array) -> list[str]:
        """The tokens of numbers [N]."""
        return self.tokenizer.spell(numbers.tolist())

    def notes(self, texts: Sequence[Words], numbers: Array) -> list[str]:
        """How many of the tokens [n] are unknown to the tokenizer."""
        unknown = self.tokenizer.unknown
        count = 0 if unknown is None else int((numbers == unknown).sum())
        return [f"{count} tokens are unknown to the tokenizer"] if count else []


def tokens_of(words: Words) -> list[str]:
    """Words and signs in lower case, without the white space between them."""
    return [piece.lower() for piece in words.pieces if not piece.isspace()]


def _strange(word: str, first: int, buckets: int) -> int:
    """The number of a word that train did not have: one of the buckets, which begin at ``first``, where there are."""
    return first + zlib.crc32(word.encode("utf-8", "surrogatepass")) % buckets if buckets else UNKNOWN
