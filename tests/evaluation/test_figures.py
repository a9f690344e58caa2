"""A chart reads back as what it was drawn from."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from groundup.core.errors import DataError
from groundup.evaluation.evaluate import Outcome
from groundup.evaluation.figures import confusion_chart, pictures_of, reliability, reliability_chart

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
    bins = reliability(decoded, targets)
    assert [(round(b.sure, 9), b.right, b.samples) for b in bins] == [(0.9, 0.7, 10)]
    assert "20.0%" in texts(read(reliability_chart(bins, "Reliability")))
    mixed = reliability(np.array([[0.35, 0.65], [0.95, 0.05], [0.68, 0.32]]), np.array([1, 1, 1]))
    assert [(b.right, b.samples) for b in mixed] == [(0.5, 2), (0.0, 1)]


def test_what_a_report_keeps_of_a_classifier_can_be_written_and_drawn() -> None:
    outcome = Outcome(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]))
    kept = json.loads(json.dumps(pictures_of(outcome, ["died", "survived"])))
    assert kept["confusion"] == {"labels": ["died", "survived"], "counts": [[1, 0], [1, 1]]}
    assert sum(count for _, _, count in kept["reliability"]) == 3
    many = Outcome(np.full((2, 200), 1 / 200), np.array([0, 199]))
    assert list(pictures_of(many, [str(i) for i in range(200)])) == ["reliability"]


def test_names_are_escaped() -> None:
    read(confusion_chart(np.eye(1, dtype=int), ["<&>"], "<t>"))
