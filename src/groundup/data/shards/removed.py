"""Every row that steps over shards removed, by name: the ledger counts them all, and lists the first thousand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from groundup.core.dataset import Entry

LIST = "removed-*.jsonl"
"""Files of a stage that name rows which the files beside its shards do not."""


def lines_of(entry: Entry) -> Iterator[dict[str, Any]]:
    """One for each row that is listed."""
    for row, reason in entry.removed:
        yield {"step": entry.step, "split": entry.split, "row": row, "reason": reason}


def write_list(entry: Entry, path: Path) -> None:
    """The rows of one part of a stage."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines_of(entry))
    if text:
        path.write_text(text, encoding="utf-8")


def gather_removed(folders: Sequence[Path], target: Path) -> int:
    """Write one line for each row that any stage in these folders removed; gives how many there are."""
    count = 0
    with target.open("w", encoding="utf-8") as file:
        for line in _all_lines(folders):
            file.write(line)
            count += 1
    if not count:
        target.unlink()
    return count


def _all_lines(folders: Sequence[Path]) -> Iterator[str]:
    from groundup.data.shards.folder import entry_from

    stages = sorted({path.parent for folder in folders for path in folder.rglob("part-*.json")})
    for stage in stages:
        for path in sorted(stage.glob(LIST)):
            yield from path.read_text(encoding="utf-8").splitlines(keepends=True)
        for path in sorted(stage.glob("part-*.json")):
            for entry in json.loads(path.read_text(encoding="utf-8"))["entries"]:
                for line in lines_of(entry_from(entry)):
                    yield json.dumps(line, ensure_ascii=False) + "\n"
