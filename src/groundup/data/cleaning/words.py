"""Words, lines and sentences of any script, as the published quality rules count them."""

from __future__ import annotations

import re

SPACELESS = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31c0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Chinese and Japanese: scripts that put no space between words."""

CHARACTER = re.compile(f"[{SPACELESS}]")
PIECE = re.compile(rf"[{SPACELESS}]|[^\W{SPACELESS}]+")
END_MARKS = tuple(".?!\"'。？！”’」』》")
"""What a sentence ends with; the published rules know the first five, or four, of these."""

SENTENCE_END = re.compile(r"(?<=[.?!])[\"'”’)\]]*\s+(?=\S)|(?<=[。？！])[”’」』》）]*(?=[^”’」』》）\s])")


def is_spaceless(text: str) -> bool:
    """Whether most letters are Chinese or Japanese, so that rules about words do not apply."""
    if text.isascii():
        return False
    characters = len(CHARACTER.findall(text))
    return 2 * characters > sum(map(str.isalpha, text))


def words_of(text: str) -> list[str]:
    """What stands between white space; of Chinese and Japanese each character, and no punctuation beside it."""
    if text.isascii():
        return text.split()
    found: list[str] = []
    for token in text.split():
        found += PIECE.findall(token) if CHARACTER.search(token) else [token]
    return found


def lines_of(text: str) -> list[str]:
    """Lines with something on them, without white space at their ends."""
    return [line for line in (line.strip() for line in text.splitlines()) if line]


def sentences_in(line: str) -> int:
    """How many sentences a line has, by marks at their ends; at least one."""
    return 1 + len(SENTENCE_END.findall(line.strip()))
