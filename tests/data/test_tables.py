"""Tables: what is clear is read, what is not is refused by file and line, and nothing is lost on the way."""

from __future__ import annotations

import csv as csv_files
import datetime
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from groundup.core.errors import DataError
from groundup.data.sources import csv, image_folder, scikit_learn, tables


def write(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_types_are_found_from_all_values(tmp_path: Path) -> None:
    write(tmp_path, "a,b,c,d,e\n1,1.5,true,x,\n2,,FALSE,y,\n-3,1e3,true,,\n")
    dataset = csv("table.csv", folder=tmp_path)
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
    dataset = csv("table.csv", folder=tmp_path)
    assert dataset.frame["name"].to_list() == ["Müller", "Éric", "plain"]
    assert dataset.frame["größe"].to_list() == [1, 2, 3]


def test_quoted_cells_hold_separators_and_line_breaks(tmp_path: Path) -> None:
    write(tmp_path, 'name,text\n"Braund, Mr. Owen","he said ""no""\nand left"\nb,c\n')
    dataset = csv("table.csv", folder=tmp_path)
    assert dataset.frame.rows() == [(0, "Braund, Mr. Owen", 'he said "no"\nand left'), (1, "b", "c")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n3,4,5\n6\n", ["line 3 has 3", "line 4 has 1", "2 cells", "1 rows are whole"]),
        ('a,b\n"x\ny",2\n3\n', ["line 4 has 1"]),
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
        csv("table.csv", folder=tmp_path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_missing_file_is_named_with_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, "a\n1\n", "titanic.csv")
    with pytest.raises(DataError, match=r"titanik\.csv: there is no such file.*Did you mean 'titanic\.csv'"):
        csv("titanik.csv", folder=tmp_path)
    with pytest.raises(DataError, match="is a folder"):
        csv(tmp_path)


def test_declared_markers_alone_stand_for_missing_values(tmp_path: Path) -> None:
    write(tmp_path, "a,b\n1,?\n-999,x\n3,NA\n")
    dataset = csv("table.csv", folder=tmp_path, missing=["?", "-999"])
    assert dataset.frame["a"].to_list() == [1, None, 3]
    assert dataset.frame["b"].to_list() == [None, "x", "NA"]
    assert "column 'a': '-999' read as missing, 1 times" in dataset.history[0].notes
    nearly = csv("table.csv", folder=tmp_path, missing=[]).history[0].notes
    assert not any("'a'" in note for note in nearly)


def test_a_column_that_is_nearly_numbers_is_pointed_out(tmp_path: Path) -> None:
    write(tmp_path, "a,b\n1,1\n2,1\nthree,1\n")
    notes = csv("table.csv", folder=tmp_path).history[0].notes
    assert any("'a' stays text: 1 values are no number, the first 'three' at line 4" in note for note in notes)


def test_numbers_that_would_lose_digits_stay_strings(tmp_path: Path) -> None:
    write(tmp_path, "zip,big,comma\n02134,99999999999999999999,1\n10001,1,2\n")
    dataset = csv("table.csv", folder=tmp_path)
    assert dataset.frame["zip"].to_list() == ["02134", "10001"]
    assert dataset.frame["big"].to_list() == ["99999999999999999999", "1"]
    write(tmp_path, "a;b\n1,5;x\n2;y\n", "comma.csv")
    assert csv("comma.csv", folder=tmp_path).frame["a"].to_list() == [1.5, 2.0]


def test_header_and_columns(tmp_path: Path) -> None:
    write(tmp_path, "5.1,3.5,setosa\n4.9,3.0,virginica\n")
    assert any("header holds numbers" in note for note in csv("table.csv", folder=tmp_path).history[0].notes)
    named = csv("table.csv", folder=tmp_path, header=["length", "width", "kind"], columns=["kind", "length"])
    assert named.frame.drop("_row").rows() == [("setosa", 5.1), ("virginica", 4.9)]
    with pytest.raises(DataError, match="Did you mean 'width'"):
        csv("table.csv", folder=tmp_path, header=["length", "width", "kind"], columns=["widht"])


def test_times(tmp_path: Path) -> None:
    write(tmp_path, "day,year,month,d,x\n2024-03-31,2024,3,31,1\n2024-04-01,2024,04,1,2\n")
    dataset = csv("table.csv", folder=tmp_path, time="day")
    assert dataset.kinds["day"] == "time"
    assert dataset.frame["day"].to_list() == [datetime.datetime(2024, 3, 31), datetime.datetime(2024, 4, 1)]
    parts = csv("table.csv", folder=tmp_path, time=["year", "month", "d"])
    assert parts.frame["time"].to_list() == dataset.frame["day"].to_list()
    assert parts.kinds["time"] == "time"
    write(tmp_path, "year,month,day\n2024,2,29\n2023,2,29\n", "leap.csv")
    with pytest.raises(DataError, match=r"leap\.csv, line 3: .*2023-2-29"):
        csv("leap.csv", folder=tmp_path, time=["year", "month", "day"])
    write(tmp_path, "when\n31.03.2024\n", "german.csv")
    with pytest.raises(DataError, match=r"line 2: column 'when' holds '31.03.2024'"):
        csv("german.csv", folder=tmp_path, time="when")


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00", exclude_categories=["Cs"]), max_size=6)


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=8)))
@settings(max_examples=150, deadline=None)
def test_every_cell_that_was_written_is_read(rows: list[list[str]]) -> None:
    names = [f"column_{i}" for i in range(len(rows[0]))]
    buffer = io.StringIO()
    writer = csv_files.writer(buffer, lineterminator="\n", quoting=csv_files.QUOTE_ALL)
    writer.writerows([names, *rows])
    table = tables._split_rows(buffer.getvalue(), ",", None, Path("memory"))
    assert [list(row) for row in table.cells.iter_rows()] == rows


