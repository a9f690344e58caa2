"""Training text that holds a benchmark's questions: found by what thirteen words in a row they share."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from groundup.core.contract import Contract, State
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.cleaning.removing import Names, without
from groundup.data.cleaning.shingles import hashed_runs
from groundup.data.cleaning.text import text_column

Array = np.ndarray[Any, Any]

PUNCTUATION = string.punctuation.encode()
MARKS = re.compile(r"[^\w\s]|_")
ONE_BY_ONE = re.compile(r"([\u2e80-\u2fff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
"""Characters of scripts that put no space between words; each counts as a word."""

FEWEST_WORDS = 8
"""A benchmark's line of fewer words is not looked for: it may stand anywhere by chance (Brown et al. 2020)."""


MOST_WORDS = 100


class Hits(NamedTuple):
    """One line of a benchmark that stands in the training text."""

    line: int
    """Its number in the file, from 1."""
    text: str
    documents: int
    """How many documents hold some of it."""
    share: float
    """How much of its runs of words any of these holds, from 0 to 1."""


@dataclasses.dataclass(frozen=True)
class drop_contaminated:
    """Drops documents that share a run of ``words`` words with a line of the benchmark in ``file``.

    As in the data of GPT-3 (Brown et al. 2020, appendix C): lower case, punctuation removed, words between white
    space, runs of 13; a line of 8 to 12 words is looked for whole, a shorter one not at all. A run that stands in more
    than ``most_documents`` documents is taken for a common phrase and passed over. In Chinese and Japanese each
    character counts as a word. ``file`` has one text a line, or, as .jsonl, one object: its strings together, or
    those of ``fields``. A relative path starts at the recipe's folder. Whole documents go, where GPT-3 cut out a
    window: split books into chapters before. Raises DataError when the file cannot be read or no line has 8 words.
    """

    file: Path
    column: str = "text"
    words: int = 13
    most_documents: int = 10
    fields: Sequence[str] = ()
    folder: Path = Path()

    CONTRACT: ClassVar[Contract] = "pairwise"

    def __post_init__(self) -> None:
        if not FEWEST_WORDS <= self.words <= MOST_WORDS:
            raise DataError(f"drop_contaminated: words is {self.words}; expected {FEWEST_WORDS} to {MOST_WORDS}.")

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without contaminated documents; the ledger notes which lines were found."""
        found = [self.signature(dataset)]
        hits, short = self.hits(found), len(self.grams.short)
        notes = [f"{len(hits)} of {len(self.grams.lines) - short} lines of {self.file} stand in the data"]
        notes += [f"{short} lines have fewer than {FEWEST_WORDS} words and were not looked for"] if short else []
        notes += [f"line {hit.line} stands in {hit.documents} documents, {hit.share:.0%} of it" for hit in hits[:20]]
        return without(dataset, self.removed(found)[0]).note(*notes)

    @functools.cached_property
    def grams(self) -> Grams:
        """The benchmark's runs of words."""
        return read_benchmark(self.folder / Path(self.file).expanduser(), self.words, tuple(self.fields))

    def signature(self, shard: Dataset) -> State:
        """The hits alone: ``rows`` [m] and ``grams`` [m], and the rows' ``names``."""
        texts = [text or "" for text in text_column(shard, self.column, "drop_contaminated")]
        rows, grams = self.grams.found_in(texts)
        return {"rows": rows, "grams": grams, "names": shard.row_names()}

    def removed(self, signatures: list[State]) -> list[dict[int, str]]:
        """For each shard: position -> "contaminated: ..." with the line and how much of it the document holds."""
        names = Names([one["names"] for one in signatures])
        rows, grams = self._counted(signatures)
        taken, lines = self.grams.lines_with(grams)
        pairs, counts = np.unique(np.stack([rows[taken], lines], axis=1), axis=0, return_counts=True)
        reasons: dict[int, str] = {}
        for k in np.lexsort((-pairs[:, 1], counts)).tolist():  # the line with most runs is written last, and stays
            line = self.grams.lines[pairs[k, 1]][0]
            of = f"{counts[k]} runs of {self.words} words as in line {line} of {Path(self.file).name}"
            reasons[int(pairs[k, 0])] = f"contaminated: {of}"
        return names.by_shard(reasons)

    def hits(self, signatures: list[State]) -> list[Hits]:
        """For each line of the benchmark that was found: in how many documents, and how much of it."""
        rows, grams = self._counted(signatures)
        taken, lines = self.grams.lines_with(grams)
        found = []
        for number in np.unique(lines).tolist():
            those = taken[lines == number]
            share = len(np.unique(grams[those])) / len(self.grams.of_lines[number])
            line, text = self.grams.lines[number]
            found.append(Hits(line, text, len(np.unique(rows[those])), share))
        return found

    def _counted(self, signatures: list[State]) -> tuple[Array, Array]:
        """All hits, rows numbered through all shards, without those of common phrases."""
        starts = Names([one["names"] for one in signatures]).starts
        rows = np.concatenate([one["rows"] + start for one, start in zip(signatures, starts, strict=True)])
        grams = np.concatenate([one["grams"] for one in signatures])
        rare = np.bincount(grams, minlength=1)[grams] <= self.most_documents
        return rows[rare], grams[rare]


