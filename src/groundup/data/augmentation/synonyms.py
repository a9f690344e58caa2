"""Synonyms from files: WordNet's own database, from a folder or an archive of it, or a table with a group a line."""

from __future__ import annotations

import functools
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from groundup.core.errors import DataError

PARTS = ("noun", "verb", "adj", "adv")

ENDINGS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "noun": (
        ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
        ("men", "man"), ("ies", "y"),
    ),
    "verb": (
        ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""),
    ),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}  # fmt: skip
"""Ending -> what stands in its place in the word's base form; the manual page morphy(7WN) of WordNet 3.0."""

MAX_BYTES = 2**26
"""No file of WordNet is so large; one that claims to be is not read."""

CILIN = re.compile(r"[A-Z][a-z]\d\d[A-Z]\d\d([=#@])\s+(.*)")
"""A line of the extended Tongyici Cilin: "=" marks synonyms, "#" words of one kind, "@" a word that stands alone."""


class Synonyms(Protocol):
    """What words may stand for a word."""

    def of(self, word: str) -> tuple[str, ...]:
        """Its synonyms in sorted order, without itself; none for a word that is not known."""
        ...


class WordNet:
    """WordNet 3.0, from its files index.* and data.* as bytes; a line is parsed when a word is asked for.

    Fellbaum 1998; formats as in the manual pages wndb(5WN) and morphy(7WN). ``files`` maps names such as "data.noun"
    to contents. Raises DataError when one is missing.
    """

    def __init__(self, files: Mapping[str, bytes], origin: str = "WordNet") -> None:
        absent = [f"{kind}.{part}" for part in PARTS for kind in ("index", "data") if f"{kind}.{part}" not in files]
        if absent:
            raise DataError(f"{origin}: holds no WordNet, for {', '.join(absent)} is missing.")
        self._data = {part: files[f"data.{part}"] for part in PARTS}
        self._index = {part: _index(files[f"index.{part}"]) for part in PARTS}
        self._irregular = {part: _irregular(files.get(f"{part}.exc", b"")) for part in PARTS}
        self._found: dict[str, tuple[str, ...]] = {}

    def of(self, word: str) -> tuple[str, ...]:
        """All words that share a synset with this one or its base form, in lower case, a compound's words apart."""
        word = word.lower()
        if word not in self._found:
            names = {name for _, _, synset in self.synsets(word) for name in synset}
            readable = {name.replace("_", " ").lower() for name in names}
            bases = {base.replace("_", " ") for part in PARTS for base in self.bases(word, part)}
            self._found[word] = tuple(sorted(readable - bases - {word.replace("_", " ")}))
        return self._found[word]

    def synsets(self, word: str) -> list[tuple[str, int, tuple[str, ...]]]:
        """(part of speech, offset, words) of each sense of a word and its base forms, in WordNet's order."""
        return [
            (part, offset, self._synset(part, offset))
            for part in PARTS
            for base in self.bases(word.lower().replace(" ", "_"), part)
            for offset in self._offsets(part, base)
        ]

    def bases(self, word: str, part: str) -> list[str]:
        """A word's base forms that WordNet has: irregular ones, or itself and what endings lead to."""
        word = word.replace(" ", "_")
        if word in self._irregular[part]:
            forms = [word, *self._irregular[part][word]]
        else:
            ends = [(old, new) for old, new in ENDINGS[part] if word.endswith(old) and len(word) > len(old)]
            forms = [word, *(word[: -len(old)] + new for old, new in ends)]
        return [form for form in dict.fromkeys(forms) if form in self._index[part]]

    def _offsets(self, part: str, lemma: str) -> list[int]:
        """Where the senses of a lemma lie: the last fields of its line, as many as its third says."""
        fields = self._index[part][lemma].split()
        return [int(field) for field in fields[-int(fields[2]) :]]

    def _synset(self, part: str, offset: int) -> tuple[str, ...]:
        """The words of the line at an offset: their number is its fourth field, in hexadecimal."""
        data = self._data[part]
        fields = data[offset : data.index(b"\n", offset)].split(b" ", 4)
        words = fields[4].split(b" ", 2 * int(fields[3], 16))[: 2 * int(fields[3], 16) : 2]
        return tuple(word.decode("ascii").partition("(")[0] for word in words)  # "(p)" marks where an adjective stands


