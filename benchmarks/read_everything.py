"""Can every table, series, text and image set at hand be read without a reader of its own?

Each file below a folder is recognised by its content and read as `groundup new` and `groundup inspect` do, with the
times and the signs for missing values that are found in it; then the same steps clean it: repair of texts, exact
duplicates. What came of it is written as a table; nothing here knows any of the sets.

    .venv/bin/python benchmarks/read_everything.py ../shared/data docs/data_sets.md
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import sys
import time
from pathlib import Path

from groundup.core.dataset import Dataset, apply
from groundup.core.errors import GroundupError
from groundup.data.cleaning import drop_exact_duplicates, repair_text
from groundup.data.opening import open_data
from groundup.data.sources.recognise import recognise

WHOLE = 1 << 40
"""Bytes of a file up to which it is read whole, and not looked at by a sample."""

PAPERS = ("LICENSE", "README", "SHA256SUMS")
"""Papers that lie beside the data; they are left out."""

MOST_REPAIRED = 20_000
"""Longer text columns are not repaired here, to keep this short."""


@dataclasses.dataclass
class Line:
    """What became of one file, or of several that are alike."""

    name: str
    source: str
    detected: str
    columns: str
    read: int
    accepted: int
    rejected: int
    missing: int
    repaired: int
    doubled: int
    files: int = 1
    reasons: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        return str(Path(self.name).parent), self.source, self.detected, self.columns

    def add(self, other: Line) -> None:
        self.reasons += other.reasons
        for field in ("read", "accepted", "rejected", "missing", "repaired", "doubled", "files"):
            setattr(self, field, getattr(self, field) + getattr(other, field))

    def row(self) -> str:
        name = self.name if self.files == 1 else f"{self.name} and {self.files - 1} more"
        counts = (self.read, self.accepted, self.rejected, self.missing, self.repaired, self.doubled)
        cells = [name, f"`{self.source}`", self.detected, self.columns, *(f"{count:,}" for count in counts)]
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def read(path: Path, root: Path) -> Line:
    """Read and clean one file."""
    opened = open_data(path, WHOLE)
    use, dataset = opened.source, opened.dataset
    options = ", ".join(f"{name}={value}" for name, value in use.arguments.items() if name == "label")
    quarantine = dataset.quarantine
    missing = sum(dataset.frame[name].null_count() for name in dataset.columns)
    repaired, doubled = clean(dataset)
    return Line(
        path.relative_to(root).as_posix(),
        f"{use.target}{f'({options})' if options else ''}",
        detected(dataset, opened.said, recognise(path)[1]),
        kinds(dataset),
        quarantine.read,
        quarantine.accepted,
        len(quarantine.rejected),
        missing,
        repaired,
        doubled,
        reasons=tuple(f"- `{path.relative_to(root).as_posix()}`, {one}: `{one.raw!r}`" for one in quarantine.rejected),
    )


def clean(dataset: Dataset) -> tuple[int, int]:
    """Texts changed by repair, and rows that stand in the set twice."""
    repaired = 0
    for name in dataset.of_kind("text"):
        if len(dataset) <= MOST_REPAIRED:
            dataset = apply(functools.partial(repair_text, column=name), dataset, "repair_text")
            repaired += dataset.history[-1].cells_changed.get(name, 0)
    dataset = apply(drop_exact_duplicates(), dataset, "drop_exact_duplicates")
    return repaired, len(dataset.history[-1].removed)


def detected(dataset: Dataset, found: tuple[str, ...], why: str) -> str:
    """How the file was read, from its ledger, without what follows from the single set; and what was found in it."""
    return "; ".join([_form(dataset, why), *(one for one in found if not one.startswith("read by"))])


def _form(dataset: Dataset, why: str) -> str:
    if not dataset.history or not dataset.history[0].notes:
        return why
    said = dataset.history[0].notes[0]
    if dataset.history[0].step == "csv":
        said = said.partition("cells, ")[2].partition(":")[0]
    elif dataset.history[0].step in ("json", "json_lines"):
        said = said.partition(", ")[2]
    elif dataset.history[0].step in ("text_lines", "image_folder"):
        said = why
    return said


def kinds(dataset: Dataset) -> str:
    counts = collections.Counter(dataset.kinds.values())
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def main(folder: Path, out: Path) -> None:
    """Read everything below ``folder`` and write the table."""
    lines: dict[tuple[str, ...], Line] = {}
    refused: list[str] = []
    began = time.monotonic()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(PAPERS)):
        try:
            line = read(path, folder)
        except GroundupError as error:
            said = str(error).replace(str(path), "").lstrip(":, ")
            refused.append(f"- `{path.relative_to(folder).as_posix()}`: {said}")
            continue
        if line.key in lines:
            lines[line.key].add(line)
        else:
            lines[line.key] = line
        print(line.row(), flush=True)
    out.write_text(page(list(lines.values()), refused), encoding="utf-8")
    files = sum(line.files for line in lines.values())
    print(f"{files} files in {time.monotonic() - began:.0f} s, {len(refused)} refused")


def page(lines: list[Line], refused: list[str]) -> str:
    """The table as a page."""
    total = [sum(getattr(line, name) for line in lines) for name in ("files", "read", "accepted", "rejected")]
    names = ("file", "source", "detected", "columns", "read", "accepted", "rejected", "missing", "repaired", "doubled")
    return "\n".join([
        "# Data sets, read without a reader of their own",
        "",
        "Written by `benchmarks/read_everything.py`, which knows none of these sets: each file is recognised by its",
        "content, read as `groundup new` reads it, and cleaned by the same steps. Cells that stand for missing values",
        "and columns of times are found, not declared. Files of one folder that were read alike share a line.",
        "",
        "- **read = accepted + rejected**: rows; what is rejected lies in the quarantine with line, bytes and reason.",
        "- **missing**: cells without a value, among them those that stood for one.",
        "- **repaired**: texts that `repair_text` changed (mojibake, control characters, line ends, composition).",
        "- **doubled**: rows that `drop_exact_duplicates` removed.",
        "",
        f"{total[0]} files, {total[1]:,} rows read = {total[2]:,} accepted + {total[3]:,} rejected.",
        "",
        "| " + " | ".join(names) + " |",
        "|" + "---|" * 4 + "---:|" * 6,
        *(line.row() for line in lines),
        "",
        "## What was rejected",
        "",
        *(reason for line in lines for reason in line.reasons),
        "",
        "## What is no data",
        "",
        "Weights and binary vocabularies are refused, each with one reason:",
        "",
        *refused,
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
