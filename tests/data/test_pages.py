"""Pages of data are sound HTML that needs nothing else, whatever the data hold."""

from __future__ import annotations

import contextlib
import datetime
import html.parser
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.dataset import ROW, Dataset
from groundup.core.errors import DataError
from groundup.data.inspection.columns import describe_numbers
from groundup.data.inspection.table import describe_table
from groundup.data.pages import inspect_dataset, inspect_path, write_page
from groundup.data.pages.figures import categories, distribution, lag_chart, over_time, shares, spark
from groundup.data.pages.findings import of_table
from groundup.data.pages.page import autocorrelation

VOID = {"meta", "br", "img", "!doctype"}
SVG = "{http://www.w3.org/2000/svg}"


class Strict(html.parser.HTMLParser):
    """Fails on tags that are not closed in order; gathers text, tags and references."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.ids += [str(value) for name, value in attrs if name == "id"]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert "script" not in parser.tags
    assert "link" not in parser.tags
    for reference in parser.references:
        assert reference.startswith(("#", "data:image/"))
        if reference.startswith("#"):
            assert reference[1:] in parser.ids
    assert not re.search(r"url\(|@import", page)
    return parser


def charts(page: str) -> Iterator[ET.Element]:
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        yield ET.fromstring(svg)


def people(rows: int = 300) -> Dataset:
    rng = np.random.default_rng(0)
    start = datetime.datetime(2024, 1, 1)
    return Dataset.of(
        pl.DataFrame(
            {
                "<script>alert(1)</script>": rng.normal(size=rows),
                "a & b": rng.choice(["<b>", "&amp;", '"'], rows),
                "income": rng.lognormal(8, 1.5, rows),
                "gaps": [None if i % 3 else float(i) for i in range(rows)],
                "when": [start + datetime.timedelta(hours=i) for i in range(rows)],
                "told": ["yes" if i % 2 else "no" for i in range(rows)],
                "target": [i % 2 for i in range(rows)],
            }
        ),
        origin="<people>",
    )


def test_a_page_of_a_table_is_sound_escaped_and_small() -> None:
    found = inspect_dataset(people(), "a <title>", "target", recipe="# <script>\nname = 'x'", said=["<said>"])
    page = read(found.html)
    text = " ".join(page.text)
    assert "<script>alert(1)</script>" in text
    assert "a <title>" in text
    assert len(found.html) < 400_000
    titles = ["Findings", "Columns", "Target target", "Missing values", "Over time", "Distributions", "Recipe"]
    assert [title for title in titles if title not in text] == []
    assert "gives the target away" in text
    assert len(list(charts(found.html))) > 12
    assert "nan" not in re.sub(r"[^<>]*>", ">", found.html.split("</style>")[1]).lower().replace("not a number", "")


def test_findings_are_ready_lines_of_a_recipe() -> None:
    import tomllib

    findings = of_table(describe_table(people(), "target"))
    assert findings[0].level == "mend"
    lines = [finding.line for finding in findings if finding.line]
    assert len(lines) >= 4
    for line in lines:
        assert tomllib.loads(line)


def test_nothing_that_stands_out_is_said_too() -> None:
    found = inspect_dataset(Dataset.of(pl.DataFrame({"x": np.linspace(0.0, 1.0, 50)})), "plain")
    assert found.findings == ()
    assert "Nothing stands out." in found.html


names = st.one_of(st.sampled_from(["*", "^.*$", "_", "split"]), st.text(max_size=5))
cells = st.one_of(st.none(), st.floats(), st.integers(-5, 5), st.text(max_size=4), st.booleans(), st.just("</svg>"))


@settings(max_examples=60)
@given(
    st.dictionaries(
        names,
        st.lists(cells, min_size=1, max_size=9),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_any_small_table_has_a_page(columns: dict[str, list[Any]], data: st.DataObject) -> None:
    rows = min(map(len, columns.values()))
    frame = pl.DataFrame({n: pl.Series(v[:rows], strict=False) for n, v in columns.items() if n != ROW})
    if not frame.width:
        return
    target = data.draw(st.sampled_from([None, *frame.columns]))
    found = inspect_dataset(Dataset.of(frame), "any")
    read(found.html)
    list(charts(found.html))
    if target is not None:
        with contextlib.suppress(DataError):
            read(inspect_dataset(Dataset.of(frame), "any", target).html)


@pytest.mark.parametrize("values", [[1.7120886998688722e308], [-1.7e308, 1.7e308, 0.0], [1e308, 1.2e308] * 20])
def test_numbers_near_the_largest_have_a_page(values: list[float]) -> None:
    assert "<svg" in inspect_dataset(Dataset.of(pl.DataFrame({"x": values})), "large").html


def test_data_without_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        inspect_dataset(Dataset.of(pl.DataFrame({"a": []})), "none")


def test_charts_of_one_value_and_of_none() -> None:
    for chart in (
        distribution(describe_numbers(np.array([3.0])), "one"),
        distribution(describe_numbers(np.array([np.inf])), "endless"),
        distribution(describe_numbers(np.geomspace(1, 1e6, 400)), "log"),
        categories([("<a>", 3)], 3, "<n>", 1),
        categories([], 0, "none", 0),
        shares([("x", 0.5, "half"), ("y", float("0"), "none")], "t"),
        over_time(np.array(["2024-01-01", "2024-01-01"], "datetime64[ms]"), np.array([1.0, np.nan]), "v"),
        lag_chart(np.array([0.5, np.nan, -0.2]), "v"),
    ):
        assert ET.fromstring(chart).tag.endswith("svg")
    assert spark([]) == ""


def test_autocorrelation_is_that_of_numpy() -> None:
    rng = np.random.default_rng(0)
    values = np.sin(np.arange(240) * 2 * np.pi / 24) + 0.1 * rng.normal(size=240)
    found = autocorrelation(values)
    assert found is not None
    centred = values - values.mean()
    for lag in (1, 12, 24):
        by_hand = (centred[lag:] * centred[:-lag]).sum() / (len(values) - lag) / centred.var()
        assert found[lag - 1] == pytest.approx(by_hand, abs=1e-9)
    assert int(np.argmax(found[12:36])) + 13 == 24
    assert autocorrelation(np.ones(50)) is None


def test_a_page_of_ours_is_written_over_and_no_other_file(tmp_path: Path) -> None:
    page = inspect_dataset(people(), "x").html
    file = write_page(page, tmp_path / "new" / "x.html")
    assert write_page(page, file).read_text("utf-8") == page
    mine = tmp_path / "mine.html"
    mine.write_text("my own", encoding="utf-8")
    with pytest.raises(DataError, match="exists already"):
        write_page(page, mine)
    assert mine.read_text("utf-8") == "my own"


@pytest.mark.parametrize(
    ("path", "target", "shows"),
    [
        ("tab_titanic/titanic.csv", "Survived", "Target Survived"),
        ("tab_california_housing/housing.csv", "median_house_value", "Rank correlations"),
        ("ts_ett/ETTh1.csv", "OT", "Over time"),
        ("cls_sms_spam/spam.csv", None, "Lines that come again"),
        ("lm_english_novels_100", None, "Languages"),
    ],
)
def test_real_data_have_small_pages(path: str, target: str | None, shows: str, shared_data: Path) -> None:
    _, found = inspect_path(shared_data / path, target)
    assert shows in " ".join(read(found.html).text)
    assert len(found.html) < 1_000_000


def test_what_texts_are_about_is_not_told_to_be_left_out() -> None:
    texts = [f"房间很小，确实挺小，但加上低价位因素，也就可以了，第{i}次入住" for i in range(40)]
    kinds: Any = {"label": "number", "review": "text"}
    dataset = Dataset.of(pl.DataFrame({"label": [0, 1] * 20, "review": texts}), kinds)
    found = inspect_dataset(dataset, "reviews")
    assert found.texts is not None
    assert found.table is not None
    assert [drop.column for drop in found.table.drops] == []
    assert "drop_columns" not in " ".join(one.line for one in found.findings)
    known = inspect_dataset(dataset, "reviews", "label")
    assert "Little to learn from" not in [one.what for one in known.findings]


def test_only_columns_with_gaps_are_told_to_be_filled() -> None:
    frame = pl.DataFrame({"a": [1.5, None, 2.5, 3.5] * 10, "b": [float(i % 7) for i in range(40)]})
    found = inspect_dataset(Dataset.of(frame), "gaps")
    assert [one.line for one in found.findings if "gaps" in one.what] == [
        'prepare = [{ use = "Fill", columns = ["a"], method = "median", indicator = true }]'
    ]


def test_a_share_is_not_rounded_up_to_all() -> None:
    frame = pl.DataFrame({"y": [1.0, 2.0] * 500, "c": ["a", "b"] + [None] * 998})
    found = inspect_dataset(Dataset.of(frame, {"y": "number", "c": "category"}), "gaps")
    assert "c missing on 99.8% of the rows" in [one.saw for one in found.findings]


def test_the_page_says_how_a_file_was_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes("name;price\nCafé;1,5\nThé;2,25\n".encode("cp1252"))
    _, found = inspect_path(path)
    assert "Windows-1252, separator semicolon" in found.html
    assert "the comma read as decimal point" in found.html
