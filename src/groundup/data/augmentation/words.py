"""Text cut into words and what stands between them, so that a step may change words and leave the rest."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Sequence
from typing import Any, Literal

from groundup.core.errors import MissingExtraError

Language = Literal["auto", "spaced", "chinese"]

PIECE = re.compile(r"\s+|\d+(?:[.,]\d+)*[^\W\d_]*|[^\W\d_]+(?:['’-][^\W_]+)*|\w|[^\w\s]")
"""White space, a number, a word (with its apostrophes and hyphens), or one other sign."""

IDEOGRAPH = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")

ENDS = frozenset(".?!:;。？！：；…\"'“”‘’()[]")
"""Signs behind which a capital letter says nothing of a name."""

CHINESE_DIGITS = frozenset("〇零一二三四五六七八九十百千万亿两半")
CHINESE_NAMES = ("nr", "ns", "nt", "nz")
"""What jieba's dictionary marks persons, places, organisations and other names with."""


@dataclasses.dataclass(frozen=True)
class Words:
    """A text in pieces: put together they are the text. Steps change it by giving other pieces.

    A word of ``kept`` (lower case), one with a digit, and a name is protected: it is not replaced, moved or removed.
    A name is a capitalised word inside a sentence, or, in Chinese, what the dictionary marks as one.
    """

    pieces: tuple[str, ...]
    kept: frozenset[str] = frozenset()
    chinese: bool = False

    @property
    def text(self) -> str:
        """The text."""
        return "".join(self.pieces)

    @property
    def places(self) -> list[int]:
        """Which pieces are words."""
        return [place for place, piece in enumerate(self.pieces) if is_word(piece)]

    @property
    def free(self) -> list[int]:
        """Which pieces are words that are not protected."""
        return [place for place in self.places if not self._protected(place)]

    def with_pieces(self, pieces: Sequence[str]) -> Words:
        """The same text with other pieces; those of several words are cut."""
        cut = [part for piece in pieces for part in (PIECE.findall(piece) if " " in piece else [piece])]
        return dataclasses.replace(self, pieces=tuple(cut))

    def keeping(self, words: Collection[str]) -> Words:
        """The same text with more words protected."""
        return dataclasses.replace(self, kept=self.kept | {word.lower() for word in words}) if words else self

    def _protected(self, place: int) -> bool:
        word = self.pieces[place]
        if word.lower() in self.kept or any(letter.isdigit() for letter in word):
            return True
        if self.chinese:
            return set(word) <= CHINESE_DIGITS or word in _chinese()[1]
        return word[0].isupper() and not self._begins(place)

    def _begins(self, place: int) -> bool:
        """Whether a sentence begins here."""
        before = next((piece for piece in reversed(self.pieces[:place]) if not piece.isspace()), None)
        return before is None or before in ENDS


def cut(text: str, language: Language = "auto", kept: Collection[str] = ()) -> Words:
    """A text as words. "auto" cuts text with Chinese characters by jieba, and any other at spaces and signs.

    Raises MissingExtraError where jieba is needed and not installed.
    """
    chinese = language == "chinese" or (language == "auto" and IDEOGRAPH.search(text) is not None)
    pieces = _chinese()[0].cut(text) if chinese else PIECE.findall(text)
    return Words(tuple(pieces), frozenset(word.lower() for word in kept), chinese)


def is_word(piece: str) -> bool:
    """Whether a piece is a word or number, and no sign or white space."""
    return piece[:1].isalnum()


@functools.cache
def _chinese() -> tuple[Any, frozenset[str]]:
    """jieba's tokenizer, and the names in its dictionary. It is given its tables; else it would keep them in a file
    that anybody may have written."""
    try:
        import jieba  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise MissingExtraError(
            "Chinese text is cut into words by jieba, which is not installed. Run pip install groundup[chinese], or "
            'set language = "spaced" if the words stand apart.'
        ) from error
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    with tokenizer.get_dict_file() as file:
        entries = [line.decode("utf-8").split() for line in file]
    return tokenizer, frozenset(entry[0] for entry in entries if len(entry) > 2 and entry[2] in CHINESE_NAMES)


_GRAMMAR = """
a about above after again against ain all am an and any are aren as at be because been before being below between both
but by can could couldn did didn do does doesn doing don down during each few for from further had hadn has hasn have
haven having he her here hers herself him himself his how i if in into is isn it its itself just ll me might mightn more
most must mustn my myself n't needn no nor not now of off on once only or other our ours ourselves out over own re s
same shan she should shouldn so some such t than that the their theirs them themselves then there these they this those
through to too under until up ve very was wasn we were weren what when where which while who whom why will with won
would wouldn you your yours yourself yourselves
的 了 和 是 在 就 都 而 及 与 着 或 一个 没有 我们 你们 他们 她们 它们 我 你 您 他 她 它 这 那 这个 那个 这些
那些 不 没 也 很 还 又 再 把 被 让 给 对 从 到 向 往 以 为 于 之 其 并 且 但 但是 因为 所以 如果 虽然 然后 吗 呢
吧 啊 呀 哦 嘛 上 下 里 中 有 个 些 地 得 过 来 去 要 会 能 可以 就是 还是 什么 怎么 这样 那样 自己 已经
"""

STOP_WORDS = frozenset(_GRAMMAR.split())
"""Words that carry grammar and little meaning, English and Chinese: they have no synonym worth taking."""
