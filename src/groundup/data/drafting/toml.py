"""TOML with a reason for each line: what a drafted recipe is written in."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from groundup.core.use import Use

WIDTH = 118
"""Characters of a line, at most where values allow."""


@dataclasses.dataclass(frozen=True)
class Said:
    """A value with the reason for it, which becomes a comment."""

    value: Any
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Draft:
    """A recipe as tables of keys, in the order that they are written; "" is the top."""

    head: tuple[str, ...]
    """Paragraphs at the top of the file."""
    tables: Mapping[str, Mapping[str, Any]]
    """Table -> key -> value, a ``Said`` or plain."""
    whys: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Table -> a comment over it."""

    def to_toml(self) -> str:
        """The text of the file."""
        blocks = ["\n#\n".join(_comment(paragraph) for paragraph in self.head)] if self.head else []
        for name, entries in self.tables.items():
            lines = [_comment(self.whys[name])] if self.whys.get(name) else []
            lines += [f"[{name}]"] if name else []
            width = max((len(_key(key)) for key in entries), default=0)
            lines += [_entry(key, value, width) for key, value in entries.items()]
            blocks.append("\n".join(lines))
        return "\n\n".join(blocks) + "\n"


def _entry(key: str, value: Any, width: int) -> str:
    """``key = value``, its reason above it, or behind it where both are short."""
    why = value.why if isinstance(value, Said) else ""
    plain = value.value if isinstance(value, Said) else value
    start = f"{_key(key):<{width}} = "
    written = start + write(plain, len(start))
    if why and "\n" not in written and len(written) + len(why) + 4 <= 100:
        return f"{written}  # {_tame(why)}"
    return f"{_comment(why)}\n{written}" if why else written


def write(value: Any, used: int = 0) -> str:
    """A value as TOML; a list that does not fit in the line, or whose items have reasons, takes a line for each item.

    ``used`` is what stands in the line before it.
    """
    if isinstance(value, Said):
        return write(value.value, used)
    if isinstance(value, Use):
        return _inline({"use": value.target, **value.arguments}, used) if value.arguments else write(value.target)
    if isinstance(value, Mapping):
        return _inline(value, used)
    if isinstance(value, (list, tuple)):
        return _list(value, used)
    return _scalar(value)


def _inline(table: Mapping[str, Any], used: int) -> str:
    """An inline table; TOML lets only the lists within it go over several lines."""
    short = "{ " + ", ".join(f"{_key(k)} = {_flat(v)}" for k, v in table.items()) + " }"
    if used + len(short) <= WIDTH:
        return short
    return "{ " + ", ".join(f"{_key(k)} = {_wrapped(v)}" for k, v in table.items()) + " }"


def _flat(value: Any) -> str:
    if isinstance(value, Said):
        return _flat(value.value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flat(item) for item in value) + "]"
    return write(value, -10_000)


def _wrapped(value: Any) -> str:
    """A list of scalars in a block of full lines; anything else on one line."""
    flat = _flat(value)
    if len(flat) < WIDTH // 2 or not isinstance(value, (list, tuple)):
        return flat
    if any(isinstance(item, (Use, Mapping)) for item in value):
        return flat
    lines: list[str] = []
    line = "   "
    for item in value:
        piece = f" {_flat(item)},"
        if len(line) + len(piece) > WIDTH and line.strip():
            lines.append(line)
            line = "   "
        line += piece
    return "[\n" + "\n".join([*lines, line]) + "\n  ]"


def _list(items: Sequence[Any], used: int) -> str:
    flat = _flat(items)
    if used + len(flat) <= WIDTH and not any(isinstance(item, Said) and item.why for item in items):
        return flat
    if not any(isinstance(item, (Said, Use, Mapping)) for item in items):
        return _wrapped(items)
    lines = []
    for item in items:
        if isinstance(item, Said) and item.why:
            lines.append(_comment(item.why, "  "))
        lines.append(f"  {write(item, 3)},")
    return "[\n" + "\n".join(lines) + "\n]"


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
        return _float(value)
    if isinstance(value, int):
        return str(value)
    return _string(str(value))


def _float(value: float) -> str:
    """Short, and with a point or an exponent, so that it stays a float."""
    shown = f"{value:.6g}" if float(f"{value:.6g}") == value else repr(value)
    if "e" in shown:
        digits, _, exponent = shown.partition("e")
        return f"{digits}e{int(exponent)}"
    return shown if "." in shown else f"{shown}.0"


def _string(text: str) -> str:
    # JSON's escapes are TOML's, but for one control character that JSON lets stand.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _string(name)


def _comment(text: str, indent: str = "") -> str:
    """A comment over as many lines as it needs; line breaks in ``text`` are kept."""
    lines = []
    for part in text.split("\n"):
        lines += textwrap.wrap(_tame(part), WIDTH - 2 - len(indent), break_on_hyphens=False) or [""]
    return "\n".join(f"{indent}# {line}".rstrip() for line in lines)


def _tame(text: str) -> str:
    """Without control characters, which a comment may not hold."""
    return re.sub(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]", " ", text)
