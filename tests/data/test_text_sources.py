"""Text from files: what is found, what is left out and said so, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundup.core.errors import DataError
from groundup.data.sources.text import decode, standard_library, text_files


def test_standard_library_is_there_whole_and_sorted() -> None:
    dataset = standard_library()
    paths = dataset.frame["path"].to_list()
    assert paths == sorted(paths)
    assert {"ast.py", "json/decoder.py"} <= set(paths)
    assert not [path for path in paths if {"site-packages", "test", "tests", "__pycache__"} & set(path.split("/"))]
    assert dataset.kinds == {"path": "id", "text": "text"}
    assert all(text.strip() for text in dataset.frame["text"])
    assert standard_library().fingerprint() == dataset.fingerprint()


def test_standard_library_by_limit_is_whole_files_from_everywhere() -> None:
    limited = standard_library(limit_bytes=500_000)
    whole = dict(standard_library().frame.select("path", "text").iter_rows())
    assert 100_000 < sum(len(text.encode()) for text in limited.frame["text"]) <= 500_000
    assert all(whole[path] == text for path, text in limited.frame.select("path", "text").iter_rows())
    letters = {path[0] for path in limited.frame["path"]}
    assert len(letters) > 5, "a choice by alphabet would give one letter"
    with pytest.raises(DataError, match="limit_bytes is 0"):
        standard_library(limit_bytes=0)


def test_standard_library_without_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(DataError, match="text_files"):
        standard_library()


def test_a_folder_reports_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.txt").write_text("second")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "bad.txt").write_bytes(b"ok so far \xff\xfe")
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "unknown.py").write_bytes(b"# coding: no-such-thing\n")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / ".hidden").write_text("secret")
    dataset = text_files(Path("."), folder=tmp_path)
    assert dataset.frame["path"].to_list() == ["a.txt", "deep/b.txt"]
    said = "\n".join(dataset.notes)
    for words in ("bad.txt", "position 10", "picture.txt: a null byte at 4", "unknown.py", "1 empty", "1 hidden"):
        assert words in said
    assert text_files(tmp_path, pattern="*.txt").frame["path"].to_list() == ["a.txt"]


def test_one_file_and_its_encodings(tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    for encoding, content in (
        ("utf-8", "naïve = '中'"),
        ("latin-1", "# -*- coding: latin-1 -*-\nx = 'é'"),
        ("utf-8-sig", "x = 'é'"),
        ("utf-16", "x = '中'"),
    ):
        path.write_bytes(content.encode(encoding))
        dataset = text_files(Path("one.py"), folder=tmp_path)
        assert dataset.frame.select("path", "text").rows() == [("one.py", content)]
    assert decode(b"a\r\nb") == "a\r\nb"


def test_missing_empty_and_unreadable_files_name_the_full_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path}/tex/input.txt.*{tmp_path.name}/tex does not"):
        text_files(Path("tex/input.txt"), folder=tmp_path)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match=rf"{tmp_path}/empty.txt"):
        text_files(Path("empty.txt"), folder=tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\0")
    with pytest.raises(DataError, match="not readable as text"):
        text_files(tmp_path / "binary")
    with pytest.raises(DataError, match=r"matches '\*\.md'"):
        text_files(tmp_path, pattern="*.md")
    with pytest.raises(DataError, match="pattern"):
        text_files(tmp_path, pattern="/abs/*")
