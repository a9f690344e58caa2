"""Steps on words of text: what a text becomes depends on (seed, epoch, row) alone.

A step has ``rewrite(words, rng)``. How many words change goes by their number l and ``alpha``: n = alpha * l, rounded
down, but at least 1. Protected words (see ``Words``) are neither replaced, moved nor removed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundup.core.errors import RecipeError
from groundup.data.augmentation.affine import need
from groundup.data.augmentation.synonyms import Synonyms, read_synonyms
from groundup.data.augmentation.words import STOP_WORDS, Words

MARKS = (".", ";", "?", ":", "!", ",")
CHINESE_MARKS = ("。", "；", "？", "：", "！", "，")


def _check(alpha: float, probability: float) -> None:
    need(0 <= alpha <= 1, "alpha", alpha, "0 to 1")
    need(0 <= probability <= 1, "probability", probability, "0 to 1")


@dataclasses.dataclass(frozen=True)
class SynonymReplacement:
    """Replace n words by one of their synonyms each; words of mere grammar stay. Wei and Zou 2019 (EDA), section 2.

    ``synonyms`` is a path as ``read_synonyms`` takes it: WordNet's folder or archive, or a table such as Cilin. n is
    ``alpha`` times the number of words, at least 1; with alpha 0 nothing changes. With 1 - ``probability`` a text
    stays as it is. ``protect`` lists words that stay.
    """

    synonyms: str
    alpha: float = 0.1
    probability: float = 1.0
    protect: Sequence[str] = ()
    folder: Path = Path()

    def __post_init__(self) -> None:
        _check(self.alpha, self.probability)

    def rewrite(self, words: Words, rng: np.random.Generator) -> Words:
        """The text with other words."""
        if not self.alpha or rng.uniform() >= self.probability:
            return words
        return replace_words(words.keeping(self.protect), self.known, how_many(self.alpha, words), rng)

    @functools.cached_property
    def known(self) -> Synonyms:
        """The synonyms, read when first needed."""
        return read_synonyms(self.synonyms, self.folder)


@dataclasses.dataclass(frozen=True)
class RandomInsertion:
    """Insert, n times, a synonym of a random word at a random place. Wei and Zou 2019 (EDA), section 2.

    The options are those of ``SynonymReplacement``.
    """

    synonyms: str
    alpha: float = 0.1
    probability: float = 1.0
    protect: Sequence[str] = ()
    folder: Path = Path()

    def __post_init__(self) -> None:
        _check(self.alpha, self.probability)

    def rewrite(self, words: Words, rng: np.random.Generator) -> Words:
        """The text with more words."""
        if not self.alpha or rng.uniform() >= self.probability:
            return words
        return insert_words(words.keeping(self.protect), self.known, how_many(self.alpha, words), rng)

    @functools.cached_property
    def known(self) -> Synonyms:
        """The synonyms, read when first needed."""
        return read_synonyms(self.synonyms, self.folder)


@dataclasses.dataclass(frozen=True)
class RandomSwap:
    """Let, n times, two random words change places. Wei and Zou 2019 (EDA), section 2.

    n is ``alpha`` times the number of words, at least 1. With 1 - ``probability`` a text stays as it is.
    """

    alpha: float = 0.1
    probability: float = 1.0
    protect: Sequence[str] = ()

    def __post_init__(self) -> None:
        _check(self.alpha, self.probability)

    def rewrite(self, words: Words, rng: np.random.Generator) -> Words:
        """The text with its words in another order."""
        if not self.alpha or rng.uniform() >= self.probability:
            return words
        return swap_words(words.keeping(self.protect), how_many(self.alpha, words), rng)


@dataclasses.dataclass(frozen=True)
class RandomDeletion:
    """Remove each word with probability ``alpha``, but never the last that is left. Wei and Zou 2019 (EDA), section 2.

    With 1 - ``probability`` a text stays as it is.
    """

    alpha: float = 0.1
    probability: float = 1.0
    protect: Sequence[str] = ()

    def __post_init__(self) -> None:
        _check(self.alpha, self.probability)

    def rewrite(self, words: Words, rng: np.random.Generator) -> Words:
        """The text with fewer words."""
        if not self.alpha or rng.uniform() >= self.probability:
            return words
        return delete_words(words.keeping(self.protect), self.alpha, rng)


@dataclasses.dataclass(frozen=True)
class EDA:
    """Easy data augmentation: one of replacement, insertion, swap and deletion, with equal chances. Wei and Zou 2019.

    The paper adds to each text so many changed ones that ``probability`` is 16/17 for 500 examples, 8/9 for 2,000 and
    4/5 beyond, with ``alpha`` 0.05, 0.05 and 0.1; here each epoch draws anew. The options are those of
    ``SynonymReplacement``.
    """

    synonyms: str
    alpha: float = 0.1
    probability: float = 0.9
    protect: Sequence[str] = ()
    folder: Path = Path()

    def __post_init__(self) -> None:
        _check(self.alpha, self.probability)

    def rewrite(self, words: Words, rng: np.random.Generator) -> Words:
        """The text after one of the four."""
        if not self.alpha or rng.uniform() >= self.probability:
            return words
        kept, num = words.keeping(self.protect), how_many(self.alpha, words)
        operation = int(rng.integers(4))
        if operation == 0:
            return replace_words(kept, self.known, num, rng)
        if operation == 1:
            return insert_words(kept, self.known, num, rng)
        return swap_words(kept, num, rng) if operation == 2 else delete_words(kept, self.alpha, rng)

    @functools.cached_property
    def known(self) -> Synonyms:
        """The synonyms, read when first needed."""
        return read_synonyms(self.synonyms, self.folder)


@dataclasses.dataclass(frozen=True)
class AEDA:
    """Insert 1 to a third of the words' number of punctuation marks before random words. Karimi et al. 2021.

    The marks are . ; ? : ! , or their Chinese forms in Chinese text; no word changes. With 1 - ``probability`` a text
    stays as it is.
    """

    probability: float = 0.9

    def __post_init__(self) -> None:
        need(0 <= self.probability <= 1, "probability", self.probability, "0 to 1")

    def rewrite(self, words: Words, rng: np.random.Generator) -> Words:
        """The text with more marks."""
        places = words.places
        if not places or rng.uniform() >= self.probability:
            return words
        num = int(rng.integers(1, max(1, len(places) // 3) + 1))
        marks = CHINESE_MARKS if words.chinese else MARKS
        pieces = list(words.pieces)
        for place in sorted(rng.permutation(places)[:num].tolist(), reverse=True):
            mark = marks[int(rng.integers(len(marks)))]
            pieces[place:place] = [mark] if words.chinese else [mark, " "]
        return words.with_pieces(pieces)


def rewrite_text(words: Words, augment: Sequence[Any], seed: int, epoch: int, row: int) -> Words:
    """A text after all steps, each drawing behind the one before it. RecipeError for a step that is none for text."""
    rng = np.random.default_rng([seed, epoch, row])
    for step in augment:
        if not hasattr(step, "rewrite"):
            raise RecipeError(
                f"augment: {type(step).__name__} has no rewrite(words, rng); text needs such a step. "
                "Is it for other data?"
            )
        words = step.rewrite(words, rng)
    return words


def how_many(alpha: float, words: Words) -> int:
    """n = alpha * l, rounded down, but at least 1."""
    return max(1, int(alpha * len(words.places)))


def replace_words(words: Words, synonyms: Synonyms, num: int, rng: np.random.Generator) -> Words:
    """At most ``num`` words replaced, each by a synonym of its own drawn evenly."""
    pieces, replaced = list(words.pieces), 0
    for place in rng.permutation(_meaningful(words)).tolist():
        if replaced == num:
            break
        choices = synonyms.of(pieces[place])
        if choices:
            chosen = choices[int(rng.integers(len(choices)))]
            pieces[place] = chosen[0].upper() + chosen[1:] if pieces[place][0].isupper() else chosen
            replaced += 1
    return words.with_pieces(pieces)


def insert_words(words: Words, synonyms: Synonyms, num: int, rng: np.random.Generator) -> Words:
    """``num`` synonyms inserted, each of a word of the text as it came; none where no word has any."""
    known = [place for place in _meaningful(words) if synonyms.of(words.pieces[place])]
    if not known:
        return words
    inserted: dict[int, list[str]] = {}
    places = words.places
    for _ in range(num):
        choices = synonyms.of(words.pieces[known[int(rng.integers(len(known)))]])
        slot = int(rng.integers(len(places) + 1))
        inserted.setdefault(slot, []).append(choices[int(rng.integers(len(choices)))])
    pieces: list[str] = []
    space = [] if words.chinese else [" "]
    slots = {place: slot for slot, place in enumerate(places)}
    for place, piece in enumerate(words.pieces):
        for word in inserted.get(slots.get(place, -1), ()):
            pieces += [word, *space]
        pieces.append(piece)
        if place == places[-1]:
            for word in inserted.get(len(places), ()):
                pieces += [*space, word]
    return words.with_pieces(pieces)


def swap_words(words: Words, num: int, rng: np.random.Generator) -> Words:
    """``num`` times two words change places."""
    free, pieces = words.free, list(words.pieces)
    if len(free) < 2:
        return words
    for _ in range(num):
        one, other = rng.choice(len(free), 2, replace=False)
        pieces[free[one]], pieces[free[other]] = pieces[free[other]], pieces[free[one]]
    return words.with_pieces(pieces)


def delete_words(words: Words, share: float, rng: np.random.Generator) -> Words:
    """Each word that is not protected removed with a probability, the space before it (or behind the first) too."""
    free = words.free
    gone = {place for place, draw in zip(free, rng.uniform(size=len(free)), strict=True) if draw < share}
    if gone and len(gone) == len(words.places):
        gone.remove(free[int(rng.integers(len(free)))])
    pieces: list[str] = []
    for place, piece in enumerate(words.pieces):
        if place in gone:
            if pieces and pieces[-1].isspace():
                pieces.pop()
        elif not (piece.isspace() and not pieces and gone):
            pieces.append(piece)
    return words.with_pieces(pieces)


def _meaningful(words: Words) -> list[int]:
    """The words that are neither protected nor mere grammar."""
    return [place for place in words.free if words.pieces[place].lower() not in STOP_WORDS]
