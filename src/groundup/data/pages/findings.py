"""What a person should know or do about data, the gravest first, each with the line of a recipe that does it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from groundup.core.use import Use
from groundup.data.drafting.forecasts import is_series
from groundup.data.drafting.images import edge_of
from groundup.data.drafting.tables import (
    OFTEN_MISSING,
    RAREST_CLASS,
    counted,
    drawing_in,
    filling,
    is_imbalanced,
    weighted,
)
from groundup.data.drafting.toml import write
from groundup.data.inspection.columns import Column
from groundup.data.inspection.images import Images
from groundup.data.inspection.relations import Told
from groundup.data.inspection.table import Table
from groundup.data.inspection.texts import Texts

Level = Literal["mend", "look", "know"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was seen."""

    level: Level
    """To be mended before training; to be looked at; or good to know."""
    what: str
    saw: str
    line: str = ""
    """A line of a recipe that does something about it."""


ORDER: dict[Level, int] = {"mend": 0, "look": 1, "know": 2}

TITLES = {
    "leak": "gives the target away",
    "constant": "the same everywhere",
    "empty": "hardly any value",
    "id": "names rows",
    "text": "free text",
    "scattered": "values hardly repeat",
}


def of_table(table: Table, *, texts: bool = False) -> list[Finding]:
    """What a table gives reason to; with ``texts`` its free text is looked at by itself, and no fault."""
    titles = {kind: title for kind, title in TITLES.items() if not (texts and kind == "text")}
    found = [
        *_of_drops(table, titles),
        *_of_rows(table),
        *_of_values(table),
        *_of_target(table, texts),
        *_of_time(table),
    ]
    return sorted(found, key=lambda finding: ORDER[finding.level])


def of_images(images: Images) -> list[Finding]:
    """What images give reason to."""
    found = []
    if images.copies:
        apart = f"; {images.across} of the pairs carry different labels" if images.across else ""
        saw = f"{len(images.copies):,} of {images.seen:,} images look like another{apart}"
        found.append(Finding("mend" if images.across else "look", "Near copies", saw, _clean("drop_near_images")))
    if not images.alike:
        most = ", ".join(f"{w} x {h} ({n:,})" for (h, w), n in images.sizes[:3])
        line = f"samples = {write(Use('Images', image='image', target='label', size=edge_of(images)))}"
        found.append(Finding("look", "Sizes differ", f"{len(images.sizes)} sizes, such as {most}", line))
    if 0 < images.grey < images.seen:
        found.append(Finding("know", "Grey among colour", f"{images.grey:,} of {images.seen:,} images are grey"))
    if images.odd:
        saw = f"{len(images.odd)} stand far from the others: {_listed([p.said for p in images.odd])}"
        found.append(Finding("look", "Odd ones", saw))
    counts = tuple(count for _, count in images.classes)
    if is_imbalanced(counts):
        saw = f"{images.classes[0][0]} has {counts[0]:,} images, {images.classes[-1][0]} {counts[-1]:,}"
        found.append(Finding("look", "Classes are uneven", saw, _weighted(tuple(n for _, n in sorted(images.classes)))))
    return sorted(found, key=lambda finding: ORDER[finding.level])