plain = st.text(st.characters(codec="utf-8", exclude_characters='\r\n",\x00', exclude_categories=["Cs"]), max_size=5)


@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(plain, min_size=n, max_size=n), min_size=2, max_size=8)),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_the_fast_way_reads_what_the_sure_way_reads(rows: list[list[str]], newline: str, given_header: bool) -> None:
    names = [f"c{i}" for i in range(len(rows[0]))]
    header = names if given_header else None
    text = newline.join(",".join(row) for row in (rows if given_header else [names, *rows])) + newline
    fast = tables._split_plain(text, ",", header, Path("memory"))
    assert fast is not None or len(names) == 1, "the fast way must carry the usual file"
    if fast is not None:
        sure = tables._split_any(text, ",", header, Path("memory"))
        assert fast.cells.equals(sure.cells)
        assert fast.lines.tolist() == sure.lines.tolist()
        assert fast.names == sure.names


@given(st.lists(st.lists(plain, min_size=0, max_size=4), min_size=2, max_size=10))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_read_or_refused_never_lost(tmp_path: Path, rows: list[list[str]]) -> None:
    text = "\n".join([",".join(["a", "b"]), *(",".join(row) for row in rows)])
    whole = sum(1 for line in text.split("\n")[1:] if line.count(",") == 1)
    other = sum(1 for line in text.split("\n")[1:] if line and line.count(",") != 1)
    path = write(tmp_path, text)
    if other or not whole:
        with pytest.raises(DataError):
            csv(path)
    else:
        assert len(csv(path)) == whole


def test_titanic(shared_data: Path) -> None:
    dataset = csv(shared_data / "tab_titanic" / "titanic.csv")
    assert len(dataset) == 891
    assert dataset.frame["Age"].null_count() == 177
    assert dataset.frame["Cabin"].null_count() == 687
    assert dataset.of_kind("category") == ["Sex", "Cabin", "Embarked"]
    assert dataset.frame["Name"][0] == "Braund, Mr. Owen Harris"


def test_beijing(shared_data: Path) -> None:
    path = shared_data / "ts_beijing_pm25" / "pollution.csv"
    dataset = csv(path, missing=["NA"], time=["year", "month", "day", "hour"])
    assert len(dataset) == 43_824
    assert dataset.frame["pm2.5"].null_count() == 2_067
    assert dataset.frame["time"].diff().drop_nulls().unique().to_list() == [datetime.timedelta(hours=1)]


def test_every_table_at_hand_is_read_or_refused_with_a_reason(shared_data: Path) -> None:
    without_header = {
        "adult-test",
        "breast-cancer-wisconsin",
        "german",
        "glass",
        "haberman",
        "horse-colic",
        "ionosphere",
    }
    without_header |= {"oil-spill"}
    for path in sorted(shared_data.glob("t*/*.csv")):
        if path.stem in without_header:
            with pytest.raises(DataError, match=r"more than once.*give header"):
                csv(path)
            continue
        dataset = csv(path)
        data = path.read_text(encoding="utf-8", errors="replace")
        if '"' not in data:
            assert len(dataset) == sum(1 for line in data.splitlines() if line.strip()) - 1, path


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
