"""Every way to split: a partition, of the right shares, drawn the same again, and refused where it cannot be."""

from __future__ import annotations

import datetime
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.dataset import ROW, Dataset, Splits
from groundup.core.errors import DataError
from groundup.core.use import Use, make
from groundup.data import splitting


def table(size: int, **columns: Any) -> Dataset:
    return Dataset.of(pl.DataFrame({"value": range(size), **columns}), {"value": "number"})


def rows(splits: Splits) -> list[list[int]]:
    return [part.frame[ROW].to_list() for part in splits.parts().values()]


WAYS: list[tuple[Callable[..., Splits], dict[str, str]]] = [
    (splitting.random, {}),
    (splitting.stratified, {"column": "label"}),
    (splitting.by_hash, {"column": "value"}),
    (splitting.by_time, {"column": "value"}),
    (splitting.contiguous, {}),
    (splitting.grouped, {"column": "group"}),
]


@pytest.mark.parametrize(("way", "options"), WAYS, ids=lambda value: getattr(value, "__name__", ""))
@given(
    size=st.integers(60, 200),
    valid=st.sampled_from([0.0, 0.1, 0.25]),
    test=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_a_partition_drawn_the_same_again(
    way: Callable[..., Splits], options: dict[str, str], size: int, valid: float, test: float, seed: int
) -> None:
    data = table(size, label=[i % 3 for i in range(size)], group=[i // 3 for i in range(size)])
    splits = way(data, **options, valid=valid, test=test, seed=seed)
    parts = rows(splits)
    assert sorted(itertools.chain(*parts)) == list(range(size))
    assert rows(way(data, **options, valid=valid, test=test, seed=seed)) == parts
    assert [part.split for part in splits.parts().values()] == ["train", "valid", "test"]
    for part, share in zip(parts[1:], (valid, test), strict=True):
        assert bool(part) == (share > 0)
        if way not in (splitting.by_hash, splitting.grouped):
            assert abs(len(part) - share * size) <= 1
        if way is splitting.grouped:
            assert abs(len(part) - share * size) <= 3


def test_by_name_and_seed_as_a_recipe_makes_it() -> None:
    data = table(40)
    made = make(Use("random", valid=0.25, test=0.25), "split", seed=3)
    assert rows(made(data)) == rows(splitting.random(data, 0.25, 0.25, seed=3))
    assert rows(splitting.random(data, seed=1)) != rows(splitting.random(data, seed=2))


def test_stratified_keeps_shares_of_each_class() -> None:
    labels = ["common"] * 70 + ["rare"] * 27 + ["few"] * 3
    splits = splitting.stratified(table(100, label=labels), "label", valid=0.1, test=0.2, seed=5)
    counts = [Counter(part.frame["label"]) for part in splits.parts().values()]
    assert counts[2] == {"common": 14, "rare": 5, "few": 1}
    assert counts[1] == {"common": 7, "rare": 3, "few": 1}
    with pytest.raises(DataError, match=r"class 'few' of 'label' has 2 rows.*3 parts"):
        splitting.stratified(table(72, label=["common"] * 70 + ["few"] * 2), "label")
    splitting.stratified(table(72, label=["common"] * 70 + ["few"] * 2), "label", test=0.0)


@given(st.lists(st.integers(3, 60), min_size=1, max_size=12), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_stratified_totals_come_out_right(sizes: list[int], seed: int) -> None:
    labels = [i for i, size in enumerate(sizes) for _ in range(size)]
    splits = splitting.stratified(table(len(labels), label=labels), "label", valid=0.15, test=0.2, seed=seed)
    for part in splits.parts().values():
        assert set(part.frame["label"]) == set(range(len(sizes)))
    minimum = sum(size < 10 for size in sizes)
    assert abs(len(splits.test) - 0.2 * len(labels)) <= 1 + minimum


def test_by_hash_is_stable_when_data_grows() -> None:
    names = [f"module{i}.py" for i in range(400)]

    def part_of(values: list[str], seed: int = 0) -> dict[str, str]:
        data = Dataset.of(pl.DataFrame({"path": values}), {"path": "id"})
        splits = splitting.by_hash(data, "path", 0.1, 0.1, seed)
        return {path: name for name, part in splits.parts().items() for path in part.frame["path"]}

    small, large = part_of(names[:200]), part_of(names[::-1])
    assert all(large[path] == name for path, name in small.items())
    assert part_of(names, seed=1) != part_of(names)
    assert 20 <= Counter(large.values())["test"] <= 60
    # The rule itself, so that it can never change unnoticed: SHA-256 of "seed:value", its first 8 bytes as a share.
    for path in names[:50]:
        place = int(hashlib.sha256(f"0:{path}".encode()).hexdigest()[:16], 16) / 16**16
        assert large[path] == ("test" if place < 0.1 else "valid" if place < 0.2 else "train")


def test_by_hash_keeps_equal_values_together() -> None:
    splits = splitting.by_hash(table(300, site=[i % 60 for i in range(300)]), "site", 0.2, 0.2)
    sites = [set(part.frame["site"]) for part in splits.parts().values()]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(sites, 2))


def test_by_time_is_earliest_first_and_keeps_one_time_together() -> None:
    start = datetime.datetime(2020, 1, 1)
    times = [start + datetime.timedelta(hours=int(h)) for h in np.random.default_rng(0).permutation(100) // 2]
    splits = splitting.by_time(table(100, time=times), "time", valid=0.15, test=0.25)
    train, valid, test = (part.frame["time"] for part in splits.parts().values())
    assert train.max() < valid.min()
    assert valid.max() < test.min()
    assert all(part.is_sorted() for part in (train, valid, test))
    assert (len(valid), len(test)) in {(14, 26), (16, 26), (14, 24), (16, 24)}
    with pytest.raises(DataError, match="holds String"):
        splitting.by_time(table(9, time=["a"] * 9), "time")
    with pytest.raises(DataError, match="none came to"):
        splitting.by_time(table(9, time=[1] * 9), "time")


def test_contiguous_cuts_text_by_characters_as_published() -> None:
    text = "".join(chr(97 + i % 26) for i in range(1_115_394))
    data = Dataset.of(pl.DataFrame({"path": ["input.txt"], "text": [text]}), {"path": "id", "text": "text"})
    splits = splitting.contiguous(data, "text", valid=0.1, test=0.0)
    assert splits.train.frame["text"][0] == text[: int(0.9 * len(text))]
    assert splits.valid.frame["text"][0] == text[int(0.9 * len(text)) :]
    assert len(splits.test) == 0
    assert splits.test.split == "test"
    assert splits.valid.row_names() == ["input.txt"]


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6), st.sampled_from([0.0, 0.1, 0.3]))
@settings(max_examples=60, deadline=None)
def test_contiguous_loses_no_character(texts: list[str], test: float) -> None:
    data = Dataset.of(pl.DataFrame({"text": texts}), {"text": "text"})
    try:
        splits = splitting.contiguous(data, "text", valid=0.2, test=test)
    except DataError:
        return
    pieces = dict.fromkeys(range(len(texts)), "")
    for part in splits.parts().values():
        assert all(part.frame["text"].str.len_chars() > 0)
        for row, piece in part.frame.select(ROW, "text").iter_rows():
            pieces[row] += piece
    assert list(pieces.values()) == texts


def test_grouped_keeps_groups_whole_even_when_there_are_few() -> None:
    data = table(30, group=["a"] * 20 + ["b"] * 5 + ["c"] * 5)
    for seed in range(10):
        splits = splitting.grouped(data, "group", 0.2, 0.2, seed)
        assert all(len(part) for part in splits.parts().values())
        assert len({frozenset(part.frame["group"]) for part in splits.parts().values()}) == 3
    with pytest.raises(DataError, match="2 distinct values"):
        splitting.grouped(table(4, group=["a", "a", "b", "b"]), "group")


@pytest.mark.parametrize(("way", "options"), WAYS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_refused(way: Callable[..., Splits], options: dict[str, str]) -> None:
    data = table(30, label=[i % 3 for i in range(30)], group=list(range(30)))
    for valid, test, words in ((-0.1, 0.1, "valid is -0.1"), (0.1, 1.0, "test is 1.0"), (0.5, 0.5, "nothing would be")):
        with pytest.raises(DataError, match=words):
            way(data, **options, valid=valid, test=test)
    with pytest.raises(DataError, match="2 rows, too few for 3 parts"):
        way(table(2, label=[0, 1], group=[0, 1]), **options)
    if options:
        with pytest.raises(DataError, match="no column 'grup'"):
            way(data, column="grup")
        holed = data.with_frame(data.frame.with_columns(pl.when(pl.col(ROW) != 4).then(pl.col(options["column"]))))
        with pytest.raises(DataError, match=r"1 rows have no value .*row 4"):
            way(holed, **options)


def test_empty_parts_are_an_error_unless_asked_for() -> None:
    with pytest.raises(DataError, match="none came to"):
        splitting.by_hash(table(5), "value", valid=0.01, test=0.01)
    data = Dataset.of(pl.DataFrame({"text": ["ab"]}), {"text": "text"})
    with pytest.raises(DataError, match="too short to give"):
        splitting.contiguous(data, "text", valid=0.01, test=0.01)


def test_given_takes_the_parts_as_they_are_named() -> None:
    data = table(10, split=["train"] * 4 + ["Validation", " val "] + ["TEST"] * 4)
    splits = splitting.given(data)
    assert [part.frame["value"].to_list() for part in splits.parts().values()] == [[0, 1, 2, 3], [4, 5], [6, 7, 8, 9]]
    assert [part.split for part in splits.parts().values()] == ["train", "valid", "test"]
    assert "split" not in splits.train.columns
    assert "split" not in splits.train.kinds
    other = table(6, fold=["a", "b", "c", "a", "b", "c"])
    splits = splitting.given(other, "fold", names={"train": ["a", "b"], "test": ["C"]}, valid=0.5, seed=1)
    assert splits.test.frame["value"].to_list() == [2, 5]
    assert len(splits.valid) == 2
    assert set(splits.train.frame["value"]) | set(splits.valid.frame["value"]) == {0, 1, 3, 4}
    again = splitting.given(other, "fold", names={"train": ["a", "b"], "test": ["c"]}, valid=0.5, seed=1)
    assert again.valid.frame.equals(splits.valid.frame)


def test_given_refuses_what_names_no_part() -> None:
    with pytest.raises(DataError, match=r"'split' holds 'trian', which names no part\. Known are train, training"):
        splitting.given(table(2, split=["train", "trian"]))
    with pytest.raises(DataError, match=r"1 rows have no value in 'split' \(row 1\)"):
        splitting.given(table(2, split=["train", None]))
    with pytest.raises(DataError, match="no row of 'split' is left to train on"):
        splitting.given(table(2, split=["valid", "test"]))
    with pytest.raises(DataError, match=r"given\.names: read 'dev', expected train, valid, test"):
        splitting.given(table(2, split=["train", "test"]), names={"dev": ["train"]})
    with pytest.raises(DataError, match="no column 'split'"):
        splitting.given(table(2))
