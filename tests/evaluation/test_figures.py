"""A chart reads back as what it was drawn from."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from groundup.core.errors import DataError
from groundup.evaluation.figures import confusion_chart, reliability_chart

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


def test_confusion_chart() -> None:
    root = read(confusion_chart(np.array([[8, 2], [0, 5]]), ["died", "survived"], "Confusion"))
    assert {"8", "2", "0", "5", "died", "survived"} <= set(texts(root))
    assert any(e.text == "2 of died predicted as survived (20.0%)" for e in root.iter("title"))
    assert "13 of 15" in str(root.find("desc").text)  # type: ignore[union-attr]
    many = read(confusion_chart(np.eye(40, dtype=int), [str(i) for i in range(40)], "Many"))
    assert "1" in texts(many), "names of the classes"
    assert not [e for e in many.iter("text") if str(e.get("class")).startswith("count")]
    with pytest.raises(DataError, match="3 labels"):
        confusion_chart(np.eye(2), ["a", "b", "c"], "t")


def test_reliability_gives_the_calibration_error() -> None:
    decoded = np.array([[0.1, 0.9]] * 10)
    targets = np.array([1] * 7 + [0] * 3)
    assert "20.0%" in texts(read(reliability_chart(decoded, targets, "Reliability")))


def test_names_are_escaped() -> None:
    read(confusion_chart(np.eye(1, dtype=int), ["<&>"], "<t>"))
