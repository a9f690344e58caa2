"""Texts as a person would leaf through them: lengths, languages, lines that come again, copies, broken characters."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset
from groundup.data.cleaning.duplicates import drop_near_duplicates
from groundup.data.inspection.columns import Numbers, describe_numbers, word_counts
from groundup.data.inspection.relations import drawn

MOST_TEXTS = 20_000
MOST_COMPARED = 5_000
SEEN_OF_EACH = 20_000
"""Characters of a text in which its language is looked for."""

SHORTEST_LINE = 12
"""Shorter lines come again in any text."""

BROKEN = re.compile("\ufffd|[ÃÂâ][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ¡-¿]")
"""The replacement character, and what UTF-8 looks like when it is read as Windows-1252."""

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
MARKUP = re.compile(r"</?(p|div|br|span|a|td|tr|li|ul|h[1-6]|img)\b[^>]*>|&(nbsp|amp|lt|gt|quot|#\d+);", re.IGNORECASE)

FUNCTION_WORDS: dict[str, frozenset[str]] = {
    "English": frozenset(
        [
            "the",
            "of",
            "and",
            "to",
            "in",
            "is",
            "that",
            "it",
            "was",
            "for",
            "with",
            "as",
            "be",
            "on",
            "not",
            "this",
            "are",
            "you",
            "but",
            "from",
            "have",
            "a",
            "i",
            "do",
            "no",
            "me",
            "my",
            "we",
            "he",
            "she",
            "they",
            "his",
            "her",
            "your",
            "if",
            "at",
            "by",
            "or",
            "so",
            "up",
            "an",
            "all",
            "will",
            "can",
            "just",
            "what",
            "when",
            "who",
            "had",
            "has",
            "been",
            "were",
            "there",
            "their",
        ]
    ),
    "German": frozenset(
        [
            "der",
            "die",
            "und",
            "das",
            "ist",
            "nicht",
            "ich",
            "sie",
            "es",
            "den",
            "mit",
            "von",
            "zu",
            "ein",
            "eine",
            "dem",
            "auf",
            "für",
            "sich",
            "auch",
        ]
    ),
    "French": frozenset(
        [
            "le",
            "la",
            "les",
            "de",
            "des",
            "et",
            "est",
            "un",
            "une",
            "dans",
            "que",
            "qui",
            "pour",
            "pas",
            "sur",
            "au",
            "avec",
            "il",
            "elle",
            "ce",
        ]
    ),
    "Spanish": frozenset(
        [
            "el",
            "la",
            "los",
            "las",
            "de",
            "que",
            "y",
            "en",
            "un",
            "una",
            "es",
            "no",
            "se",
            "por",
            "con",
            "para",
            "lo",
            "su",
            "al",
            "como",
        ]
    ),
    "Italian": frozenset(
        [
            "il",
            "la",
            "di",
            "che",
            "e",
            "un",
            "una",
            "per",
            "non",
            "è",
            "sono",
            "con",
            "del",
            "della",
            "le",
            "gli",
            "si",
            "in",
            "da",
            "come",
        ]
    ),
    "Portuguese": frozenset(
        [
            "o",
            "a",
            "os",
            "as",
            "de",
            "que",
            "e",
            "do",
            "da",
            "em",
            "um",
            "uma",
            "não",
            "para",
            "com",
            "se",
            "por",
            "no",
            "na",
            "mais",
        ]
    ),
    "Dutch": frozenset(
        [
            "de",
            "het",
            "een",
            "en",
            "van",
            "is",
            "dat",
            "niet",
            "in",
            "op",
            "te",
            "voor",
            "met",
            "zijn",
            "er",
            "maar",
            "ook",
            "aan",
            "die",
        ]
    ),
}
"""Language in Latin letters -> words that no text of it goes without."""

SCRIPTS = (
    ("HIRAGANA", "Japanese"), ("KATAKANA", "Japanese"), ("HANGUL", "Korean"), ("CJK", "Chinese"),
    ("CYRILLIC", "Cyrillic"), ("ARABIC", "Arabic"), ("HEBREW", "Hebrew"), ("GREEK", "Greek"), ("DEVANAGARI", "Hindi"),
    ("THAI", "Thai"), ("LATIN", "Latin"),
)  # fmt: skip
"""Beginning of a letter's Unicode name -> what the text is then called."""


@dataclasses.dataclass(frozen=True)
class Repeats:
    """Lines that stand in the texts three times or more."""

    lines: tuple[tuple[str, int], ...]
    """(line, how many times)."""
    share: float
    """Of all characters, how many stand in such lines, their first time set aside."""