def of_texts(texts: Texts) -> list[Finding]:
    """What texts give reason to."""
    found, column = [], texts.column
    if texts.copies.exact:
        line = _clean(Use("drop_exact_duplicates", columns=[column]))
        saw = f"{texts.copies.exact:,} of {texts.seen:,} texts {_verb(texts.copies.exact, 'stand')} there before"
        found.append(Finding("mend", "Copies", saw, line))
    if texts.copies.near > texts.copies.exact:
        are = "is" if texts.copies.near == 1 else "are"
        saw = f"{texts.copies.near:,} of {texts.copies.compared:,} texts {are} at least 0.8 alike to an earlier one"
        found.append(Finding("look", "Near copies", saw, _clean(Use("drop_near_duplicates", column=column))))
    if texts.faults.broken:
        saw = f"{_texts(texts.faults.broken, 'hold')} characters that were decoded wrongly, such as Ã© for é"
        found.append(Finding("mend", "Broken characters", saw, _clean(Use("repair_text", column=column))))
    if texts.faults.control:
        line = _clean(Use("strip_controls", column=column))
        found.append(Finding("look", "Control characters", f"in {_texts(texts.faults.control)}", line))
    if texts.faults.markup:
        line = _clean(Use("strip_html", column=column))
        found.append(Finding("look", "HTML", f"{_texts(texts.faults.markup, 'hold')} tags or entities", line))
    if texts.repeats.share > 0.02:
        saw = f"lines that come three times or more make up {texts.repeats.share:.1%} of all characters"
        found.append(Finding("look", "Lines that come again", saw, _clean(Use("strip_boilerplate", column=column))))
    known = [pair for pair in texts.languages if pair[0] not in ("unclear", "no letters", "other")]
    languages = [name for name, count in known if count >= max(2, 0.02 * texts.seen)]
    if len(languages) > 1:
        found.append(Finding("know", "Several languages", ", ".join(languages)))
    if texts.faults.empty:
        line = _clean(Use("drop_without", columns=[column]))
        found.append(Finding("mend", "Empty texts", f"{_texts(texts.faults.empty)} without a word", line))
    return sorted(found, key=lambda finding: ORDER[finding.level])


def _of_drops(table: Table, titles: Mapping[str, str]) -> list[Finding]:
    found = []
    for kind, title in titles.items():
        drops = [drop for drop in table.drops if drop.kind == kind]
        if not drops:
            continue
        names = [drop.column for drop in drops]
        level: Level = "mend" if kind == "leak" else "know" if kind in ("id", "text") else "look"
        saw = "; ".join(f"{drop.column} {drop.why}" for drop in drops[:4]) + ("; ..." if len(drops) > 4 else "")
        title = f"{counted(names)}: {title}"
        found.append(Finding(level, title, saw, _clean(Use("drop_columns", columns=names))))
    return found


def _of_rows(table: Table) -> list[Finding]:
    found = []
    if table.duplicates.rows:
        row, like = table.duplicates.examples[0]
        saw = f"{table.duplicates.rows:,} rows equal an earlier one in all but ids, such as {row} and {like}"
        found.append(Finding("mend", "Rows stand there twice", saw, _clean("drop_exact_duplicates")))
    if table.group is not None:
        name = table.group.name
        saw = f"{table.group.distinct:,} values on {table.group.present:,} rows: rows of one must not be parted"
        found.append(Finding("look", f"{name} groups rows", saw, f"split = {write(Use('grouped', column=name))}"))
    for one, other in table.twins[:6]:
        line = _clean(Use("drop_columns", columns=[other]))
        found.append(Finding("know", f"{one} and {other} say the same", "each tells the other", line))
    return found


def _of_values(table: Table) -> list[Finding]:
    found = []
    features = table.features
    numbers = [c for c in features if c.kind == "number"]
    categories = [c for c in features if c.kind == "category"]
    booleans = [c for c in features if c.kind == "boolean"]
    lacking = [c for c in features if c.missing]
    if lacking:
        steps = filling(*(_lacking(some) for some in (numbers, categories, booleans)), indicators=True)
        told = counted([f"{c.name} {c.missing_share:.1%}" for c in sorted(lacking, key=lambda c: -c.missing)])
        often = any(c.missing_share >= OFTEN_MISSING for c in lacking)
        found.append(
            Finding(
                "mend" if often else "look",
                f"{counted([c.name for c in lacking])}: gaps",
                told,
                _prepare(*(s.value for s in steps)),
            )
        )
    for step in drawing_in(numbers):
        title = "Long tails" if step.value.target == "LogScale" else "Values far out"
        found.append(Finding("look", title, step.why, _prepare(step.value)))
    for column in table.columns:
        if column.numbers is not None and column.numbers.sentinel is not None:
            value, count = column.numbers.sentinel
            saw = f"{value:g} on {count:,} rows, far from the rest: a missing value in disguise?"
            found.append(
                Finding("mend", f"{column.name} is {value:g}", saw, f'source.missing = ["", "NA", "{value:g}"]')
            )
        if column.numbers is not None and column.numbers.ceiling is not None:
            value, count = column.numbers.ceiling
            saw = f"{count:,} rows lie exactly at the largest value, {value:g}: was everything beyond cut off there?"
            found.append(Finding("look", f"{column.name} piles up at its end", saw))
        if column.numbers is not None and column.numbers.endless:
            saw = f"{column.numbers.endless:,} values are infinite"
            found.append(Finding("mend", f"{column.name} is infinite in places", saw))
        if column.spellings:
            pairs = ", ".join(f"{one!r} and {other!r}" for one, other in column.spellings[:3])
            found.append(Finding("look", f"{column.name} is spelt in several ways", pairs))
    return found


