"""Steps that change what stands in a text: its characters' forms, markup, what cannot be seen, what is said again."""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from typing import Literal

import polars as pl

from groundup.core.contract import contract
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.cleaning.text import text_column

UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064"
                    "\u2066-\u2069\ufeff\ufff9-\ufffb\U000e0001]")  # fmt: skip
"""Control characters of both blocks but tab, line feed and carriage return; soft hyphens, zero-width spaces, marks of
direction, byte order marks. Joiners (U+200C, U+200D) stay: Persian, Indic scripts and emoji are written with them."""


@contract("row-local")
def normalise_unicode(
    dataset: Dataset, column: str = "text", form: Literal["NFC", "NFD", "NFKC", "NFKD"] = "NFC"
) -> Dataset:
    """Brings characters that can be written in several ways to one form (Unicode Standard Annex 15).

    NFC composes: e and an accent become one character; nothing else changes. NFKC also turns ligatures, full-width
    letters and superscripts into plain ones, which changes what is written: 2^5 becomes 25. It also turns the
    punctuation of Chinese into that of ASCII.
    """
    return _changed(dataset, column, "normalise_unicode", lambda text: unicodedata.normalize(form, text))


@contract("row-local")
def strip_controls(dataset: Dataset, column: str = "text") -> Dataset:
    """Removes characters that cannot be seen: controls, zero-width spaces, marks of direction, soft hyphens.

    Tabs, line feeds and carriage returns stay, and so do the joiners that Persian, Indic scripts and emoji need.
    """
    return _changed(dataset, column, "strip_controls", lambda text: UNSEEN.sub("", text))


MARKUP = re.compile(r"<[a-zA-Z!/?][^<>]{0,2000}>|&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,31}\d{0,2});")
SILENT = frozenset({"script", "style", "template", "noscript", "svg", "math", "iframe", "object"})
BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt", "fieldset", "figure"),
        *("figcaption", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav"),
        *("ol", "option", "p", "pre", "section", "table", "td", "th", "title", "tr", "ul"),
    }
)


class _Text(HTMLParser):
    """What a page says, a line for each block."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SILENT:
            self.silent.append(tag)
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.silent:
            while self.silent.pop() != tag:
                pass
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.parts.append(data)


@contract("row-local")
def strip_html(dataset: Dataset, column: str = "text") -> Dataset:
    """Turns HTML into what it says: tags go, scripts and styles with what is in them, entities become characters.

    Blocks (paragraphs, list items, cells, headings, line breaks) begin lines; white space within a line becomes one
    space. A text without a tag or an entity is left as it is, so "a < b" and "AT&T" stay. Not for source code.
    """
    return _changed(dataset, column, "strip_html", _without_markup)


def _without_markup(text: str) -> str:
    if not MARKUP.search(text):
        return text
    if "<" not in text:
        return unescape(text)
    parser = _Text()
    parser.feed(text)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.parts).split("\n"))
    return "\n".join(line for line in lines if line)


@contract("row-local")
def collapse_repeats(
    dataset: Dataset, column: str = "text", marks: int = 3, letters: int = 0, lines: int = 1, blank_lines: int = 1
) -> Dataset:
    """Shortens what is said again at once: !!!!!!! becomes !!!, equal lines one, empty lines one.

    At most ``marks`` equal marks stay in a row, ``letters`` equal letters (0: any number, for some languages and all
    numbers have them; digits always stay), ``lines`` equal lines, and ``blank_lines`` empty ones. Spaces at ends of
    lines go. Rulers of source code are marks, too.
    """
    if min(marks, lines) < 1 or min(letters, blank_lines) < 0:
        raise DataError("collapse_repeats: marks and lines must be 1 or more, letters and blank_lines 0 or more.")
    rules = [(re.compile(rf"([^\w\s]|_)\1{{{marks},}}"), marks)]
    rules += [(re.compile(rf"([^\W\d_])\1{{{letters},}}"), letters)] if letters else []

    def collapsed(text: str) -> str:
        for pattern, most in rules:
            text = pattern.sub(lambda match, most=most: match.group(1) * most, text)  # type: ignore[misc]
        kept: list[str] = []
        again = 0
        for line in map(str.rstrip, text.split("\n")):
            again = again + 1 if kept and line == kept[-1] else 0
            if again < (lines if line else blank_lines) or not kept:
                kept.append(line)
        return "\n".join(kept)

    return _changed(dataset, column, "collapse_repeats", collapsed)


@contract("whole", compares=True)
def strip_boilerplate(
    dataset: Dataset, column: str = "text", documents: int = 10, characters: int = 20, share: float = 0.0
) -> Dataset:
    """Removes lines that stand in many documents: menus, notices, headers that a site puts on every page.

    A line goes, wherever it stands, that at least ``documents`` documents, and ``share`` of all, have, once white space
    at its ends is cut off and digits are taken for one another; shorter ones than ``characters`` stay (half of that in
    Chinese and Japanese). The ledger notes the most frequent. Needs all documents at once; as with
    duplicates, what several have in common goes before the split.
    """
    from groundup.data.cleaning.words import is_spaceless

    texts = text_column(dataset, column, "strip_boilerplate")
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        counts.update({_template(line) for line in (text or "").split("\n")})
    least = max(documents, share * len(texts))
    frequent = {
        line: count
        for line, count in counts.items()
        if count >= least and len(line) >= (characters // 2 if is_spaceless(line) else characters)
    }

    def without(text: str) -> str:
        return "\n".join(line for line in text.split("\n") if _template(line) not in frequent)

    top = sorted(frequent.items(), key=lambda item: (-item[1], item[0]))[:5]
    notes = [f"in {count} documents: {line[:80]}" for line, count in top]
    return _changed(dataset, column, "strip_boilerplate", without).note(*notes)


def _template(line: str) -> str:
    return re.sub(r"\d+", "0", line.strip())


def _changed(dataset: Dataset, column: str, by: str, change: Callable[[str], str]) -> Dataset:
    texts = text_column(dataset, column, by)
    changed = [None if text is None else change(text) for text in texts]
    return dataset.with_frame(dataset.frame.with_columns(pl.Series(column, changed, dtype=pl.String)))
