"""The page of an inspection: one HTML file that needs nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from html import escape

import numpy as np
import polars as pl

from groundup.core.charts import format_number
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.page import (
    Section,
    Tile,
    figure,
    html_table,
    page_html,
    paragraph,
    recipe_block,
    side_by_side,
    table,
)
from groundup.core.plan import format_bytes
from groundup.core.report import machine
from groundup.data.inspection.columns import Column
from groundup.data.inspection.images import Images, describe_images
from groundup.data.inspection.table import Table, describe_table
from groundup.data.inspection.texts import Texts, describe_texts
from groundup.data.pages import findings as find
from groundup.data.pages.cards import column_cards, columns_table, first_rows, gallery
from groundup.data.pages.figures import (
    categories,
    correlation_chart,
    distribution,
    gap_chart,
    lag_chart,
    over_time,
    shares,
)
from groundup.data.pages.findings import Finding
from groundup.data.pages.style import STYLE
from groundup.data.sources.times import TIME_PARTS

MADE = "groundup inspect"
"""What a page of ours says that it was made by; only such a file is written over."""

HALF = 430
WORDY = 8.0
"""Words in the mean, from which on a column of strings is looked at as text."""

MARKS = {"mend": ("fail", "mend"), "look": ("look", "look"), "know": ("know", "know")}


@dataclasses.dataclass(frozen=True)
class Inspected:
    """What was found, and the page that shows it."""

    table: Table | None
    images: Images | None
    texts: Texts | None
    findings: tuple[Finding, ...]
    html: str


def inspect_dataset(
    dataset: Dataset,
    title: str,
    target: str | None = None,
    *,
    recipe: str = "",
    said: Sequence[str] = (),
    extra: Sequence[Section] = (),
    behind: Sequence[Section] = (),
) -> Inspected:
    """Look at data and draw its page. ``recipe`` is a drafted one to be shown, ``said`` notes on how it was read.

    ``extra`` are further sections, put behind the findings, and ``behind`` those at the end. Raises DataError for
    data without rows.
    """
    if not len(dataset) or not dataset.columns:
        raise DataError(f"{dataset.origin or title}: there are no rows to look at.")
    looked = describe_table(dataset, target)
    images = _images(dataset, target)
    texts = _texts(dataset, looked)
    if texts is not None:  # it is what the page is about, and not left out
        looked = dataclasses.replace(looked, drops=tuple(d for d in looked.drops if d.column != texts.column))
    found = [*find.of_table(looked, texts=texts is not None)] if images is None else []
    found += find.of_images(images) if images is not None else []
    found += find.of_texts(texts) if texts is not None else []
    found.sort(key=lambda finding: find.ORDER[finding.level])
    parts = [
        Section("Findings", findings_table(found), "The gravest first; each line can go into a recipe as it stands."),
        *extra,
        *(_of_images(images) if images is not None else []),
        *(_of_texts(texts, looked.rows) if texts is not None else []),
        *(_of_table(dataset, looked) if images is None else []),
        *behind,
        *([Section("Recipe", recipe_block(recipe), "What groundup new writes for this data.")] if recipe else []),
    ]
    told = "; ".join(said)
    subtitle = f"{dataset.origin or 'data'} · looked at by groundup" + (f" · {told}" if told else "")
    facts = {key: value for key, value in machine().items() if key in ("groundup", "polars", "python")}
    html = page_html(
        title, parts, subtitle, _tiles(dataset, looked, images, texts, found), {"made by": MADE, **facts}, STYLE
    )
    return Inspected(looked, images, texts, tuple(found), html)


def findings_table(found: Sequence[Finding]) -> str:
    """Each finding with how grave it is, what was seen, and the line that does something about it."""
    if not found:
        return '<p class="good">Nothing stands out.</p>'
    rows = []
    for finding in found:
        kind, word = MARKS[finding.level]
        line = f"<code>{escape(finding.line)}</code>" if finding.line else ""
        saw = f'<span class="saw">{escape(finding.saw)}</span>{line}'
        rows.append([f'<span class="mark {kind}">{word}</span>', f"<b>{escape(finding.what)}</b>", saw])
    return f'<div class="findings">{html_table(["", "what", "seen"], rows)}</div>'


def _tiles(
    dataset: Dataset, looked: Table, images: Images | None, texts: Texts | None, found: Sequence[Finding]
) -> list[Tile]:
    grave = sum(finding.level == "mend" for finding in found)
    told = Tile("findings", f"{len(found)}", f"{grave} to be mended" if grave else "none grave", not grave)
    if images is not None:
        classes = Tile("classes", f"{len(images.classes)}") if images.classes else Tile("classes", "none")
        seen = f"{images.seen:,} looked at" if images.seen < images.rows else "all looked at"
        height, width = images.sizes[0][0]
        size = Tile("size", f"{width} x {height}", "all alike" if images.alike else f"{len(images.sizes)} sizes")
        return [Tile("images", f"{images.rows:,}", seen), classes, size, Tile("odd", f"{len(images.odd)}"), told]
    if texts is not None and len(dataset.columns) <= 2:
        language = texts.languages[0][0] if texts.languages else "unclear"
        return [
            Tile("texts", f"{texts.rows:,}", f"{texts.seen:,} looked at"),
            Tile("characters", format_number(texts.total_characters), f"{texts.distinct_characters:,} different"),
            Tile("language", language),
            Tile("copies", f"{texts.copies.exact:,}", f"{texts.copies.near:,} with near ones", not texts.copies.exact),
            told,
        ]
    missing = looked.cells_missing / max(1, looked.rows * len(looked.columns))
    return [
        Tile("rows", f"{looked.rows:,}", format_bytes(dataset.frame.estimated_size()) + " in memory"),
        Tile("columns", f"{len(looked.columns)}", _kinds(looked.columns)),
        Tile("missing", f"{missing:.1%}", f"{looked.cells_missing:,} cells"),
        Tile("duplicates", f"{looked.duplicates.rows:,}", "rows", not looked.duplicates.rows),
        told,
    ]


def _kinds(columns: Sequence[Column]) -> str:
    counts: dict[str, int] = {}
    for column in columns:
        counts[column.kind] = counts.get(column.kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda item: -item[1]))


def _of_table(dataset: Dataset, looked: Table) -> list[Section]:
    note = "How much of the target each column tells by itself, out of sample." if looked.told else ""
    found = [Section("Columns", columns_table(looked) + _peek(dataset), note)]
    if looked.target is not None:
        found.append(Section(f"Target {looked.target.name}", _target(looked), _task(looked)))
    if looked.gaps is not None:
        found.append(Section("Missing values", _gaps(looked)))
    series = _series(dataset, looked)
    if series:
        found.append(Section("Over time", series, "Mean, smallest and largest of the rows that share a pixel."))
    found.append(
        Section(
            "Distributions", column_cards(looked), "The median is dashed; beyond Tukey's fences the bars change colour."
        )
    )
    if looked.correlations is not None:
        note = "Spearman's: one colour for columns that rise together, another for those that go against each other."
        found.append(Section("Rank correlations", figure(correlation_chart(looked.correlations)), note))
    return found


def _peek(dataset: Dataset) -> str:
    return f'<h3 class="group">The first rows</h3>{first_rows(dataset)}'


def _task(looked: Table) -> str:
    target = looked.target
    assert target is not None
    if target.task == "classify":
        return f"{len(target.classes)} classes; always saying the commonest is right on {target.commonest_share:.1%}."
    return "A number; a model's error is measured against always saying its mean."


def _target(looked: Table) -> str:
    target = looked.target
    assert target is not None
    column = looked.column(target.name)
    if column.numbers is not None and target.task == "regress":
        left = figure(distribution(column.numbers, target.name, HALF, 190))
    else:
        top = sorted(zip(map(str, target.classes), target.counts, strict=True), key=lambda pair: -pair[1])
        left = figure(categories(top, sum(target.counts), target.name, len(top), HALF), "rows of each class")
    if not looked.told:
        return left
    what = "of its variance" if target.task == "regress" else "of its uncertainty (entropy)"
    values = [(one.column, one.share, f"{one.share:.1%} {what}") for one in looked.told[:14]]
    right = figure(
        shares(values, f"What tells {target.name}", HALF + 60), f"share {what} that each column explains alone"
    )
    return side_by_side(left, right)


def _gaps(looked: Table) -> str:
    assert looked.gaps is not None
    chart = figure(gap_chart(looked.gaps, looked.rows))
    rows = [[", ".join(names), f"{count:,}", f"{count / looked.rows:.1%}"] for names, count in looked.gaps.patterns]
    return chart + '<h3 class="group">Missing together</h3>' + table(["columns", "rows", "share"], rows, (1, 2))


def _series(dataset: Dataset, looked: Table, most: int = 6) -> str:
    """The numbers over time where rows follow one another in it, and how the first of them repeats itself."""
    time = looked.time
    if time is None or time.times is None or time.times.regular < 0.5 or looked.rows < 10 or time.missing:
        return ""
    ordered = dataset.frame[dataset.frame.get_column(time.name).arg_sort()]
    stamps = ordered[time.name].cast(pl.Datetime("ms")).to_numpy()
    target = looked.target.name if looked.target is not None else None
    passed_over = {*_dropped(looked), *(c.name for c in looked.columns if c.name.lower() in TIME_PARTS)}
    numbers = [c for c in looked.columns if c.kind == "number" and c.distinct > 5 and c.name not in passed_over]
    numbers.sort(key=lambda column: column.name != target)
    charts = []
    for i, column in enumerate(numbers[:most]):
        values = ordered[column.name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        charts.append(figure(over_time(stamps, values, column.name), column.name))
        if i == 0 and (lags := autocorrelation(values)) is not None:
            charts.append(figure(lag_chart(lags, column.name), f"{column.name}: likeness to itself, by rows before"))
    rest = len(numbers) - most
    return "".join(charts) + (paragraph(f"and {rest} more columns of numbers") if rest > 0 else "")


def autocorrelation(
    values: np.ndarray[tuple[int], np.dtype[np.float64]], most: int = 400
) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    """Pearson's correlation of a series with itself 1, 2, ... rows before, over the pairs that are there.

    Up to a third of its length and 400 lags; None where it does not vary.
    """
    known = np.isfinite(values)
    if known.sum() < 10:
        return None
    values = values[-20_000:]
    known = known[-20_000:]
    centred = np.where(known, values - values[known].mean(), 0.0)
    variance = float((centred**2).sum() / known.sum())
    if variance <= 0:
        return None
    size = 1 << int(np.ceil(np.log2(2 * len(values))))
    power = np.fft.irfft(np.abs(np.fft.rfft(centred, size)) ** 2)
    pairs = np.fft.irfft(np.abs(np.fft.rfft(known.astype(float), size)) ** 2)
    lags = slice(1, min(most, len(values) // 3) + 1)
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = power[lags] / np.maximum(pairs[lags], 1.0) / variance
    return found


def _dropped(looked: Table) -> set[str]:
    return {drop.column for drop in looked.drops if drop.kind in ("id", "empty", "constant")}


def _images(dataset: Dataset, target: str | None) -> Images | None:
    columns = [name for name in dataset.of_kind("image") if _may_be_pictures(dataset.frame.get_column(name))]
    if not columns:
        return None
    label = target or next((name for name in ("label", "class") if name in dataset.columns), None)
    return describe_images(dataset, columns[0], label)


def _may_be_pictures(column: pl.Series) -> bool:
    """Whether a column holds files' bytes or numbers in rows, and not lists of words or records."""
    inner = column.dtype
    while isinstance(inner, (pl.List, pl.Array)):
        inner = inner.inner  # type: ignore[assignment]
    nested = column.dtype.is_nested() and inner.is_integer()
    return column.null_count() < len(column) and (column.dtype == pl.Binary or nested)


