"""Tables: what is clear is read, what is not is refused by file and line, and nothing is lost on the way."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from groundup.core.dataset import Dataset, infer_kind
from groundup.core.errors import DataError
from groundup.core.quarantine import Quarantine
from groundup.data.sources import csv, image_folder, records, scikit_learn
from groundup.data.sources.files import TextFile


def write(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_types_are_found_from_all_values(tmp_path: Path) -> None:
    write(tmp_path, "a,b,c,d,e\n1,1.5,true,x,\n2,,FALSE,y,\n-3,1e3,true,,\n")
    dataset = csv("table.csv", folder=tmp_path)()
    assert dict(dataset.frame.drop("_row").schema) == {
        "a": pl.Int64, "b": pl.Float64, "c": pl.Boolean, "d": pl.String, "e": pl.Float64,
    }  # fmt: skip
    assert dataset.frame["b"].to_list() == [1.5, None, 1000.0]
    assert dataset.frame["c"].to_list() == [True, False, True]
    assert dataset.frame["d"].to_list() == ["x", "y", None]
    assert dataset.history[0].rows_before == dataset.history[0].rows_after == 3
    assert any("'e': every value is missing" in note for note in dataset.history[0].notes)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_separators_and_encodings_are_detected(tmp_path: Path, separator: str, encoding: str, newline: str) -> None:
    rows = [["name", "größe"], ["Müller", "1"], ["Éric", "2"], ["plain", "3"]]
    write(tmp_path, newline.join(separator.join(row) for row in rows).encode(encoding))
    dataset = csv("table.csv", folder=tmp_path)()
    assert dataset.frame["name"].to_list() == ["Müller", "Éric", "plain"]
    assert dataset.frame["größe"].to_list() == [1, 2, 3]


def test_quoted_cells_hold_separators_and_line_breaks(tmp_path: Path) -> None:
    write(tmp_path, 'name,text\n"Braund, Mr. Owen","he said ""no""\nand left"\nb,c\n')
    dataset = csv("table.csv", folder=tmp_path)()
    assert dataset.frame.rows() == [(0, "Braund, Mr. Owen", 'he said "no"\nand left'), (1, "b", "c")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n3,4,5\n6\n", ["line 3", "has 3", "line 4", "has 1", "2 cells", "1 rows are whole"]),
        ('a,b\n"x\ny",2\n3\n', ["line 4", "has 1"]),
        ('a,b\n1,2\n3,"4\n', ["line 3", "quotation mark"]),
        ("a,b\n", ["no row beneath"]),
        ("", ["is empty"]),
        (" \n \n", ["is empty"]),
        ("a,b,a\n1,2,3\n", ["'a' more than once"]),
        (b"a,b\n1,\x00\n", ["line 2", "zero byte"]),
        ("a,b\né,1\nü,2\n".encode() + b"\xff\xff,3\n", ["line 4", "0xff", "UTF-8"]),
    ],
)
def test_what_cannot_be_read_is_named_by_file_and_line(tmp_path: Path, content: str | bytes, words: list[str]) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        csv("table.csv", folder=tmp_path)()
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_missing_file_is_named_with_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, "a\n1\n", "titanic.csv")
    with pytest.raises(DataError, match=r"titanik\.csv: there is no such file.*Did you mean 'titanic\.csv'"):
        csv("titanik.csv", folder=tmp_path)()
    with pytest.raises(DataError, match="is a folder"):
        csv(tmp_path)()


def test_declared_markers_alone_stand_for_missing_values(tmp_path: Path) -> None:
    write(tmp_path, "a,b\n1,?\n-999,x\n3,NA\n")
    dataset = csv("table.csv", folder=tmp_path, missing=["?", "-999"])()
    assert dataset.frame["a"].to_list() == [1, None, 3]
    assert dataset.frame["b"].to_list() == [None, "x", "NA"]
    assert "column 'a': '-999' read as missing, 1 times" in dataset.history[0].notes
    nearly = csv("table.csv", folder=tmp_path, missing=[])().history[0].notes
    assert not any("column 'a'" in note for note in nearly)


def test_a_column_that_is_nearly_numbers_is_pointed_out(tmp_path: Path) -> None:
    write(tmp_path, "a,b\n1,1\n2,1\nthree,1\n")
    notes = csv("table.csv", folder=tmp_path)().history[0].notes
    assert any("'a' stays text: 1 values are no number, the first 'three' at line 4" in note for note in notes)


def test_numbers_that_would_lose_digits_stay_strings(tmp_path: Path) -> None:
    write(tmp_path, "zip,big,comma\n02134,99999999999999999999,1\n10001,1,2\n")
    dataset = csv("table.csv", folder=tmp_path)()
    assert dataset.frame["zip"].to_list() == ["02134", "10001"]
    assert dataset.frame["big"].to_list() == ["99999999999999999999", "1"]
    write(tmp_path, "a;b\n1,5;x\n2;y\n", "comma.csv")
    assert csv("comma.csv", folder=tmp_path)().frame["a"].to_list() == [1.5, 2.0]


def test_header_and_columns(tmp_path: Path) -> None:
    write(tmp_path, "5.1,3.5,setosa\n4.9,3.0,virginica\n")
    found = csv("table.csv", folder=tmp_path)()
    assert found.columns == ["column 1", "column 2", "column 3"]
    assert "no header line: '5.1' is like the numbers beneath it" in found.history[0].notes[0]
    forced = csv("table.csv", folder=tmp_path, header=True)()
    assert forced.columns == ["5.1", "3.5", "setosa"]
    named = csv("table.csv", folder=tmp_path, header=["length", "width", "kind"], columns=["kind", "length"])()
    assert named.frame.drop("_row").rows() == [("setosa", 5.1), ("virginica", 4.9)]
    with pytest.raises(DataError, match="Did you mean 'width'"):
        csv("table.csv", folder=tmp_path, header=["length", "width", "kind"], columns=["widht"])()


@pytest.mark.parametrize(
    ("content", "header"),
    [
        ("a,b\n1,x\n2,y\n", True),
        ("1,x\n2,y\n3,x\n", False),
        ("x,1\ny,2\n", False),
        ("country,2019,2020,2021\nFrance,1.5,2.5,3\nSpain,2.5,1,2\n", True),
        ("A,B\nB,A\nA,A\nB,B\n", False),
        ("left,right\n" + "B,A\nA,B\n" * 5, True),
        ("when,what\n2024-01-01,a\n2024-01-02,b\n", True),
        ("2024-01-01,a\n2024-01-02,b\n", False),
        ("NA,b\nx,y\n", False),
        ("some text here,another one\nfoo,bar\n", True),
    ],
)
def test_whether_there_is_a_header_is_seen_by_what_stands_beneath(tmp_path: Path, content: str, header: bool) -> None:
    dataset = csv(write(tmp_path, content))()
    assert len(dataset) == content.count("\n") - header
    assert ("the first row is the header" in dataset.history[0].notes[0]) == header


def test_a_header_without_a_name_for_the_rows(tmp_path: Path) -> None:
    dataset = csv(write(tmp_path, '"height" "weight"\n"1" 3 4\n"2" 5 6\n'), separator=" ")()
    assert dataset.columns == ["row name", "height", "weight"]
    assert len(dataset) == 2


def test_what_stands_before_the_table(tmp_path: Path) -> None:
    dataset = csv(write(tmp_path, "# made in 2024\n# by us\na,b\n1,2\n3,4\n"))()
    assert dataset.frame.drop("_row").rows() == [(1, 2), (3, 4)]
    assert "2 lines of comment passed over" in dataset.history[0].notes
    title = csv(write(tmp_path, "Report of the year\n\na;b\n1;2\n3;4\n"), max_rejected=1)()
    assert title.columns == ["a", "b"]
    assert [(one.line, one.raw) for one in title.quarantine.rejected] == [(1, b"Report of the year")]
    as_comment = csv(write(tmp_path, "#a,b\n1,2\n3,4\n"))()
    assert as_comment.columns == ["#a", "b"]
    all_over = csv(write(tmp_path, "a,b\n% x\n1,2\n%,3\n3,4\n"), comment="%")()
    assert len(all_over) == 2
    assert "2 lines of comment passed over" in all_over.history[0].notes


def test_the_quarantine_keeps_line_bytes_and_reason(tmp_path: Path) -> None:
    rows = b"\n".join(b"%d,\xc3\xa9" % i for i in range(100))
    path = write(tmp_path, b"a,b\n" + rows + b"\n7,\xff\n1,2,3\na,b\n")
    dataset = csv(path)()
    found = [(one.line, one.raw, one.reason.partition(":")[0]) for one in dataset.quarantine.rejected]
    assert found == [
        (102, b"7,\xff", "bytes that are no text"),
        (103, b"1,2,3", "wrong number of cells"),
        (104, b"a,b", "the header once more"),
    ]
    assert dataset.quarantine.read == 103
    assert len(dataset) == dataset.quarantine.accepted == 100
    assert dataset.frame["a"].dtype == pl.Int64
    written = [json.loads(line) for line in dataset.quarantine.to_json_lines().splitlines()]
    assert [(one["line"], base64.b64decode(one["raw"]), one["reason"].partition(":")[0]) for one in written] == found
    with pytest.raises(DataError, match=r"line 102: .*3 of 103 rows.*max_rejected = 2 allows"):
        csv(path, max_rejected=2)()
    with pytest.raises(DataError, match="max_rejected = 0 allows"):
        csv(path, max_rejected=0)()


def test_missing_by_value_and_by_column(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,c\n-200,-200.0,x\n1,2.5,?\n3,-200,y\n")
    assert csv(path, missing=[-200, "?"])().frame.drop("_row").rows() == [
        (None, None, "x"), (1, 2.5, None), (3, None, "y"),
    ]  # fmt: skip
    one = csv(path, missing={"a": [-200], "*": ["?"]})()
    assert one.frame.drop("_row").rows() == [(None, -200.0, "x"), (1, 2.5, None), (3, -200.0, "y")]
    assert "column 'a': '-200' read as missing, 1 times" in one.history[0].notes


@pytest.mark.parametrize(
    ("content", "numbers", "expected"),
    [
        ("a;b\n1.234,5;x\n-2,5;y\n", "1.234,5", [1234.5, -2.5]),
        ('a,b\n"1,234.5",x\n-2,y\n', "1,234.5", [1234.5, -2.0]),
        ("a;b\n1 234,5;x\n2;y\n", "1 234,5", [1234.5, 2.0]),
        ("a\tb\n1,5\tx\n2,25\ty\n", None, [1.5, 2.25]),
        ("a\tb\n1,500\tx\n2,250\ty\n", None, ["1,500", "2,250"]),
        ("a\tb\n1,500\tx\n2,250\ty\n", "1,234.5", [1500, 2250]),
        ("a;b\n1,5;x\n2,5;y\n", "1234.5", ["1,5", "2,5"]),
        ("1,5;2,5\n3,5;4,5\n5,5;6,5\n", None, [1.5, 3.5, 5.5]),
    ],
)
def test_how_numbers_are_written(tmp_path: Path, content: str, numbers: Any, expected: list[Any]) -> None:
    dataset = csv(write(tmp_path, content), numbers=numbers)()
    assert dataset.frame[dataset.columns[0]].to_list() == expected


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("gb18030", "GB18030"), ("big5", "Big5"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-8-sig", "mark")],
)
def test_chinese(tmp_path: Path, encoding: str, said: str) -> None:
    rows = [("房間很大，床也很舒服", 1), ("早餐太差，無論去多少人", 0), ("位置好，服務周到，推薦", 1)]
    text = "評論,標簽\n" + "".join(f"{review},{label}\n" for review, label in rows)
    dataset = csv(write(tmp_path, text.encode(encoding)))()
    assert dataset.frame.drop("_row").rows() == rows
    assert said in dataset.history[0].notes[0]
    named = csv(write(tmp_path, text.encode(encoding)), encoding=encoding)()
    assert named.frame.equals(dataset.frame)


def test_japanese(tmp_path: Path) -> None:
    rows = [("吾輩は猫である。名前はまだ無い。", 1), ("何でも薄暗いじめじめした所で泣いていた。", 2)]
    text = "文章,番号\n" + "".join(f"{text},{number}\n" for text, number in rows)
    dataset = csv(write(tmp_path, text.encode("cp932")))()
    assert dataset.frame.drop("_row").rows() == rows
    assert "Shift-JIS" in dataset.history[0].notes[0]


def test_real_chinese_text_in_each_encoding(shared_data: Path, tmp_path: Path) -> None:
    text = (shared_data / "cls_zh_sophonplus" / "ChnSentiCorp_htl_all.csv").read_text(encoding="utf-8")
    expected = csv(write(tmp_path, text))().frame
    for encoding in ("gb18030", "utf-16", "utf-16-be"):
        assert csv(write(tmp_path, text.encode(encoding)))().frame.equals(expected), encoding


def test_a_rejected_row_keeps_its_own_bytes_in_any_encoding(tmp_path: Path) -> None:
    lines = ["評論,標簽", *(f"房間很大，床也很舒服 {i},{i}" for i in range(30)), "太差,1,多少"]
    for encoding in ("gb18030", "big5", "utf-16-le", "utf-8"):
        dataset = csv(write(tmp_path, "\n".join(lines).encode(encoding)), encoding=encoding)()
        assert [one.raw for one in dataset.quarantine.rejected] == [lines[-1].encode(encoding)]


def test_packed_files_and_what_only_looks_like_one(tmp_path: Path) -> None:
    content = "a,b\n" + "1,2\n" * 1000
    write(tmp_path, gzip.compress(content.encode()), "table.csv.gz")
    dataset = csv("table.csv.gz", folder=tmp_path)()
    assert len(dataset) == 1000
    assert "packed by gzip" in dataset.history[0].notes[0]
    write(tmp_path, gzip.compress(content.encode())[:-20], "cut.csv.gz")
    with pytest.raises(DataError, match=r"cut\.csv\.gz: cannot be read"):
        csv("cut.csv.gz", folder=tmp_path)()
    write(tmp_path, gzip.compress(b"0,0\n" * 30_000_000), "bomb.csv.gz")
    with pytest.raises(DataError, match="unfolds to more than 200 times"):
        csv("bomb.csv.gz", folder=tmp_path)()


def test_times(tmp_path: Path) -> None:
    write(tmp_path, "day,year,month,d,x\n2024-03-31,2024,3,31,1\n2024-04-01,2024,04,1,2\n")
    dataset = csv("table.csv", folder=tmp_path, time="day")()
    assert dataset.kinds["day"] == "time"
    assert dataset.frame["day"].to_list() == [datetime.datetime(2024, 3, 31), datetime.datetime(2024, 4, 1)]
    parts = csv("table.csv", folder=tmp_path, time=["year", "month", "d"])()
    assert parts.frame["time"].to_list() == dataset.frame["day"].to_list()
    assert parts.kinds["time"] == "time"
    write(tmp_path, "year,month,day\n2024,2,29\n2023,2,29\n", "leap.csv")
    with pytest.raises(DataError, match=r"leap\.csv, line 3: .*2023-2-29.*Write the year first"):
        csv("leap.csv", folder=tmp_path, time=["year", "month", "day"])()
    write(tmp_path, "when\n31.03.2024\n", "german.csv")
    with pytest.raises(DataError, match=r"line 2: no time: column 'when' holds '31.03.2024'"):
        csv("german.csv", folder=tmp_path, time="when")()


plain = st.text(
    st.characters(codec="utf-8", exclude_characters='\r\n",\x00\x01', exclude_categories=["Cs"]), max_size=5
)


@given(st.lists(st.lists(plain, min_size=0, max_size=4), min_size=2, max_size=10), st.integers(1, 4))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_accepted_and_rejected_are_what_was_read(tmp_path: Path, rows: list[list[str]], at_once: int) -> None:
    text = "\n".join([",".join(["a", "b"]), *(",".join(row) for row in rows)])
    lines = text.split("\n")[1:]
    whole = sum(1 for line in lines if line.count(",") == 1 and line != "a,b")
    other = sum(1 for line in lines if (line and line.count(",") != 1) or line == "a,b")
    source = csv(write(tmp_path, text), separator=",", header=True, max_rejected=0.99, comment="\x01")
    if not whole or other > 0.99 * (whole + other):
        with pytest.raises(DataError):
            source()
        return
    dataset = source()
    assert (len(dataset), dataset.quarantine.read) == (whole, whole + other)
    assert [one.raw.decode() for one in dataset.quarantine.rejected] == [
        line for line in lines if line and (line.count(",") != 1 or line == "a,b")
    ]
    assert_same(dataset, list(source.shards(at_once)), at_once)


def assert_same(whole: Dataset, shards: list[Dataset], at_once: int) -> None:
    """Shards put together are the whole: rows, types, kinds, numbers, ledger, quarantine."""
    assert pl.concat([shard.frame for shard in shards]).equals(whole.frame, null_equal=True)
    assert all(shard.frame.schema == whole.frame.schema for shard in shards)
    assert all(shard.kinds == whole.kinds for shard in shards)
    assert all(shard.history == whole.history for shard in shards)
    assert [len(shard) for shard in shards[:-1]] == [at_once] * (len(shards) - 1)
    assert sum((shard.quarantine for shard in shards), Quarantine()) == whole.quarantine


def messy(rows: int, seed: int = 0) -> str:
    """A table with gaps, odd rows, quoted cells, a column that only turns out late to be text."""
    random = np.random.default_rng(seed)
    lines = ["id,amount,when,name,late"]
    for i in range(rows):
        odd = random.random()
        name = '"said ""no"",\nand left"' if odd < 0.1 else f"name {random.integers(5)}"
        late = "x" if i == rows - 2 else str(i)
        lines.append(f"{i},{random.normal():.3f},2024-01-{i % 28 + 1:02},{name},{late}")
        if odd > 0.99:
            lines.append("1,2")
        if odd > 0.995:
            lines.append("1,2,no day,4,5")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("at_once", [1, 7, 100, 10_000])
@pytest.mark.parametrize("block", [200, 5000, 1 << 24])
def test_shards_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, block: int) -> None:
    odd, timeless = messy(600).count("\n1,2\n"), messy(600).count("no day")
    assert odd > timeless > 1
    write(tmp_path, messy(600))
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(messy(600).encode()))
    whole = csv("table.csv", time="when", folder=tmp_path)()
    assert whole.kinds == {"id": "number", "amount": "number", "when": "time", "name": "category", "late": "text"}
    assert whole.quarantine.reasons() == {"wrong number of cells": odd, "no time": timeless}
    assert whole.quarantine.read == 600 + odd + timeless
    monkeypatch.setattr(TextFile.blocks, "__defaults__", (block,))
    monkeypatch.setattr(records.chunks, "__defaults__", (block,))
    for name in ("table.csv", "table.csv.gz"):
        source = csv(name, time="when", folder=tmp_path)
        shards = [dataclasses.replace(shard, origin=whole.origin) for shard in source.shards(at_once)]
        if name == "table.csv":
            assert_same(whole, shards, at_once)
        else:
            assert pl.concat([shard.frame for shard in shards]).equals(whole.frame)


@pytest.mark.parametrize("distinct", [49, 50, 51])
def test_a_missing_value_counts_as_one_of_the_different_values(tmp_path: Path, distinct: int) -> None:
    words = [f"w{i % distinct}" for i in range(90)]
    for gap in ("", "w0"):
        dataset = csv(write(tmp_path, "n,word\n" + "".join(f"{i},{w}\n" for i, w in enumerate([*words, gap]))))()
        assert dataset.kinds["word"] == infer_kind(dataset.frame["word"])
        assert dataset.kinds["word"] == ("text" if distinct + (gap == "") > 50 else "category")


def test_kinds_are_those_that_are_inferred_from_the_whole(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("tab_*/*.csv")):
        dataset = csv(path)()
        assert dataset.kinds == {name: infer_kind(dataset.frame[name]) for name in dataset.columns}, path


def test_titanic(shared_data: Path) -> None:
    dataset = csv(shared_data / "tab_titanic" / "titanic.csv")()
    assert len(dataset) == 891
    assert dataset.frame["Age"].null_count() == 177
    assert dataset.frame["Cabin"].null_count() == 687
    assert dataset.of_kind("category") == ["Sex", "Cabin", "Embarked"]
    assert dataset.frame["Name"][0] == "Braund, Mr. Owen Harris"


def test_beijing(shared_data: Path) -> None:
    path = shared_data / "ts_beijing_pm25" / "pollution.csv"
    dataset = csv(path, missing=["NA"], time=["year", "month", "day", "hour"])()
    assert len(dataset) == 43_824
    assert dataset.frame["pm2.5"].null_count() == 2_067
    assert dataset.frame["time"].diff().drop_nulls().unique().to_list() == [datetime.timedelta(hours=1)]


def test_every_table_at_hand_is_read_whole(shared_data: Path) -> None:
    paths = sorted([*shared_data.glob("t*/**/*.csv"), *shared_data.glob("cls_sst2/*.tsv")])
    assert len(paths) > 50
    with_header = {
        path
        for path in paths
        if path.parent.name.startswith(("ts_", "art", "real"))
        or path.parent.name in ("tab_titanic", "tab_penguins", "tab_california_housing")
    }
    for path in paths:
        dataset = csv(path)()
        said = dataset.history[0].notes[0]
        assert ("the first row is the header" in said) == (path in with_header), path
        data = path.read_text(encoding="utf-8", errors="replace")
        if '"' not in data:
            assert len(dataset) == sum(1 for line in data.splitlines() if line.strip()) - (path in with_header), path


def test_scikit_learn() -> None:
    digits = scikit_learn("digits")
    pixels = digits.frame["image"].to_numpy()
    assert pixels.shape == (1797, 8, 8)
    assert pixels.max() == 255
    assert np.array_equal(np.rint(pixels / (255 / 16)), load_digits().images)
    assert digits.kinds == {"image": "image", "label": "category"}
    assert scikit_learn("iris").frame["label"].unique().sort().to_list() == ["setosa", "versicolor", "virginica"]
    assert scikit_learn("diabetes").kinds["progression"] == "number"
    assert len(scikit_learn("wine")) == 178
    assert len(scikit_learn("breast_cancer").of_kind("number")) == 30
    with pytest.raises(DataError, match="Did you mean 'digits'"):
        scikit_learn("digit")  # type: ignore[arg-type]


def test_image_folder(tmp_path: Path) -> None:
    for label, grey in (("cat", 10), ("dog", 200)):
        (tmp_path / "set" / label).mkdir(parents=True)
        for i in range(2):
            Image.new("L", (5, 4), grey + i).save(tmp_path / "set" / label / f"{i}.png")
    (tmp_path / "set" / "cat" / "notes.png").write_text("not a picture")
    whole = (tmp_path / "set" / "dog" / "0.png").read_bytes()
    (tmp_path / "set" / "dog" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "set" / "dog" / ".hidden").write_text("x")
    dataset = image_folder("set", folder=tmp_path)
    assert dataset.frame["path"].to_list() == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]
    assert dataset.frame["label"].to_list() == ["cat", "cat", "dog", "dog"]
    assert dataset.kinds == {"path": "id", "image": "image", "label": "category"}
    entry = dataset.history[0]
    assert (entry.rows_before, entry.rows_after) == (6, 4)
    assert [name for name, _ in entry.removed] == ["cat/notes.png", "dog/cut.png"]
    assert entry.reasons() == {"not an image": 2}
    with pytest.raises(DataError, match="no file matches"):
        image_folder("set", pattern="*.jpg", folder=tmp_path)
    with pytest.raises(DataError, match="Did you mean 'set'"):
        image_folder("sett", folder=tmp_path)
    Image.new("L", (5, 4)).save(tmp_path / "set" / "loose.png")
    with pytest.raises(DataError, match=r"loose\.png"):
        image_folder("set", folder=tmp_path)
