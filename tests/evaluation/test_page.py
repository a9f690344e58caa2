from __future__ import annotations

import html.parser
import re

import pytest

from groundup.core.charts import Bar, bar_chart
from groundup.core.dataset import Entry
from groundup.core.page import (
    Section,
    Tile,
    figure,
    ledger_table,
    page_html,
    paragraph,
    recipe_block,
    side_by_side,
    table,
)
from groundup.core.plan import Plan
from groundup.core.report import Check, Metric, Report
from groundup.evaluation import page

VOID = {"meta", "br", "!doctype"}


class Strict(html.parser.HTMLParser):
    """Fails on tags that are not closed in order; gathers text and references."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(text: str) -> Strict:
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert not parser.open
    return parser


def whole_page(**kwargs: str) -> str:
    report = Report(
        "test",
        {"f1": Metric(0.9, 100, 0.85, 0.95)},
        {"logistic_regression": {"f1": Metric(0.8, 100), "extra": Metric(1.5, 7, unit="bits/byte")}},
    )
    entries = [
        Entry("drop <bad>", None, 100, 40, {"a": 3}, tuple((f"row {i}", f"near duplicate: of {i}") for i in range(60))),
        Entry("Fill", "train", 40, 40, {"Age": 5}, notes=("median 28",)),
        Entry("explode", "train", 40, 45),
    ]
    checks = [Check("leaks", True, "none"), Check("memory", False, "9 GiB of 8", "make it smaller")]
    plan = Plan({"weights": 2**20}, {"one step": 0.5}, assumptions=("a line",))
    return page_html(
        kwargs.get("title", "digits"),
        [
            Section("Result", figure(bar_chart([Bar("ours", 1.0)], "Bits"), "caption") + page.metrics_table(report)),
            Section("Proof", page.checks_table(checks), "what each saw"),
            Section("Data & steps", ledger_table(entries)),
            Section("Plan", page.plan_table(plan, {"total": 2**21}, {"one step": 0.75, "set-up": 2.0})),
            Section("Recipe", recipe_block(kwargs.get("recipe", 'name = "digits" # mine\n[data]\nseed = 1'))),
            Section("Samples", page.samples_block([("def f():", kwargs.get("written", "\n    return 1"))])),
            Section("More", side_by_side(paragraph("a < b"), table(["x"], [["1 < 2"]], (0,)))),
        ],
        subtitle="a net",
        tiles=[Tile("accuracy", "0.985", "0.97 to 0.99", True), Tile("time", "3 s")],
        facts={"torch": "2.13.0"},
    )


def test_the_page_is_sound_and_needs_nothing_else() -> None:
    text = whole_page()
    found = read(text)
    assert all(reference.startswith("#") for reference in found.references)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert not re.search(r"https?:|@import|url\(", text)
    assert "prefers-color-scheme:dark" in text
    ids = re.findall(r'id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {reference[1:] for reference in found.references} <= set(ids), "every link of the page leads somewhere"


@pytest.mark.parametrize(
    "shown",
    [
        "0.985", "0.97 to 0.99", "0.9", "0.85 to 0.95", "logistic_regression", "bits/byte", "✓ held", "✗ failed",
        "make it smaller", "drop <bad>", "−60", "+5", "60 × near duplicate", "and 20 more, in the run's ledger",
        "median 28", "1.0 MiB", "2.0 MiB", "500.0 ms", "750.0 ms", "2.0 s", "a line", "torch", "2.13.0", "1 < 2",
    ],
)  # fmt: skip
def test_the_page_shows(shown: str) -> None:
    assert shown in "\n".join(read(whole_page()).text)


def test_what_a_model_wrote_cannot_run() -> None:
    planted = "</pre><script>alert(1)</script>"
    for place in ("written", "recipe", "title"):
        found = read(whole_page(**{place: planted}))
        assert "script" not in found.tags
        assert "alert(1)" in "".join(found.text)


def test_a_recipe_keeps_every_letter() -> None:
    recipe = 'a = "x # no comment" # comment\n[[swap]]\nlr = -1e-4\nok = true\nwith = { use = "A.b", n = [1, 2.5] }\n'
    found = read(recipe_block(recipe))
    assert "".join(found.text) == recipe
    block = recipe_block(recipe)
    assert '<span class="t-text">&quot;x # no comment&quot;</span>' in block
    assert '<span class="t-comment"># comment</span>' in block
    assert '<span class="t-table">[[swap]]</span>' in block
    assert '<span class="t-value">-1e-4</span>' in block
    assert '<span class="t-key">with</span>' in block