def _texts(dataset: Dataset, looked: Table) -> Texts | None:
    wordy = [c for c in looked.columns if c.kind == "text" and (c.words >= WORDY or _long(c))]
    if not wordy:
        return None
    return describe_texts(dataset, max(wordy, key=lambda column: column.words).name)


def _long(column: Column) -> bool:
    return column.lengths is not None and column.lengths.mean > 40


def _of_images(images: Images) -> list[Section]:
    found = []
    seen = f"of {images.seen:,} images" + (f" drawn from {images.rows:,}" if images.seen < images.rows else "")
    if images.odd:
        note = f"Furthest in brightness, contrast, sharpness, colour or shape, {seen}. Faults, or rare and right?"
        found.append(Section("Odd ones", gallery(images.odd), note))
    if images.classes:
        bars = categories([(c, n) for c, n in images.classes], images.rows, "label", len(images.classes), HALF + 60)
        found.append(Section("Classes", figure(bars)))
    found.append(Section("Some of each", gallery(images.typical), "Drawn by chance, class by class."))
    rows = [[f"{w} x {h}", f"{n:,}", f"{n / images.seen:.1%}"] for (h, w), n in images.sizes[:10]]
    found.append(Section("Sizes", table(["width x height", "images", "share"], rows, (1, 2))))
    if images.copies:
        rows = [[name, like, f"{likeness:.3f}"] for name, like, likeness in images.copies[:20]]
        more = paragraph(f"and {len(images.copies) - 20} more") if len(images.copies) > 20 else ""
        note = "Images that show the same, by hashes and then pixel by pixel; such a pair in train and test is a leak."
        found.append(Section("Near copies", table(["image", "like", "correlation"], rows, (2,)) + more, note))
    return found


def _of_texts(texts: Texts, rows: int) -> list[Section]:
    lengths = side_by_side(
        figure(distribution(texts.characters, "characters", HALF, 170), "characters of a text"),
        figure(distribution(texts.words, "words", HALF, 170), "words of a text"),
    )
    languages = categories(texts.languages, texts.seen, "language", len(texts.languages), HALF + 60)
    seen = f"{texts.seen:,} of {rows:,} texts" if texts.seen < rows else f"all {rows:,} texts"
    found = [
        Section(f"Text in {texts.column}", lengths, f"From {seen}, {texts.total_characters:,} characters."),
        Section(
            "Languages", figure(languages), "By script, and for Latin letters by the words that no text goes without."
        ),
    ]
    if texts.repeats.lines:
        lines = [[line, f"{count:,}"] for line, count in texts.repeats.lines]
        note = f"Three times or more; together {texts.repeats.share:.1%} of all characters are such repeats."
        found.append(Section("Lines that come again", table(["line", "times"], lines, (1,)), note))
    rows_shown = [[name, f"{count:,}", text] for name, count, text in texts.extremes]
    found.append(Section("Shortest and longest", table(["text", "characters", "begins"], rows_shown, (1,))))
    return found
