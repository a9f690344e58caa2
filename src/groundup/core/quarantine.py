"""What a source could not take, kept to the byte: accepted + rejected = read, so that nothing is dropped silently."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from groundup.core.errors import DataError

SHOWN = 5
"""Rejected rows that an error names."""

MAX_REJECTED = 0.05
"""Share of rejected rows above which a source is taken to be read wrongly, unless it is told otherwise."""


@dataclasses.dataclass(frozen=True)
class Rejected:
    """One row, member or file that could not be taken: where it stands, its bytes as they are, and why."""

    reason: str
    raw: bytes = b""
    """The row to the byte, without its line end; empty where a whole file, which still lies in its place, is meant."""
    line: int | None = None
    """The line that it begins on, from 1; in a JSON array the number of the item."""
    name: str = ""
    """Of the file or member, where a source has many."""

    def __str__(self) -> str:
        where = [self.name] if self.name else []
        where += [f"line {self.line}"] if self.line is not None else []
        return f"{', '.join(where)}: {self.reason}" if where else self.reason


@dataclasses.dataclass(frozen=True)
class Quarantine:
    """How many rows were read, how many of them accepted, and each one that was rejected."""

    read: int = 0
    accepted: int = 0
    rejected: tuple[Rejected, ...] = ()

    def __post_init__(self) -> None:
        assert self.accepted + len(self.rejected) == self.read, (self.accepted, len(self.rejected), self.read)

    def __add__(self, other: Quarantine) -> Quarantine:
        return Quarantine(self.read + other.read, self.accepted + other.accepted, self.rejected + other.rejected)

    def __str__(self) -> str:
        return f"{self.read:,} rows read = {self.accepted:,} accepted + {len(self.rejected):,} rejected"

    def reasons(self) -> dict[str, int]:
        """How many rows went for which kind of reason (the words before the first colon)."""
        counts: dict[str, int] = {}
        for one in self.rejected:
            kind = one.reason.partition(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
        return counts

    def to_json_lines(self) -> str:
        """One JSON object a rejected row: ``file``, ``line``, ``reason``, ``raw`` (base64), ``text`` (to be read)."""
        return "".join(json.dumps(_line(one), ensure_ascii=False) + "\n" for one in self.rejected)


def _line(one: Rejected) -> dict[str, Any]:
    raw = base64.b64encode(one.raw).decode("ascii")
    shown = one.raw[:200].decode("utf-8", errors="backslashreplace")
    return {"file": one.name, "line": one.line, "reason": one.reason, "raw": raw, "text": shown}


def demand_few(
    rejected: int, read: int, limit: float, first: Iterable[Rejected], origin: str, advice: str = "Mend them"
) -> None:
    """Raise DataError when more are rejected than ``limit`` allows: below 1 a share of those read, else a count."""
    if rejected <= (limit * read if limit < 1 else limit):
        return
    named = list(first)[:SHOWN]
    said = "; ".join(str(one) for one in named[1:])
    more = f"; and {rejected - len(named)} more" if rejected > len(named) else ""
    raise DataError(
        f"{origin}, {named[0]}{'; ' + said if said else ''}{more}. "
        f"{rejected:,} of {read:,} rows cannot be taken ({read - rejected:,} rows are whole), which is more than "
        f"max_rejected = {limit:g} allows: the file is probably read wrongly. {advice}, or raise max_rejected."
    )