class SynonymTable:
    """Groups of words, each of which may stand for any other of its group.

    A line is a group: words apart by tabs, commas or spaces, the first of these that it has. A table in the form of
    Tongyici Cilin ("Aa01A01= 人 士 人物") gives its lines of synonyms alone. Raises DataError for a file without any.
    """

    def __init__(self, text: str, origin: str = "the table") -> None:
        self._groups: list[tuple[str, ...]] = []
        self._of: dict[str, list[int]] = {}
        for line in text.removeprefix("\ufeff").splitlines():
            group = tuple(dict.fromkeys(_group(line)))
            if len(group) < 2:
                continue
            for word in group:
                self._of.setdefault(word, []).append(len(self._groups))
            self._groups.append(group)
        if not self._groups:
            raise DataError(f"{origin}: has no line with two words or more, so there are no synonyms in it.")

    def of(self, word: str) -> tuple[str, ...]:
        """The words of all groups that a word stands in; written as it is, or in lower case."""
        places = self._of.get(word) or self._of.get(word.lower()) or []
        return tuple(sorted({other for place in places for other in self._groups[place]} - {word, word.lower()}))


def read_synonyms(path: str | Path, folder: Path = Path()) -> Synonyms:
    """WordNet from its folder, or from a tar archive of it that is read without being unpacked; else a table.

    Read once for each file. Raises DataError when there is none, or it holds no synonyms.
    """
    found = (folder / Path(path).expanduser()).resolve()
    if not found.exists():
        raise DataError(
            f"{found}: there are no synonyms. Name WordNet's folder (Debian: the package wordnet-base), an archive of "
            "it, or a table with a group of synonyms on each line. A relative path starts at the recipe's folder."
        )
    return _read(found, found.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed_ns: int) -> Synonyms:
    if path.is_dir():
        inner = next((p for p in (path, path / "dict", path / "wordnet") if (p / "index.noun").is_file()), path)
        files = {name: inner / name for name in _names()}
        return WordNet({name: file.read_bytes() for name, file in files.items() if file.is_file()}, str(path))
    if tarfile.is_tarfile(path):
        return WordNet(_from_archive(path), str(path))
    try:
        return SynonymTable(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}).") from error


def _names() -> list[str]:
    return [name for part in PARTS for name in (f"index.{part}", f"data.{part}", f"{part}.exc")]


def _from_archive(path: Path) -> dict[str, bytes]:
    """The files of WordNet in an archive, whatever folder they lie in."""
    files: dict[str, bytes] = {}
    wanted = set(_names())
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name not in wanted or not member.isreg():
                    continue
                if member.size > MAX_BYTES:
                    raise DataError(f"{path}: {member.name} unfolds to {member.size:,} bytes; WordNet's files do not.")
                content = archive.extractfile(member)
                files[name] = b"" if content is None else content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path}: not an archive that can be read: {error}.") from error
    return files


def _index(content: bytes) -> dict[str, str]:
    """Lemma -> its line. The licence at the head stands on lines that begin with a space."""
    lines = (line for line in content.decode("ascii", "replace").split("\n") if line and line[0] != " ")
    return {line.partition(" ")[0]: line for line in lines}


def _irregular(content: bytes) -> dict[str, list[str]]:
    """Inflected form -> its base forms."""
    entries = (line.split() for line in content.decode("ascii", "replace").split("\n"))
    return {entry[0]: entry[1:] for entry in entries if entry}


def _group(line: str) -> list[str]:
    marked = CILIN.fullmatch(line.strip())
    if marked is not None:
        return marked[2].split() if marked[1] == "=" else []
    separator = next((sign for sign in ("\t", ",", "，", ";") if sign in line), None)
    return [word.strip() for word in line.split(separator) if word.strip()]
