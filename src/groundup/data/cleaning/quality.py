"""Rules that keep prose and drop the rest, with the thresholds that were published for them.

Each is made for web pages in English. Each threshold is an argument, and false switches its rule off. In Chinese and
Japanese a character counts as a word, and rules about the length of words, or which words, do not apply.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import polars as pl

from groundup.core.contract import Contract
from groundup.core.dataset import Dataset
from groundup.data.cleaning.removing import without
from groundup.data.cleaning.text import text_column
from groundup.data.cleaning.words import END_MARKS, is_spaceless, lines_of, sentences_in, words_of

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
BULLETS = ("•", "‣", "●", "▪", "◦", "·", "-", "*", "–")
ELLIPSES = ("...", "…")

Reasons = Iterator[str]


@dataclasses.dataclass(frozen=True)
class gopher_quality:
    """Drops documents that are no prose by the rules of Gopher (Rae et al. 2021, appendix A.1.1, "quality filtering").

    Kept are those of ``min_words`` to ``max_words`` words, with a mean word of ``min_mean_word_length`` to
    ``max_mean_word_length`` characters, at most ``max_symbols_per_word`` hashes, and as many ellipses, a word, at most
    ``max_bullet_lines`` of the lines with a bullet before and ``max_ellipsis_lines`` with an ellipsis behind them, at
    least ``min_alphabetic_words`` of the words with a letter, and ``min_stop_words`` of the ``stop_words``. Words stand
    between white space; lines have something on them. The first rule that fails is the reason, with what was measured.
    """

    column: str = "text"
    min_words: int | None = 50
    max_words: int | None = 100_000
    min_mean_word_length: float | None = 3.0
    max_mean_word_length: float | None = 10.0
    max_symbols_per_word: float | None = 0.1
    max_bullet_lines: float | None = 0.9
    max_ellipsis_lines: float | None = 0.3
    min_alphabetic_words: float | None = 0.8
    min_stop_words: int | None = 2
    stop_words: Sequence[str] = STOP_WORDS

    CONTRACT: ClassVar[Contract] = "row-local"

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without documents that fail a rule."""
        return _judged(dataset, self.column, "gopher_quality", self.reasons)

    def reasons(self, text: str) -> Reasons:
        """What speaks against a document, rule by rule."""
        words, spaceless = words_of(text), is_spaceless(text)
        count = len(words)
        yield from _bounds("words", count, self.min_words, self.max_words)
        if not count:
            return
        if not spaceless:
            length = sum(map(len, words)) / count
            yield from _bounds("mean word length", length, self.min_mean_word_length, self.max_mean_word_length)
        yield from _bounds("hashes per word", text.count("#") / count, None, self.max_symbols_per_word)
        ellipses = sum(map(text.count, ELLIPSES)) / count
        yield from _bounds("ellipses per word", ellipses, None, self.max_symbols_per_word)
        lines = lines_of(text)
        yield from _bounds("bullet lines", _share(lines, lambda x: x.startswith(BULLETS)), None, self.max_bullet_lines)
        ends = _share(lines, lambda line: line.endswith(ELLIPSES))
        yield from _bounds("ellipsis lines", ends, None, self.max_ellipsis_lines)
        letters = _share(words, lambda word: any(map(str.isalpha, word)))
        yield from _bounds("alphabetic words", letters, self.min_alphabetic_words, None)
        if not spaceless:
            present = {word.strip(".,;:!?\"'()").lower() for word in words} & set(self.stop_words)
            yield from _bounds("stop words", len(present), self.min_stop_words, None)


TOP_NGRAMS = {2: 0.20, 3: 0.18, 4: 0.16}
REPEATED_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