@dataclasses.dataclass(frozen=True)
class Copies:
    """Texts that stand there more than once."""

    exact: int
    near: int
    """With those that are nearly alike."""
    compared: int
    """Texts among which near copies were looked for."""


@dataclasses.dataclass(frozen=True)
class Faults:
    """How many texts hold what should not be there."""

    broken: int
    """Characters that were decoded wrongly."""
    control: int
    markup: int
    empty: int


@dataclasses.dataclass(frozen=True)
class Texts:
    """What is known of a column of texts."""

    column: str
    rows: int
    seen: int
    """How many were read; the others were not drawn."""
    characters: Numbers
    words: Numbers
    total_characters: int
    distinct_characters: int
    languages: tuple[tuple[str, int], ...]
    repeats: Repeats
    copies: Copies
    faults: Faults
    extremes: tuple[tuple[str, int, str], ...]
    """(name, characters, beginning) of the shortest and the longest, from short to long."""


def describe_texts(dataset: Dataset, column: str) -> Texts:
    """Look at the texts of a column; missing ones count as empty."""
    some = drawn(dataset, MOST_TEXTS)
    texts = [text or "" for text in some.frame[column].to_list()]
    names = some.row_names()
    lengths = np.array([len(text) for text in texts], dtype=np.float64)
    words = word_counts(pl.Series(texts, dtype=pl.String)).to_numpy()
    characters: set[str] = set()
    for text in texts:
        characters |= set(text)
    lines, share = repeated_lines(texts)
    compared = drawn(some, MOST_COMPARED)
    near = 0
    if len(compared) > 1:
        looked = compared.with_frame(compared.frame, {column: "text"})
        near = len(drop_near_duplicates(column)(looked).pending)
    order = np.argsort(lengths, kind="stable").tolist()
    return Texts(
        column=column,
        rows=len(dataset),
        seen=len(texts),
        characters=describe_numbers(lengths),
        words=describe_numbers(words),
        total_characters=int(lengths.sum()),
        distinct_characters=len(characters),
        languages=tuple(Counter(language_of(text) for text in texts).most_common(8)),
        repeats=Repeats(lines, share),
        copies=Copies(len(texts) - len(set(texts)), near, len(compared)),
        faults=Faults(
            broken=sum(bool(BROKEN.search(text)) for text in texts),
            control=sum(bool(CONTROL.search(text)) for text in texts),
            markup=sum(bool(MARKUP.search(text)) for text in texts),
            empty=sum(not text.strip() for text in texts),
        ),
        extremes=tuple((names[i], len(texts[i]), texts[i][:160]) for i in [*order[:4], *order[4:][-4:]]),
    )


def language_of(text: str) -> str:
    """By its letters' script, and for Latin letters by the function words that it has most of; "unclear" for few."""
    head = text[:SEEN_OF_EACH]
    scripts: Counter[str] = Counter()
    for letter in head[:: max(1, len(head) // 400)]:
        if letter.isalpha():
            name = unicodedata.name(letter, "")
            scripts[next((said for begin, said in SCRIPTS if name.startswith(begin)), "other")] += 1
    if not scripts:
        return "no letters"
    if scripts["Japanese"] > 0.05 * scripts.total():
        return "Japanese"
    script = scripts.most_common(1)[0][0]
    if script != "Latin":
        return script
    words = re.findall(r"[^\W\d_]+", head.lower())
    votes = {name: sum(word in common for word in words) for name, common in FUNCTION_WORDS.items()}
    best = max(votes, key=lambda name: votes[name])
    second = max(count for name, count in votes.items() if name != best)
    if votes[best] < max(1, 0.03 * len(words)) or votes[best] == second:
        return "unclear"
    return best


def repeated_lines(texts: Sequence[str], most: int = 12) -> tuple[tuple[tuple[str, int], ...], float]:
    """((line, count), ...) of lines that come three times or more, and the share of characters that they repeat."""
    counts: Counter[str] = Counter()
    total = 0
    for text in texts:
        total += len(text)
        counts.update(line for raw in text.split("\n") if len(line := raw.strip()) >= SHORTEST_LINE)
    again = [(line, count) for line, count in counts.items() if count >= 3]
    again.sort(key=lambda item: (-(item[1] - 1) * len(item[0]), item[0]))
    share = sum((count - 1) * len(line) for line, count in again) / total if total else 0.0
    return tuple((line[:160], count) for line, count in again[:most]), share
