"""JSON as tables: nothing that a file holds is lost or changed unseen, whole or in shards."""

from __future__ import annotations

import dataclasses
import gzip
import json as json_text
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.core.dataset import infer_kind
from groundup.core.errors import DataError
from groundup.data.sources import json, json_files, json_lines


def write(folder: Path, content: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    if isinstance(content, list):
        content = "".join((row if isinstance(row, str) else json_text.dumps(row)) + "\n" for row in content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_nested_objects_and_lists(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "user": {"age": 3, "name": "x"}, "messages": [{"role": "user", "content": "hi"}], "tags": []},
        {"id": "b", "user": {"age": 4.5}, "messages": [{"role": "user", "content": "bye", "seen": True}]},
        {"id": "c", "user": {}, "messages": None, "tags": ["t"]},
    ]
    dataset = json_lines(write(tmp_path, rows))()
    assert dataset.columns == ["id", "user.age", "user.name", "messages", "tags", "user"]
    assert dataset.kinds["messages"] == dataset.kinds["tags"] == "list"
    assert dataset.frame["user.age"].to_list() == [3.0, 4.5, None]
    assert dataset.frame["messages"].to_list() == [
        [{"role": "user", "content": "hi", "seen": None}],
        [{"role": "user", "content": "bye", "seen": True}],
        None,
    ]
    assert dataset.frame["tags"].to_list() == [[], None, ["t"]]


def test_what_is_of_different_sorts_is_kept_as_text_and_said(tmp_path: Path) -> None:
    rows: list[Any] = [{"a": 1, "b": 2**60, "c": 2**70}, {"a": "x", "b": 0.5, "c": 1}, {"a": [1], "b": 1, "c": 2}]
    dataset = json_lines(write(tmp_path, rows))()
    assert dataset.frame["a"].to_list() == ["1", "x", "[1]"]
    assert dataset.frame["b"].to_list() == ["1152921504606846976", "0.5", "1"]  # as a float it would lose digits
    assert dataset.frame["c"].to_list() == [str(2**70), "1", "2"]
    assert sum("different sorts" in note for note in dataset.history[0].notes) == 3


def test_lines_that_are_no_rows_are_kept_aside(tmp_path: Path) -> None:
    bad = ["{", "[1]", '{"a": 1, "a": 2}', '{"a": "\\ud800"}', '{"a": 1} x', '{"_row": 1}', '{"a.b": 1, "a": {"b": 2}}']
    rows = [*[{"a": i} for i in range(100)], "", *bad]
    path = write(tmp_path, rows)
    path.write_bytes(path.read_bytes() + b'{"a": "\xff"}\n')
    dataset = json_lines(path, max_rejected=0.2)()
    assert len(dataset) == 100
    assert [(one.line, one.raw) for one in dataset.quarantine.rejected] == [
        *((102 + i, line.encode()) for i, line in enumerate(bad)),
        (102 + len(bad), b'{"a": "\xff"}'),
    ]
    assert "1 blank lines passed over" in dataset.history[0].notes
    with pytest.raises(DataError, match=r"line 102: .*8 of 108 rows"):
        json_lines(path)()
    with pytest.raises(DataError, match="use json"):
        json_lines(write(tmp_path, '[\n{"a": 1},\n{"a": 2}\n]'))()


def test_missing_values(tmp_path: Path) -> None:
    rows = ['{"a": NaN, "b": "?", "c": -200}', '{"a": 1.5, "b": "x", "c": 3}', '{"c": -200.0}']
    dataset = json_lines(write(tmp_path, rows), missing=["?", -200])()
    assert dataset.frame.drop("_row").rows() == [(None, None, None), (1.5, "x", 3.0), (None, None, None)]
    assert "column 'b': '?' read as missing, 1 times" in dataset.history[0].notes
    assert any("'nan' read as missing" in note for note in dataset.history[0].notes)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.text(max_size=3), values, max_size=4), min_size=1, max_size=12), st.integers(1, 5))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shards_are_the_whole_and_kinds_those_of_the_whole(tmp_path: Path, rows: list[Any], at_once: int) -> None:
    source = json_lines(write(tmp_path, rows), max_rejected=1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_files, "CHUNK_LINES", 3)
        try:
            whole = source()
        except DataError:
            return
        shards = list(source.shards(at_once))
    assert pl.concat([shard.frame for shard in shards]).equals(whole.frame)
    assert all(shard.kinds == whole.kinds and shard.history == whole.history for shard in shards)
    assert len(whole) + len(whole.quarantine.rejected) == len(rows)
    assert whole.kinds == {name: infer_kind(whole.frame[name]) for name in whole.columns}
    again = source()
    assert again.frame.equals(whole.frame)
    assert again.kinds == whole.kinds


