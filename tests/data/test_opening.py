"""Data are opened by what they hold; a large file is sampled, and that is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from groundup.core.dataset import ROW, Dataset
from groundup.core.errors import DataError
from groundup.core.use import make
from groundup.data.opening import open_data, sample
from groundup.data.pages import inspect_path


def test_each_kind_of_file_is_read_by_its_source(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": range(40), "y": ["a", "b"] * 20})
    frame.write_csv(tmp_path / "t.csv")
    frame.write_csv(tmp_path / "t.tsv", separator="\t")
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_ndjson(tmp_path / "t.jsonl")
    (tmp_path / "t.json").write_text(json.dumps(frame.to_dicts()), encoding="utf-8")
    found = {p.name: open_data(p) for p in sorted(tmp_path.glob("t.*"))}
    assert {name: (one.form, one.source.target) for name, one in found.items()} == {
        "t.csv": ("table", "csv"),
        "t.json": ("table", "json"),
        "t.jsonl": ("table", "json_lines"),
        "t.parquet": ("table", "parquet"),
        "t.tsv": ("table", "csv"),
    }
    for one in found.values():
        assert one.dataset.frame["y"].to_list() == frame["y"].to_list()
        assert make(one.source, "source", folder=Path())().frame.equals(one.dataset.frame), "the call reads the same"
        assert one.name == "t"


def test_question_marks_and_times_are_declared(tmp_path: Path) -> None:
    lines = ["when,load,kind"] + [
        f"2024-01-{d:02d},{'?' if d == 3 else d},{'?' if d == 5 else 'a'}" for d in range(1, 31)
    ]
    (tmp_path / "load.csv").write_text("\n".join(lines), encoding="utf-8")
    opened = open_data(tmp_path / "load.csv")
    assert opened.dataset.kinds == {"when": "time", "load": "number", "kind": "category"}
    assert opened.dataset.frame["load"].null_count() == 1
    assert opened.source.arguments["time"] == "when"
    assert opened.said == ("'?' read as missing", "time from when")


def test_parts_of_a_time_in_columns_of_their_own(tmp_path: Path) -> None:
    frame = pl.DataFrame({"year": [2024] * 30, "month": [1] * 30, "day": range(1, 31), "x": range(30)})
    frame.write_csv(tmp_path / "days.csv")
    opened = open_data(tmp_path / "days.csv")
    assert opened.source.arguments["time"] == ["year", "month", "day"]
    frame.with_columns(day=pl.lit(40)).write_csv(tmp_path / "no-days.csv")
    assert "time" not in open_data(tmp_path / "no-days.csv").source.arguments, "there is no 40th of January"


def test_of_a_large_file_a_sample_is_taken_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.data.opening.SHARD_ROWS", 300)
    monkeypatch.setattr("groundup.data.opening.sample", lambda shards: sample(shards, 500))
    rng = np.random.default_rng(0)
    pl.DataFrame({"x": rng.normal(size=4000), "y": rng.integers(0, 2, 4000)}).write_csv(tmp_path / "large.csv")
    opened = open_data(tmp_path / "large.csv", large_bytes=1000)
    assert (len(opened.dataset), opened.rows) == (500, 4000)
    assert opened.said == ("500 of 4,000 rows looked at, drawn by chance",)
    assert len(open_data(tmp_path / "large.csv").dataset) == 4000
    monkeypatch.setattr("groundup.data.opening.LARGE_BYTES", 1000)
    monkeypatch.setattr("groundup.data.opening.open_data.__defaults__", (1000,))
    _, page = inspect_path(tmp_path / "large.csv", "y")
    assert "500 of 4,000 rows looked at" in page.html


def test_every_row_is_as_likely_to_be_drawn() -> None:
    def shards() -> list[Dataset]:
        whole = Dataset.of(pl.DataFrame({"x": range(100)}))
        return [whole.with_frame(whole.frame[i : i + 7]) for i in range(0, 100, 7)]

    counts = np.zeros(100)
    for seed in range(400):
        drawn, rows = sample(shards(), most=10, seed=seed)
        assert rows == 100
        assert drawn.frame[ROW].is_sorted()
        assert len(drawn) == drawn.frame["x"].n_unique() == 10
        counts[drawn.frame["x"].to_numpy()] += 1
    # 400 draws of 10 in 100: 40 each in the mean, deviation 6; 5.5 deviations either way
    assert counts.min() > 7
    assert counts.max() < 73


def test_what_no_source_reads_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, message in ((tmp_path / "empty", "holds no file"), (tmp_path / "emtpy", "Did you mean 'empty'")):
        with pytest.raises(DataError, match=message):
            open_data(path)


def test_a_question_mark_among_texts_of_its_own_is_no_missing_value(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({sign: i for i, sign in enumerate([*(f"t{i}" for i in range(1000)), "?", "NA"])}))
    opened = open_data(tokens)
    assert len(opened.dataset) == 1002
    assert sum(opened.dataset.frame.null_count().row(0)) == 0
    table = tmp_path / "table.csv"
    table.write_text("colour,size\n" + "red,1\n?,2\nblue,?\n" * 20)
    assert sum(open_data(table).dataset.frame.null_count().row(0)) == 40
