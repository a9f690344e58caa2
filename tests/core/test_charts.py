from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.charts import (
    Axis,
    Bar,
    Line,
    bar_chart,
    format_number,
    line_chart,
    tick_labels,
)
from groundup.core.errors import DataError

SVG = "{http://www.w3.org/2000/svg}"


def read(chart: str) -> ET.Element:
    """Well-formed, titled and described; no number of it is NaN."""
    root = ET.fromstring(chart)
    assert root.get("role") == "img"
    named = {e.get("id"): e for e in root.iter() if e.get("id")}
    for reference in str(root.get("aria-labelledby")).split():
        assert named[reference].text
    assert "nan" not in chart.replace("not a number", "")
    return root


def texts(root: ET.Element) -> list[str]:
    return [e.text or "" for e in root.iter("text")]


def test_line_chart_names_its_lines_and_tells_its_values() -> None:
    chart = line_chart(
        [Line("training", [1, 2, 3], [8.0, 4.0, 2.0]), Line("validation", [1, 3], [8.1, 2.5], dots=True)],
        "Loss over steps",
        "step",
        "loss",
        log_y=True,
    )
    root = read(chart)
    assert {"training", "validation", "step", "loss"} <= set(texts(root))
    assert "training: 8 at step 1, 2 at 3" in str(root.find("desc").text)  # type: ignore[union-attr]
    assert len([e for e in root.iter("circle") if e.get("class") == "dot"]) == 2


def test_higher_values_stand_higher() -> None:
    root = read(line_chart([Line("a", [0, 1], [1.0, 5.0])], "t", "x", "y"))
    line = next(e for e in root.iter("path") if e.get("class") == "line")
    (x0, y0), (x1, y1) = re.findall(r"[ML]([\d.]+) ([\d.]+)", str(line.get("d")))
    assert float(x0) < float(x1)
    assert float(y0) > float(y1)


def test_gaps_and_empty_lines() -> None:
    holes = line_chart([Line("a", [0, 1, 2, 3], [1.0, math.nan, 2.0, math.inf])], "t", "x", "y")
    line = next(e for e in read(holes).iter("path") if e.get("class") == "line")
    assert str(line.get("d")).count("M") == 2
    read(line_chart([Line("a", [], [])], "t", "x", "y"))
    read(line_chart([], "t", "x", "y"))
    read(line_chart([Line("one", [5], [3.0])], "t", "x", "y"))
    read(line_chart([Line("flat", [0, 1], [2.0, 2.0]), Line("zero", [0, 1], [0.0, -1.0])], "t", "x", "y", log_y=True))
    with pytest.raises(DataError, match="2 values of x, 1 of y"):
        line_chart([Line("a", [0, 1], [1.0])], "t", "x", "y")


def test_long_lines_stay_small() -> None:
    x = list(range(100_000))
    chart = line_chart([Line("training", x, [math.sin(i / 1000) for i in x], smooth=True)], "t", "x", "y")
    assert len(chart) < 40_000
    read(chart)


def test_a_smoothed_line_does_not_lag() -> None:
    """A steep start must not be drawn late: at the first point the mean is the value itself."""
    x = list(range(200))
    y = [10 * math.exp(-i / 5) for i in x]
    chart = line_chart([Line("a", x, y, smooth=True)], "t", "x", "y")
    raw, smooth = (
        re.findall(r"[ML]([\d.]+) ([\d.]+)", str(e.get("d")))
        for e in read(chart).iter("path")
        if e.get("class") in ("faint", "line")
    )
    assert raw[0] == smooth[0]


def test_names_at_the_ends_do_not_cover_each_other() -> None:
    lines = [Line(f"line {i}", [0, 1], [0.0, 1 + i / 1000]) for i in range(6)]
    root = read(line_chart(lines, "t", "x", "y"))
    ys = sorted(float(str(e.get("y"))) for e in root.iter("text") if e.get("class") == "name")
    assert len(ys) == 6
    assert min(b - a for a, b in itertools.pairwise(ys)) >= 14


def test_bar_chart() -> None:
    root = read(bar_chart([Bar("ours", 1.2, 1.1, 1.3, ours=True), Bar("xz", 1.6)], "Bits", "bits per byte", "lower"))
    assert "bits per byte · lower is better" in texts(root)
    widths = [float(str(e.get("width"))) for e in root.iter("rect")]
    assert widths[1] / widths[0] == pytest.approx(1.6 / 1.2, rel=0.01), "bars begin at 0"
    assert "ours: 1.2 (1.1 to 1.3); xz: 1.6" in str(root.find("desc").text)  # type: ignore[union-attr]
    assert "not a number" in texts(read(bar_chart([Bar("broken", math.nan), Bar("b", -1.0)], "t")))


def test_names_are_escaped() -> None:
    line = line_chart([Line("<a>", [0, 1], [1.0, 2.0]), Line("&", [0], [1.0])], '<t"', "<x>", "&y")
    assert "<a>" in texts(read(line))
    read(bar_chart([Bar("<script>", 1.0)], "<t>", "<u>"))


@settings(max_examples=100, deadline=None)
@given(
    st.floats(-1e12, 1e12, allow_nan=False),
    st.floats(1e-9, 1e12),
    st.booleans(),
)
def test_ticks_lie_on_the_axis_and_are_readable(low: float, span: float, log: bool) -> None:
    values = [abs(low) + 1e-9, abs(low) + 1e-9 + span] if log else [low, low + span]
    axis = Axis.over(values, 0.0, 100.0, log=log)
    ticks = axis.ticks()
    assert len(ticks) <= 20
    assert all(-0.01 <= axis.place(tick) <= 100.01 for tick in ticks)
    assert axis.place(values[0]) < axis.place(values[1]) or span < 1e-6 * abs(low) + 1e-6
    assert len(tick_labels(ticks)) == len(ticks)


def test_tick_labels_share_their_decimals() -> None:
    assert tick_labels([0.0, 0.005, 0.01]) == ["0.000", "0.005", "0.010"]
    assert tick_labels([0.0, 20_000.0, 40_000.0]) == ["0", "20k", "40k"]
    assert tick_labels([1e6, 2.5e6]) == ["1.0M", "2.5M"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.98512, "0.9851"), (1.366, "1.366"), (1250.0, "1,250"), (3.2e6, "3.2M"), (0.0, "0"), (2e-5, "2.00e-05")],
)
def test_numbers_for_people(value: float, shown: str) -> None:
    assert format_number(value) == shown
