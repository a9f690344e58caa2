"""Sources of their own for each part: one table, split as they came."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.use import Use, check, make
from groundup.data.splitting import given


def read(folder: Path, **files: str) -> Dataset:
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    uses = {name: {"use": "csv", "path": f"{name}.csv"} for name in files}
    use = check(Use("parts", **uses), "source", "recipe.data.source")
    dataset = make(use, "source", where="recipe.data.source", folder=folder)()
    assert isinstance(dataset, Dataset)
    return dataset


def test_files_become_the_parts_that_they_are(tmp_path: Path) -> None:
    data = read(tmp_path, train="x,c\n1,a\n2,b\n3,a\n", test="c,x\nb,4.5\n", valid="x,c\n7,a\n")
    assert data.frame["x"].to_list() == [1.0, 2.0, 3.0, 7.0, 4.5]
    assert data.frame["_row"].to_list() == [0, 1, 2, 3, 4]
    assert data.kinds == {"x": "number", "c": "category", "split": "category"}
    assert data.notes[0].startswith("train: 3 rows from ")
    assert len(data.history) == 3, "what each reader said stays in the ledger"
    splits = given(data)
    assert [len(part) for part in splits.parts().values()] == [3, 1, 1]
    assert splits.test.frame["x"].to_list() == [4.5]


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"parts\.test: .*test\.csv lacks the column 'c'"):
        read(tmp_path, train="x,c\n1,a\n", test="x,d\n1,a\n")
    with pytest.raises(DataError, match=r"parts\.train: .*train\.csv lacks the column 'd'"):
        read(tmp_path, train="x\n1\n", test="x,d\n1,a\n")
    with pytest.raises(DataError, match="has a column 'split' already"):
        read(tmp_path, train="x,split\n1,a\n")
    with pytest.raises(DataError, match="column 'x' holds Int64 in train, String in test"):
        read(tmp_path, train="x,c\n1,a\n", test="x,c\nlow,a\n")