def _of_target(table: Table, texts: bool) -> list[Finding]:
    target, found = table.target, []
    if target is None:
        return []
    if target.missing and is_series(table):
        saw = f"{target.missing:,} rows have no {target.name}; windows that would end in them are left out"
        found.append(Finding("know", "Rows without a target", saw))
    elif target.missing:
        saw = f"{target.missing:,} rows have no {target.name}; a target is never invented"
        found.append(Finding("mend", "Rows without a target", saw, _clean(Use("drop_without", columns=[target.name]))))
    rare = [(c, n) for c, n in zip(target.classes, target.counts, strict=True) if n < RAREST_CLASS]
    if rare:
        saw = ", ".join(f"{name} on {count} rows" for name, count in rare[:5])
        line = _clean(Use("drop_rare", column=target.name, at_least=RAREST_CLASS))
        found.append(Finding("mend", "Classes too rare to be learned", saw, line))
    if target.task == "classify" and is_imbalanced(target.counts):
        rarest = f"the rarest has {min(target.counts):,} rows"
        saw = f"always saying the commonest is right on {target.commonest_share:.1%}; {rarest}"
        found.append(Finding("look", "Classes are uneven", saw, _weighted(target.counts)))
    told = max((one.share for one in table.told), default=1.0)
    if told < 0.01 and not texts and not any(map(_leaks, table.told)):  # a text is not told by its length
        saw = f"no column tells more than {told:.1%} of {target.name} by itself"
        found.append(Finding("look", "Little to learn from", saw))
    return found


def _leaks(told: Told) -> bool:
    return told.leaks


def _of_time(table: Table) -> list[Finding]:
    time = table.time
    if time is None or time.times is None:
        return []
    times, found = time.times, []
    split = f"split = {write(Use('by_time', column=time.name))}"
    saw = f"{times.first:%Y-%m-%d %H:%M} to {times.last:%Y-%m-%d %H:%M}, {times.regular:.1%} one usual step apart"
    found.append(Finding("know", f"{time.name} is a time", saw, split))
    if times.gaps and times.regular >= 0.5:
        found.append(Finding("look", "Breaks in time", f"{times.gaps:,} places where rows are missing"))
    if times.repeated and times.regular >= 0.5:
        found.append(
            Finding("look", "Moments that come twice", f"{times.repeated:,} rows share their time with another")
        )
    if not times.ordered:
        found.append(Finding("know", "Not in order of time", "rows are sorted by time where it matters"))
    return found


def _lacking(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if column.missing]


def _texts(count: int, verb: str = "") -> str:
    """``1 text holds``, ``3 texts hold``."""
    return f"{count:,} text{'s' if count != 1 else ''}{verb and ' ' + _verb(count, verb)}"


def _verb(count: int, verb: str) -> str:
    return f"{verb}s" if count == 1 else verb


def _clean(*uses: Use | str) -> str:
    return f"clean = [{', '.join(write(use, -1000) for use in uses)}]"


def _prepare(*uses: Any) -> str:
    return f"prepare = [{', '.join(write(use, -1000) for use in uses)}]"


def _weighted(counts: tuple[int, ...]) -> str:
    return f"objective = {write(weighted(counts), -1000)}"


def _listed(said: Sequence[str]) -> str:
    counts = {word: said.count(word) for word in dict.fromkeys(said)}
    return ", ".join(f"{count} {word}" for word, count in counts.items())
