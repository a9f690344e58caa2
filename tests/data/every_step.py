"""Every step that a recipe can name, as a call with arguments, and a table that gives each of them something to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset
from groundup.core.use import Use
from groundup.data import cleaning

ROWS = 3000


def table() -> Dataset:
    draw = np.random.default_rng(5)
    place = np.arange(ROWS)
    number = pl.Series("a", draw.normal(3, 2, ROWS)).set(pl.Series(draw.random(ROWS) < 0.1), None)
    skewed = pl.Series("b", draw.exponential(4, ROWS)).set(pl.Series(draw.random(ROWS) < 0.01), 900.0)
    site = pl.Series("site", [f"s{value}" for value in draw.integers(0, 9, ROWS)])
    colour = pl.Series("colour", draw.choice(["red", "green", "blue"], ROWS)).set(
        pl.Series(draw.random(ROWS) < 0.05), None
    )
    words = np.array(["the", "house", "is", "not", "far", "from", "a", "garden,", "and", "we", "walk.", "<b>there</b>"])
    text = pl.Series(
        "text", [" ".join(words[draw.integers(0, len(words), size)]) for size in draw.integers(1, 60, ROWS)]
    )
    frame = pl.DataFrame(
        [
            number, skewed, pl.Series("c", draw.integers(0, 50, ROWS)), site, colour,
            pl.Series("flag", draw.random(ROWS) < 0.3), pl.Series("when", place * 60).cast(pl.Datetime("us")),
            text, pl.Series("y", draw.choice(["no", "yes"], ROWS)),
        ]
    )  # fmt: skip
    frame = pl.concat([frame, frame[:40]])
    kinds: Any = {
        "a": "number", "b": "number", "c": "number", "site": "category", "colour": "category", "flag": "boolean",
        "when": "time", "text": "text", "y": "category",
    }  # fmt: skip
    return Dataset.of(frame, kinds, origin="made")


TABLE = table()

PREPARE: dict[str, Use] = {
    "ClipOutliers": Use("ClipOutliers", method="k_sigma"),
    "DropMissing": Use("DropMissing", columns=["a"]),
    "DropSparseColumns": Use("DropSparseColumns", share=0.03),
    "EachSeries": Use("EachSeries", steps=[{"use": "median_filter", "width": 5}], columns=["a", "b"], by=["site"]),
    "Fill": Use("Fill"),
    "Fill, by mean with a flag": Use("Fill", method="mean", indicator=True),
    "Fill, by mode": Use("Fill", method="mode"),
    "Fill, by group": Use("Fill", columns=["a"], by=["site"]),
    "Fill, along time by site": Use("Fill", columns=["a"], method="linear", by=["site"], time="when"),
    "Fill, along time within reach": Use("Fill", columns=["a"], method="forward", limit=3),
    "FillIterative": Use("FillIterative", sample_rows=500),
    "FillNearest": Use("FillNearest", columns=["a"], sample_rows=200),
    "HashEncode": Use("HashEncode", columns=["site"], buckets=4),
    "LogScale": Use("LogScale"),
    "MinMax": Use("MinMax"),
    "OneHot": Use("OneHot", columns=["site", "colour"]),
    "Ordinal": Use("Ordinal", columns=["colour"]),
    "OutlierRows": Use("OutlierRows", columns=["b", "c"], sample_rows=500),
    "Outliers": Use("Outliers"),
    "Outliers, dropped": Use("Outliers", columns=["b"], method="k_sigma", action="drop"),
    "Outliers, hampel": Use("Outliers", columns=["b"], method="hampel", width=9),
    "Outliers, hampel by site": Use("Outliers", columns=["b"], method="hampel", width=9, by=["site"]),
    "PowerScale": Use("PowerScale", columns=["b"]),
    "QuantileScale": Use("QuantileScale", columns=["a", "b"]),
    "RobustScale": Use("RobustScale"),
    "Standardize": Use("Standardize"),
    "TargetEncode": Use("TargetEncode", columns=["site"], target="y"),
}

WHOLE = {"DropLabelErrors": "asks a model of its own about all of train"}
"""Steps of which shards are refused, unless all rows fit in memory."""

CLEAN: dict[str, Use] = {
    "EachSeries": Use("EachSeries", steps=[{"use": "median_filter", "width": 5}], columns=["a", "b"], by=["site"]),
    "collapse_repeats": Use("collapse_repeats"),
    "drop_columns": Use("drop_columns", columns=["c"]),
    "drop_exact_duplicates": Use("drop_exact_duplicates"),
    "drop_generated": Use("drop_generated"),
    "drop_missing": Use("drop_missing", columns=["colour"]),
    "drop_near_duplicates": Use("drop_near_duplicates"),
    "drop_rare": Use("drop_rare", column="site", at_least=320),
    "drop_short": Use("drop_short"),
    "drop_without": Use("drop_without", columns=["colour"]),
    "c4_quality": Use("c4_quality", min_words_per_line=2, min_sentences=1),
    "fineweb_quality": Use("fineweb_quality"),
    "gopher_quality": Use("gopher_quality"),
    "gopher_repetition": Use("gopher_repetition"),
    "mask_personal": Use("mask_personal"),
    "normalise_unicode": Use("normalise_unicode"),
    "repair_text": Use("repair_text"),
    "strip_boilerplate": Use("strip_boilerplate"),
    "strip_controls": Use("strip_controls"),
    "strip_html": Use("strip_html"),
}
IMAGES = {name for name in cleaning.__all__ if "image" in name}
ELSEWHERE = {*IMAGES, "drop_contaminated"}
"""Steps whose own tests hold shards against a table."""