@dataclasses.dataclass(frozen=True)
class Grams:
    """A benchmark's lines as hashed runs of words."""

    lines: list[tuple[int, str]]
    of_lines: list[Array]
    """For each line the numbers of its distinct runs; none for one that is too short."""
    sizes: dict[int, tuple[Array, Array]]
    """Words in a run -> (hashes, sorted; the number of each)."""

    @property
    def short(self) -> list[int]:
        """The numbers in the file of lines that are too short to be looked for."""
        return [line for (line, _), own in zip(self.lines, self.of_lines, strict=True) if not len(own)]

    def found_in(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """(positions of texts [m], numbers of runs [m]): each run that a text holds, once for each text."""
        pairs = [np.empty((0, 2), dtype=np.int64)]
        for size, (hashes, numbers) in self.sizes.items():
            start = 0
            for runs in hashed_runs(map(normalised, texts), size, words=True):
                place = np.minimum(np.searchsorted(hashes, runs.hashes), len(hashes) - 1)
                hit = np.flatnonzero(hashes[place] == runs.hashes)
                row = np.searchsorted(runs.offsets, hit, side="right") - 1 + start
                pairs.append(np.stack([row, numbers[place[hit]]], axis=1))
                start += len(runs.offsets) - 1
        found = np.unique(np.concatenate(pairs), axis=0)
        return found[:, 0], found[:, 1]

    def lines_with(self, grams: Array) -> tuple[Array, Array]:
        """(places in ``grams`` [m], numbers of lines [m]): each line that a run stands in."""
        owned = np.concatenate(self.of_lines)
        line = np.repeat(np.arange(len(self.of_lines)), [len(own) for own in self.of_lines])
        order = np.argsort(owned, kind="stable")
        first = np.searchsorted(owned[order], grams, side="left")
        counts = np.searchsorted(owned[order], grams, side="right") - first
        taken = np.repeat(np.arange(len(grams)), counts)
        behind = np.arange(len(taken)) - np.repeat(np.cumsum(counts) - counts, counts)
        return taken, line[order][first[taken] + behind]


def normalised(text: str) -> str:
    """Lower case without punctuation; characters of scripts without spaces stand apart."""
    if text.isascii():
        return text.lower().encode().translate(None, PUNCTUATION).decode()
    return ONE_BY_ONE.sub(r" \1 ", MARKS.sub("", text.lower()))


def read_benchmark(file: Path, words: int = 13, fields: tuple[str, ...] = ()) -> Grams:
    """The runs of words of each line. Raises DataError when the file cannot be read or has no line of 8 words."""
    lines = list(_lines(file, fields))
    lengths = [len(normalised(text).split()) for _, text in lines]
    sizes: dict[int, tuple[Array, Array]] = {}
    of_lines = [np.empty(0, dtype=np.int64) for _ in lines]
    count = 0
    for size in sorted({min(length, words) for length in lengths if length >= FEWEST_WORDS}):
        chosen = [i for i, length in enumerate(lengths) if min(length, words) == size]
        parts = list(hashed_runs([normalised(lines[i][1]) for i in chosen], size, words=True))
        hashes = np.unique(np.concatenate([runs.hashes for runs in parts]))
        sizes[size] = hashes, np.arange(count, count + len(hashes))
        own = [runs.hashes[a:b] for runs in parts for a, b in itertools.pairwise(runs.offsets)]
        for i, values in zip(chosen, own, strict=True):
            of_lines[i] = np.unique(np.searchsorted(hashes, values)) + count
        count += len(hashes)
    if not count:
        raise DataError(f"{file}: no line has {FEWEST_WORDS} words or more, so there is nothing to look for.")
    return Grams(lines, of_lines, sizes)


def _lines(file: Path, fields: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line that is not empty."""
    try:
        content = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"drop_contaminated: {file} cannot be read: {error}.") from error
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield number, _text_of(line, fields, f"{file}, line {number}") if file.suffix == ".jsonl" else line


def _text_of(line: str, fields: tuple[str, ...], where: str) -> str:
    try:
        read = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON: {error}.") from error
    if fields:
        lacking = [name for name in fields if not (isinstance(read, dict) and name in read)]
        if lacking:
            there = ", ".join(read) if isinstance(read, dict) else type(read).__name__
            raise DataError(f"{where}: there is no field {lacking[0]!r}; there is: {there}.")
        read = [read[name] for name in fields]
    return "\n".join(_strings(read))


def _strings(read: Any) -> Iterator[str]:
    if isinstance(read, str):
        yield read
    elif isinstance(read, (list, dict)):
        for inner in read.values() if isinstance(read, dict) else read:
            yield from _strings(inner)