@dataclasses.dataclass(frozen=True)
class gopher_repetition:
    """Drops documents that repeat themselves, by the rules of Gopher (Rae et al. 2021, table A1).

    Shares of the lines, and of their characters, that stood before in the document, the same for paragraphs; of the
    characters of words those in the most frequent run of n words, n = 2, 3, 4 (``top_ngrams``, by default at most
    0.20, 0.18, 0.16), and those in runs of n = 5 to 10 that stood before (``repeated_ngrams``, 0.15 down to 0.10), each
    character counted once. White space counts nowhere. In Chinese and Japanese runs are of characters, where a pair or
    four of them are a word or two: there the top runs are not judged.
    """

    column: str = "text"
    max_repeated_lines: float | None = 0.30
    max_repeated_paragraphs: float | None = 0.30
    max_repeated_line_characters: float | None = 0.20
    max_repeated_paragraph_characters: float | None = 0.20
    top_ngrams: Sequence[float] | None = tuple(TOP_NGRAMS.values())
    repeated_ngrams: Sequence[float] | None = tuple(REPEATED_NGRAMS.values())

    CONTRACT: ClassVar[Contract] = "row-local"

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without documents that fail a rule."""
        return _judged(dataset, self.column, "gopher_repetition", self.reasons)

    def reasons(self, text: str) -> Reasons:
        """What speaks against a document, rule by rule."""
        for what, pieces, most, most_characters in (
            ("lines", lines_of(text), self.max_repeated_lines, self.max_repeated_line_characters),
            (
                "paragraphs",
                [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()],
                self.max_repeated_paragraphs,
                self.max_repeated_paragraph_characters,
            ),
        ):
            number, characters = _repeated(pieces)
            yield from _bounds(f"repeated {what}", number, None, most)
            yield from _bounds(f"characters in repeated {what}", characters, None, most_characters)
        words = words_of(text)
        lengths = np.array([len(word) for word in words], dtype=np.int64)
        top = dict(zip(TOP_NGRAMS, self.top_ngrams or (), strict=bool(self.top_ngrams)))
        repeated = dict(zip(REPEATED_NGRAMS, self.repeated_ngrams or (), strict=bool(self.repeated_ngrams)))
        spaceless = is_spaceless(text)
        for n, runs in _runs(words, max(REPEATED_NGRAMS)):
            if n in top and not spaceless:
                yield from _bounds(f"characters in the top {n}-gram", _in_top(runs, lengths, n), None, top[n])
            if n in repeated:
                yield from _bounds(
                    f"characters in repeated {n}-grams", _in_repeated(runs, lengths, n), None, repeated[n]
                )


POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")


@dataclasses.dataclass(frozen=True)
class c4_quality:
    """Keeps lines and pages by the rules of C4 (Raffel et al. 2020, section 2.2, and its code for what is open there).

    Lines stay that end in a mark (. ? ! " and those of Chinese), but for an ellipsis, have ``min_words_per_line``
    words, none longer than ``max_word_length``, and speak neither of Javascript nor of cookies, privacy policy and
    terms of use (``boilerplate``); citation marks such as [1] go. A page goes that holds "lorem ipsum" or a curly
    bracket, or of which fewer than ``min_sentences`` sentences stay. Paper and code say 3 sentences and 5 words (an
    early version of the paper, and code after it, 5 and 3). Its list of bad words is not among this.
    """

    column: str = "text"
    min_words_per_line: int | None = 5
    min_sentences: int | None = 3
    max_word_length: int | None = 1000
    end_marks: bool = True
    boilerplate: bool = True
    citations: bool = True
    curly_brackets: bool = True
    lorem_ipsum: bool = True

    CONTRACT: ClassVar[Contract] = "row-local"

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset with the lines that stay, without pages that fail a rule."""
        texts = text_column(dataset, self.column, "c4_quality")
        reasons: dict[int, str] = {}
        kept: list[str | None] = []
        for i, text in enumerate(texts):
            reason, lines = self.judged(text or "")
            if reason:
                reasons[i] = f"c4_quality {reason}"
            kept.append(None if text is None else text if reason else "\n".join(lines))
        dataset = dataset.with_frame(dataset.frame.with_columns(pl.Series(self.column, kept, dtype=pl.String)))
        return without(dataset, reasons)

    def judged(self, text: str) -> tuple[str | None, list[str]]:
        """(why the page goes, the lines that stay)."""
        lowered = text.lower()
        if self.lorem_ipsum and "lorem ipsum" in lowered:
            return "lorem ipsum: it is there", []
        if self.curly_brackets and "{" in text:
            return "curly bracket: it is there", []
        lines = [line for line in map(self._line, lines_of(text)) if line]
        sentences = sum(map(sentences_in, lines))
        return next(_bounds("sentences", sentences, self.min_sentences, None), None), lines

    def _line(self, line: str) -> str:
        """The line as it stays, or nothing."""
        if self.citations:
            line = CITATION.sub("", line).rstrip()
        words = words_of(line)
        if self.max_word_length and any(len(word) > self.max_word_length for word in words):
            return ""
        if self.end_marks and (not line.endswith(END_MARKS) or line.endswith("...")):
            return ""
        if self.min_words_per_line and len(words) < self.min_words_per_line:
            return ""
        lowered = line.lower()
        if self.boilerplate and ("javascript" in lowered or any(phrase in lowered for phrase in POLICY)):
            return ""
        return line


@dataclasses.dataclass(frozen=True)
class fineweb_quality:
    """Drops documents that are lists and templates, by the rules that FineWeb adds (Penedo et al. 2024, section 3.6).

    Of the lines at least more than ``min_end_mark_lines`` must end in a mark, less than ``max_short_lines`` have at
    most ``short_line_characters`` characters (in Chinese and Japanese half of that), of the characters less than
    ``max_repeated_line_characters`` stand in lines that stood before, and there are at most ``max_newlines_per_word``.
    Thresholds are those of the paper, and that of new lines its code's (datatrove) alone; there repeated lines may have
    0.01. FineWeb applies ``gopher_quality``, ``gopher_repetition`` and ``c4_quality(end_marks=False)`` before.
    """

    column: str = "text"
    min_end_mark_lines: float | None = 0.12
    max_short_lines: float | None = 0.67
    short_line_characters: int = 30
    max_repeated_line_characters: float | None = 0.1
    max_newlines_per_word: float | None = 0.3

    CONTRACT: ClassVar[Contract] = "row-local"

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without documents that fail a rule."""
        return _judged(dataset, self.column, "fineweb_quality", self.reasons)

    def reasons(self, text: str) -> Reasons:
        """What speaks against a document, rule by rule."""
        lines = lines_of(text)
        if not lines:
            yield "lines: 0 with anything on them"
            return
        ends = _share(lines, lambda line: line.endswith(END_MARKS))
        if self.min_end_mark_lines is not None and ends <= self.min_end_mark_lines:
            yield f"end-mark lines: {ends:.3g}, not above {self.min_end_mark_lines:g}"
        few = self.short_line_characters // (2 if is_spaceless(text) else 1)
        short = _share(lines, lambda line: len(line) <= few)
        if self.max_short_lines is not None and short >= self.max_short_lines:
            yield f"short lines: {short:.3g}, not below {self.max_short_lines:g}"
        repeated = _repeated(lines)[1]
        most = self.max_repeated_line_characters
        if most is not None and repeated >= most:
            yield f"characters in repeated lines: {repeated:.3g}, not below {most:g}"
        newlines = text.strip().count("\n") / max(1, len(words_of(text)))
        yield from _bounds("newlines per word", newlines, None, self.max_newlines_per_word)


def _judged(dataset: Dataset, column: str, by: str, reasons: Callable[[str], Reasons]) -> Dataset:
    """The dataset without the documents against which anything speaks; the first that does is the reason."""
    found: dict[int, str] = {}
    for i, text in enumerate(text_column(dataset, column, by)):
        reason = next(reasons(text or ""), None)
        if reason:
            found[i] = f"{by} {reason}"
    return without(dataset, found)


def _bounds(what: str, measured: float, least: float | None, most: float | None) -> Reasons:
    if least is not None and measured < least:
        yield f"{what}: {measured:.3g}, below {least:g}"
    if most is not None and measured > most:
        yield f"{what}: {measured:.3g}, above {most:g}"


def _share(items: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, items)) / max(1, len(items))


def _repeated(pieces: Sequence[str]) -> tuple[float, float]:
    """The share of pieces, and of their characters, that stood before."""
    seen: set[str] = set()
    number = characters = 0
    for piece in pieces:
        if piece in seen:
            number += 1
            characters += len(piece)
        seen.add(piece)
    return number / max(1, len(pieces)), characters / max(1, sum(map(len, pieces)))


def _runs(words: Sequence[str], longest: int) -> Iterator[tuple[int, Any]]:
    """(n, for each place the number of the run of n words that begins there), while any run stands twice."""
    known: dict[str, int] = {}
    numbers = np.array([known.setdefault(word, len(known)) for word in words], dtype=np.int64)
    runs = numbers
    for n in range(2, min(longest, len(words)) + 1):
        distinct, runs = np.unique(runs[:-1] * len(known) + numbers[n - 1 :], return_inverse=True)
        if len(distinct) == len(runs):
            return
        yield n, runs


def _in_top(runs: Any, lengths: Any, n: int) -> float:
    """The share of characters in the most frequent run; of equally frequent ones in the longest, then the first."""
    counts = np.bincount(runs)
    weight = np.zeros(len(counts), dtype=np.int64)
    weight[runs] = np.convolve(lengths, np.ones(n, dtype=np.int64), mode="valid")
    weight = np.where(counts == counts.max(), weight, -1)
    top = runs[np.argmax(weight[runs])]
    return _covered(np.flatnonzero(runs == top), lengths, n)


def _in_repeated(runs: Any, lengths: Any, n: int) -> float:
    first = np.zeros(len(runs), dtype=bool)
    first[np.unique(runs, return_index=True)[1]] = True
    return _covered(np.flatnonzero(~first), lengths, n)


def _covered(starts: Any, lengths: Any, n: int) -> float:
    """The share of characters in these runs, each counted once."""
    marks = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.add.at(marks, starts, 1)
    np.add.at(marks, starts + n, -1)
    inside = np.cumsum(marks[:-1]) > 0
    return float(lengths[inside].sum() / max(1, lengths.sum()))
