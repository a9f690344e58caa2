"""The encoding of a text file, found by looking at all of it: UTF-8, UTF-16, Chinese, Japanese, Western."""

from __future__ import annotations

import codecs
import dataclasses
import re
from collections.abc import Iterable

from groundup.core.errors import DataError

EVIDENCE_BYTES = 1 << 18
"""Lines with bytes beyond ASCII that are looked at to tell one old encoding from another."""

_SURE = 0.8
"""Share of characters that must be common ones for a Chinese or Japanese encoding to be believed."""

_FEWEST = {"gb18030": 1, "big5": 4, "cp932": 4}
"""Characters that must be there; the second byte of Big5 and Shift-JIS may be ASCII, as behind a Western letter."""


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How bytes become text."""

    codec: str
    said: str
    mark: int = 0
    original: str = ""


_MARKS = (
    (codecs.BOM_UTF8, Encoding("utf-8", "UTF-8 with a mark", 3)),
    (codecs.BOM_UTF16_LE, Encoding("utf-8", "UTF-16", 2, "utf-16-le")),
    (codecs.BOM_UTF16_BE, Encoding("utf-8", "UTF-16", 2, "utf-16-be")),
)

_EAST = (
    # Which two-byte characters are common: level 1 of GB 2312 with its punctuation and full-width forms; level 1 of
    # Big5 with its punctuation; kana, punctuation and level 1 of JIS X 0208. A four-byte character counts as no common
    # one.
    ("gb18030", "GB18030", re.compile(rb"[\xa1\xa3\xb0-\xd7][\xa1-\xfe]"), re.compile(rb"[\x81-\xfe][\x30-\xfe]")),
    (
        "big5",
        "Big5",
        re.compile(rb"[\xa1\xa4-\xc6][\x40-\x7e\xa1-\xfe]"),
        re.compile(rb"[\x81-\xfe][\x40-\x7e\xa1-\xfe]"),
    ),
    (
        "cp932",
        "Shift-JIS",
        re.compile(rb"[\x81\x82\x83\x88-\x97][\x40-\x7e\x80-\xfc]"),
        re.compile(rb"[\x81-\x9f\xe0-\xfc][\x40-\x7e\x80-\xfc]|[\xa1-\xdf]"),
    ),
)


def detect_encoding(blocks: Iterable[bytes], where: str, given: str | None = None) -> Encoding:
    """The encoding of what these blocks hold, or the one given, looked up.

    UTF-8 when all of it, or all but damaged places, is; else UTF-16 by its mark or its zero bytes; else the one of
    GB18030, Big5 and Shift-JIS in which nearly all characters are common ones; else Windows-1252, else Latin-1. Raises
    DataError for what is empty, no text, or a codec that does not exist.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="strict")
    first, valid, anything, evidence = b"", True, False, b""
    for block in blocks:
        if not first:
            first = block[:4096]
            known = _known(first, where, given)
            if known is not None and known.original:
                return known
        anything = anything or bool(block.strip())
        if valid:
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                valid = False
        if len(evidence) < EVIDENCE_BYTES and not block.isascii():
            evidence += _beyond_ascii(block, EVIDENCE_BYTES - len(evidence))
        if anything and not valid and len(evidence) >= EVIDENCE_BYTES:
            break
    if not anything:
        raise DataError(f"{where}: the file is empty.")
    known = _known(first, where, given)
    if known is not None:
        return known
    return Encoding("utf-8", "UTF-8") if valid else _old(evidence)


def _known(first: bytes, where: str, given: str | None) -> Encoding | None:
    """What the first bytes, or a person, say."""
    marked = next((encoding for mark, encoding in _MARKS if first.startswith(mark)), None)
    if given is not None:
        try:
            name = codecs.lookup(given).name
            "a,b\n".encode(name)
        except (LookupError, UnicodeError) as error:
            raise DataError(f"{where}: there is no text encoding {given!r}.") from error
        if marked is not None and (name.startswith("utf-16") == bool(marked.original)):
            return marked
        transcoded = name if "a,b\n".encode(name) != b"a,b\n" else ""
        if name == "utf-16":
            transcoded = "utf-16-le"
        return Encoding("utf-8", given, 0, transcoded) if transcoded else Encoding(name, given)
    if marked is not None:
        return marked
    zeros = [first[i::2].count(0) / max(len(first) // 2, 1) for i in (0, 1)]
    codec = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    if len(first) >= 8 and ((max(zeros) > 0.3 and min(zeros) < 0.02) or _is_wide(first, zeros, codec)):
        return Encoding("utf-8", "UTF-16 without a mark", 0, codec)
    return None


def _is_wide(first: bytes, zeros: list[float], codec: str) -> bool:
    """Whether it is Chinese or the like in UTF-16, which has zero bytes beside its line ends and digits alone."""
    if first.count(0) < 3 or max(zeros) < 2 * min(zeros):
        return False
    text = first[: len(first) // 2 * 2].decode(codec, errors="replace")
    printable = sum(character.isprintable() or character in "\r\n\t" for character in text)
    return "\n" in text and "\0" not in text and printable >= 0.98 * len(text)


def _beyond_ascii(block: bytes, most: int) -> bytes:
    lines = [line for line in block[: 8 * most].split(b"\n") if not line.isascii()]
    return (b"\n".join(lines) + b"\n")[:most] if lines else b""


def _old(evidence: bytes) -> Encoding:
    """Damaged UTF-8, or an encoding from before it."""
    # Damaged UTF-8 still has well-formed characters beyond ASCII; a file in a one-byte encoding hardly ever has.
    whole = sum(character > "\x7f" for character in evidence.decode("utf-8", errors="ignore"))
    broken = evidence.decode("utf-8", errors="replace").count("�")
    if whole >= broken:
        return Encoding("utf-8", "UTF-8, damaged in places")
    scored = [(_usual_share(evidence, codec, common, any_of), codec, said) for codec, said, common, any_of in _EAST]
    share, codec, said = max(scored)
    if share >= _SURE:
        return Encoding(codec, said)
    if _may_be_rare_chinese(evidence):
        return Encoding("gb18030", "GB18030")
    try:
        evidence.decode("cp1252")
    except UnicodeDecodeError:
        return Encoding("latin-1", "Latin-1")
    return Encoding("cp1252", "Windows-1252")


def _may_be_rare_chinese(evidence: bytes) -> bool:
    """Whether it is GB18030 without a fault, and mostly of pairs beyond ASCII, as no word of odd length allows."""
    cut = evidence[: evidence.rfind(b"\n") + 1] or evidence
    try:
        cut.decode("gb18030")
    except UnicodeDecodeError:
        return False
    characters = _EAST[0][3].findall(cut)
    return len(characters) >= 8 and sum(character[1] > 0x7F for character in characters) >= len(characters) / 2


def _usual_share(evidence: bytes, codec: str, common: re.Pattern[bytes], any_of: re.Pattern[bytes]) -> float:
    """Share of the characters beyond ASCII that are common in the encoding's language; 0 for what it cannot be."""
    cut = evidence[: evidence.rfind(b"\n") + 1] or evidence
    wrong = len(re.findall("�", cut.decode(codec, errors="replace")))
    characters = any_of.findall(cut)
    # Each byte beyond ASCII that begins no character speaks against the encoding as one wrong character.
    alone = len(re.findall(rb"[\x80-\xff]", any_of.sub(b"", cut)))
    if len(characters) < _FEWEST[codec]:
        return 0.0
    hits = sum(common.fullmatch(character) is not None for character in characters)
    return (hits - wrong) / (len(characters) + alone)
