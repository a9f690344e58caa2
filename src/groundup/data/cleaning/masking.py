"""What names a person in a text, put out of sight: addresses, numbers, accounts."""

from __future__ import annotations

import collections
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import polars as pl

from groundup.core.contract import contract
from groundup.core.dataset import Dataset
from groundup.data.cleaning.text import text_column

Kind = Literal["email", "ip", "phone", "card", "national_id"]


VERSION = re.compile(
    r"(?:\b(?:v|ver|version|release|build|firmware|driver|section|chapter|clause)s?[.:]?|[版本号节]:?|\w/) ?$", re.I
)
"""What stands before four numbers with dots between them that are no address: a version, or a heading's number."""

NUMBER = re.compile(r"\+\d+\.\d+|\+\d{1,3}(?: \d{3})* 000")
"""A number with its sign, and thousands apart, which is no telephone's."""

CARD_STARTS = {13: "4", 14: "3", 15: "3"} | dict.fromkeys((16, 17, 18, 19), "23456")
"""Digits of a card's number -> those that issuers begin such a number with (ISO/IEC 7812)."""


FILES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".css", ".js")
"""Ends of files' names, such as icon@2x.png, and of no domain."""


def _is_public(match: re.Match[str]) -> bool:
    text = match.group()
    if "." in text and VERSION.search(match.string[max(0, match.start() - 16) : match.start()]):
        return False
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_card(match: re.Match[str]) -> bool:
    """Luhn's check (US patent 2,950,048, 1960), and a first digit that issuers of such cards have."""
    digits = [int(c) for c in match.group() if c.isdigit()]
    doubled = [d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
    return str(digits[0]) in CARD_STARTS.get(len(digits), "") and sum(doubled) % 10 == 0


def _is_phone(match: re.Match[str]) -> bool:
    text = match.group()
    return 7 <= sum(map(str.isdigit, text)) <= 15 and text[:2] != "+0" and not NUMBER.fullmatch(text)


def _is_national_id(match: re.Match[str]) -> bool:
    """Mainland China: 17 digits and a check character (GB 11643-1999). United States: three groups, no void one."""
    text = match.group()
    if "-" in text:
        area, group, serial = text.split("-")
        return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"
    total = sum(int(c) * (pow(2, 17 - i, 11)) for i, c in enumerate(text[:17]))
    return "10X98765432"[total % 11] == text[17].upper()


class _Finder(NamedTuple):
    pattern: str
    holds: Callable[[re.Match[str]], bool]


FINDERS: dict[Kind, _Finder] = {
    "email": _Finder(
        r"(?<![\w.+%-])[\w+%-]++(?:\.[\w+%-]++)*+@(?:[a-zA-Z0-9][a-zA-Z0-9-]{0,62}\.)+[a-zA-Z]{2,24}(?![a-zA-Z0-9])",
        lambda match: not match.group().endswith(FILES),
    ),
    "national_id": _Finder(
        r"(?<![\w-])(?:[1-9]\d{5}(?:19|20)\d{2}[01]\d[0-3]\d{4}[\dXx]|\d{3}-\d{2}-\d{4})(?![\w-])",
        _is_national_id,
    ),
    "card": _Finder(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)", _is_card),
    "ip": _Finder(
        r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}(?![\w:]|\.\d)|(?=(?:[\da-fA-F]*:){3})[\da-fA-F:]{6,39}(?![\w:.]))",
        _is_public,
    ),
    "phone": _Finder(
        r"(?<![\w.+-])(?:\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}"  # international
        r"|(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}"  # North America
        r"|1[3-9]\d(?:[ -]?\d{4}){2})(?![\w-]|\.\d)",  # mobile, mainland China
        _is_phone,
    ),
}
"""What each kind looks like, and what must hold of it beside; in the order of looking."""


@contract("row-local")
def mask_personal(
    dataset: Dataset,
    column: str = "text",
    kinds: Sequence[Kind] = ("email", "ip", "phone", "card", "national_id"),
    mask: str = "[{kind}]",
) -> Dataset:
    """Puts a mask in the place of e-mail and public IP addresses, telephone, card and identity numbers.

    ``mask`` may hold {kind}. FineWeb masks the first two (Penedo et al. 2024); an IP address counts when it is public,
    a card when Luhn's check holds, an identity number of mainland China when its check character is right (GB
    11643-1999), one of the United States by its form. Telephone numbers: international with a plus, North American, and
    mobile ones of mainland China. What is called a version, or stands behind a slash as in Chrome/120.0.6099.109, is no
    IP address, and a signed number no telephone's. The ledger notes how many of each were masked; names and street
    addresses are not found.
    """
    counts: collections.Counter[str] = collections.Counter()

    def masked(text: str) -> str:
        for kind, finder in FINDERS.items():
            if kind not in kinds:
                continue

            def put(match: re.Match[str], kind: Kind = kind, finder: _Finder = finder) -> str:
                if not finder.holds(match):
                    return match.group()
                counts[kind] += 1
                return mask.replace("{kind}", kind)

            # Letters are those of ASCII: a Chinese one beside a number is no part of it.
            text = re.sub(finder.pattern, put, text, flags=re.ASCII)
        return text

    texts = [None if text is None else masked(text) for text in text_column(dataset, column, "mask_personal")]
    changed = dataset.with_frame(dataset.frame.with_columns(pl.Series(column, texts, dtype=pl.String)))
    return changed.note(*(f"masked {counts[kind]} {kind}" for kind in FINDERS if counts[kind]))
