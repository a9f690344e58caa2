"""Looking at data from the command line: a recipe is drafted, a page drawn, versions are told apart, steps undone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import groundup
from groundup import cli


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small table, in which the commands are given."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=150)
    frame = pl.DataFrame({"x": x, "gaps": [None if i % 6 == 0 else i for i in range(150)], "y": (x > 0).astype(int)})
    frame.write_csv(tmp_path / "flowers.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_a_table_to_a_trained_model_without_an_edit(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["new", "flowers.csv", "--target", "y"]) == 0
    assert "Next: groundup check flowers.toml" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["check", "flowers.toml"]) == 0
    assert cli.main(["train", "flowers.toml", "training.epochs=5"]) == 0
    report = json.loads((here / "runs" / "flowers-001" / "report.json").read_text("utf-8"))
    assert report["metrics"]["accuracy"]["value"] > report["baselines"]["majority"]["accuracy"]["value"]
    assert cli.main(["inspect", "runs/flowers-001", "--out", "run.html"]) == 0
    assert "Statistics" in (here / "run.html").read_text("utf-8")
    assert cli.main(["diff", "runs/flowers-001", "flowers.toml"]) == 0


def test_a_page_of_a_table_and_of_a_recipe(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "flowers.csv", "--target", "y"]) == 0
    assert "gaps" in capsys.readouterr().out
    assert "What groundup new writes" in (here / "flowers.html").read_text("utf-8")
    groundup.new("flowers.csv", target="y")
    assert cli.main(["inspect", "flowers.toml", "data.split.test=0.3"]) == 0
    page = (here / "flowers.html").read_text("utf-8")
    for title in ("Split", "What moved", "Leaks", "Statistics", "Ledger", "Columns"):
        assert f"<h2>{title}</h2>" in page
    (here / "mine.html").write_text("mine", encoding="utf-8")
    assert cli.main(["inspect", "flowers.csv", "--out", "mine.html"]) == 1
    assert (here / "mine.html").read_text("utf-8") == "mine"


def test_the_status_of_a_diff_says_whether_anything_differs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pl.read_csv("flowers.csv")
    frame.with_columns(y=pl.when(pl.col("x") > 2).then(0).otherwise(pl.col("y"))).head(140).write_csv("later.csv")
    assert cli.main(["diff", "flowers.csv", "flowers.csv"]) == 0
    assert "nothing differs" in capsys.readouterr().out
    assert cli.main(["diff", "flowers.csv", "later.csv", "--key", "x", "--out", "found.json"]) == cli.DIFFERENT
    found = json.loads((here / "found.json").read_text("utf-8"))
    assert found["differs"] is True
    assert found["rows"]["removed"] == 10
    assert found["cells"][0]["column"] == "y"
    assert cli.main(["diff", "flowers.csv", "nothing.csv"]) == 1
    assert cli.main(["diff", "flowers.csv"]) == cli.USAGE_ERROR


def test_cleaned_data_are_a_version_and_go_back(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groundup.new("flowers.csv", target="y")
    assert cli.main(["clean", "flowers.toml"]) == 0
    assert cli.main(["diff", "flowers.csv", "cleaned/flowers"]) == cli.DIFFERENT
    out = capsys.readouterr().out
    assert "split" in out
    assert cli.main(["undo", "cleaned/flowers", "--out", "raw"]) == 0
    assert cli.main(["diff", "flowers.csv", "raw"]) == 0
    assert cli.main(["undo", "cleaned/flowers", "--before", "Standardiz"]) == 1
    assert "Did you mean" in capsys.readouterr().err


def test_what_is_no_data_is_told_in_one_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty.csv").write_text("", encoding="utf-8")
    (here / "header.csv").write_text("a,b\n", encoding="utf-8")
    for words in (["new", "empty.csv"], ["inspect", "header.csv"], ["new", "flowers.csv"], ["undo", "nowhere"]):
        assert cli.main(words) == 1
        assert capsys.readouterr().err.startswith("error: ")