@pytest.mark.parametrize(
    ("document", "said", "columns", "rows"),
    [
        ([{"a": 1}, {"a": 2, "b": "x"}], "an array of rows", ["a", "b"], [(1, None), (2, "x")]),
        ([[1, "x"], [2, "y"]], "an array of rows", ["column 1", "column 2"], [(1, "x"), (2, "y")]),
        (["x", "y"], "an array of rows", ["text"], [("x",), ("y",)]),
        ({"a": [1, 2], "b": ["x", "y"]}, "an object of columns", ["a", "b"], [(1, "x"), (2, "y")]),
        (
            {"train": [["x", "l"], ["y", "m"]], "test": [["z", "l"]]},
            "named in 'part'",
            ["part", "column 1", "column 2"],
            [("train", "x", "l"), ("train", "y", "m"), ("test", "z", "l")],
        ),
        ({"u": {"a": 1}, "v": {"a": 2}}, "named in 'key'", ["key", "a"], [("u", 1), ("v", 2)]),
        ({"a": 1, "b": {"c": 2}}, "one object, one row", ["a", "b.c"], [(1, 2)]),
    ],
)
def test_documents(tmp_path: Path, document: Any, said: str, columns: list[str], rows: list[Any]) -> None:
    dataset = json(write(tmp_path, json_text.dumps(document), "rows.json"))()
    assert said in dataset.history[0].notes[0]
    assert dataset.columns == columns
    assert dataset.frame.drop("_row").rows() == rows
    shards = list(json(tmp_path / "rows.json").shards(1))
    assert pl.concat([shard.frame for shard in shards]).equals(dataset.frame)


def test_a_part_of_a_document_and_items_of_another_sort(tmp_path: Path) -> None:
    document = {"version": 1, "data": {"rows": [*[{"a": i} for i in range(40)], "oops"]}}
    path = write(tmp_path, json_text.dumps(document), "rows.json")
    dataset = json(path, at="data.rows")()
    assert len(dataset) == 40
    assert [(one.line, one.reason) for one in dataset.quarantine.rejected] == [
        (41, "of another sort than most: str, not dict")
    ]
    with pytest.raises(DataError, match="Did you mean 'rows'"):
        json(path, at="data.row")()


def test_what_is_no_json_is_named_by_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2, column 9: not valid JSON"):
        json(write(tmp_path, '[{"a": 1},\n{"a": 2,}]', "rows.json"))()
    with pytest.raises(DataError, match="JSON lines"):
        json(write(tmp_path, '{"a": 1}\n{"a": 2}\n', "rows.json"))()
    with pytest.raises(DataError, match="a name twice"):
        json(write(tmp_path, '{"a": 1, "a": 2}', "rows.json"))()


def test_packed_and_in_another_encoding(tmp_path: Path) -> None:
    rows = [{"a": "é中", "b": i} for i in range(5)]
    text = "".join(json_text.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    plain = json_lines(write(tmp_path, text))()
    for content in (gzip.compress(text.encode()), text.encode("utf-16"), text.encode("utf-8-sig")):
        assert json_lines(write(tmp_path, content))().frame.equals(plain.frame)


def test_every_json_file_at_hand(shared_data: Path) -> None:
    paths = sorted(p for p in shared_data.rglob("*.json*") if p.parent.name not in ("tok_minimind", "tok_gpt2"))
    assert len(paths) > 40
    for path in paths:
        source = json_lines(path) if path.suffix == ".jsonl" else json(path)
        dataset = source()
        assert not dataset.quarantine.rejected, path
        if path.suffix == ".jsonl":
            expected = [json_text.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            shards = list(source.shards(1000))
            assert pl.concat([shard.frame for shard in shards]).equals(dataset.frame)
            assert dataclasses.replace(shards[0]).kinds == dataset.kinds
            first = next(iter(expected[0]))
            assert dataset.frame[first].to_list() == [row.get(first) for row in expected]
