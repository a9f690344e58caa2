"""Exact and near duplicates against brute force, and leaks planted across splits."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.contract import Pairwise, contract_of
from groundup.core.dataset import Dataset, Splits, apply
from groundup.core.errors import DataError
from groundup.data import splitting
from groundup.data.cleaning import drop_exact_duplicates, drop_near_duplicates
from groundup.data.cleaning.clusters import across, apart, bands_of, in_company, measured, similar_pairs
from groundup.data.cleaning.digests import first_equal, row_digests
from groundup.data.cleaning.leaks import content_column, find_leaks, running_numbers
from groundup.data.cleaning.minhash import Sets, rows_per_band, signatures
from groundup.data.cleaning.shingles import shingles
from groundup.data.sources import standard_library


def texts(*values: str | None) -> Dataset:
    columns = {"path": [f"{i}.txt" for i in range(len(values))], "text": list(values)}
    return Dataset.of(
        pl.DataFrame(columns, schema={"path": pl.String, "text": pl.String}), {"path": "id", "text": "text"}
    )


def resemblance(one: np.ndarray, other: np.ndarray) -> float:
    shared = len(np.intersect1d(one, other))
    return shared / max(len(one) + len(other) - shared, 1)


def pairs_of(values: Sequence[str], similarity: float) -> dict[tuple[int, int], float]:
    """All pairs that are found when no two documents are of one group."""
    step, rows = drop_near_duplicates(similarity=similarity), np.arange(len(values))
    keys, sequences = signatures(values, similarity)
    bands = bands_of({"keys": keys, "same": sequences}, rows)
    measure = measured(step, rows, *step.evidence(texts(*values), rows))
    near = similar_pairs(step, bands, rows, measure)
    return dict(
        zip(zip(*(some.tolist() for some in apart(near.pairs)), strict=True), near.values.tolist(), strict=True)
    )


def plain_shingles(text: str) -> set[tuple[str, ...]]:
    """The definition, written out."""
    tokens = re.findall(r"[A-Za-z0-9_]+|[^\x00-\x7f]|[!-~]|[\x00-\x08\x0e-\x1f\x7f]", text)
    return {tuple(tokens[i : i + 5]) for i in range(max(len(tokens) - 4, 1))} if tokens else set()


@given(st.lists(st.text(st.sampled_from("ab1_ .,\n\té中\x01"), max_size=40), max_size=8))
@settings(max_examples=150, deadline=None)
def test_shingles_are_those_of_the_definition(values: list[str]) -> None:
    fast = shingles(values)
    plain = [plain_shingles(value) for value in values]
    assert [len(one) for one in fast] == [len(one) for one in plain]
    for i, j in itertools.combinations(range(len(values)), 2):
        union = len(plain[i] | plain[j])
        expected = len(plain[i] & plain[j]) / union if union else 0.0
        assert Sets.of(fast).resemblance(np.array([i]), np.array([j]))[0] == expected


def test_shingles_do_not_depend_on_the_company(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [f"def f{i}(x):\n    return x + {i}\n" * (i % 5 + 1) for i in range(50)] + ["", "\n\n", "a b"]
    together = shingles(values)
    monkeypatch.setattr("groundup.data.cleaning.shingles.BYTES_AT_ONCE", 64)
    for one, alone, other in zip(together, (shingles([value])[0] for value in values), shingles(values), strict=True):
        assert np.array_equal(one, alone)
        assert np.array_equal(one, other)
        assert np.array_equal(one, np.unique(one))


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8, 0.95])
def test_no_similar_pair_of_the_standard_library_is_missed(similarity: float) -> None:
    values = [text for text in standard_library().frame["text"] if len(text) < 4000]
    sets = shingles(values)
    sizes = [len(one) for one in sets]
    similar = {}
    for i, j in itertools.combinations(range(len(sets)), 2):
        near_in_size = min(sizes[i], sizes[j]) >= similarity * max(sizes[i], sizes[j], 1)
        if near_in_size and (value := resemblance(sets[i], sets[j])) >= similarity:
            similar[i, j] = value
    assert len(similar) > 0
    assert pairs_of(values, similarity) == similar, "each is found, none twice, and with its exact figure"


def test_bands_reach_the_recall_they_promise() -> None:
    for similarity in (0.3, 0.5, 0.7, 0.8, 0.9, 0.99):
        rows = rows_per_band(similarity)
        assert 1 - (1 - similarity**rows) ** (128 // rows) >= 0.9999
        assert 1 - (1 - similarity ** (rows + 1)) ** (128 // (rows + 1)) < 0.9999


WORDS = [f"word{i}" for i in range(400)]


def document(seed: int, length: int = 300) -> list[str]:
    return random.Random(seed).choices(WORDS, k=length)


def test_near_duplicates_keep_the_first_and_say_how_near() -> None:
    base = document(0)
    chain = [*base]
    chain[10:12] = ["new", "words"]
    far = [*chain]
    far[100:110] = [f"other{i}" for i in range(10)]
    dataset = texts(
        " ".join(document(1)), " ".join(base), "\n".join(base), " ".join(chain), " ".join(far), "", " ", None
    )
    cleaned = apply(drop_near_duplicates(), dataset, "drop_near_duplicates")
    assert cleaned.frame["path"].to_list() == ["0.txt", "1.txt", "5.txt", "6.txt", "7.txt"]
    reasons = dict(cleaned.history[-1].removed)
    assert reasons["2.txt"] == "near duplicate: 1.00 like 1.txt"
    for name in ("3.txt", "4.txt"):
        value, _, like = reasons[name].removeprefix("near duplicate: ").partition(" like ")
        assert like in ("1.txt", "3.txt")
        assert float(value) >= 0.8
        sets = [plain_shingles(dataset.frame["text"][int(one[0])]) for one in (name, like)]
        assert float(value) == round(len(sets[0] & sets[1]) / len(sets[0] | sets[1]), 2)
    assert len(drop_near_duplicates(similarity=1.0)(dataset)) == 7
    for wrong in (0.0, -1.0, 1.1):
        with pytest.raises(DataError, match="similarity"):
            drop_near_duplicates(similarity=wrong)


def test_what_is_only_somewhat_alike_stays() -> None:
    variants = []
    for number in range(12):
        words = document(0)
        for place in range(5 * number, 300, 60):
            words[place] = f"other{number}"
        variants.append(" ".join(words))
    sets = shingles(variants)
    values = [resemblance(one, other) for one, other in itertools.combinations(sets, 2)]
    assert 0.6 < min(values) < max(values) < 0.8
    bands = bands_of(drop_near_duplicates().signature(texts(*variants)), np.arange(12))
    assert in_company(bands).tolist() == list(range(12)), "they are candidates, and only the exact figure saves them"
    assert len(drop_near_duplicates()(texts(*variants))) == 12
    assert len(drop_near_duplicates(similarity=0.6)(texts(*variants))) == 1
    assert find_leaks(Splits(texts(*variants[:4]), texts(*variants[4:8]), texts(*variants[8:])), "text") == []


def test_thousands_of_copies_take_no_square_time() -> None:
    many = [" ".join(document(0))] * 5000 + [" ".join([*document(0), str(i)]) for i in range(300)]
    assert len(drop_near_duplicates()(texts(*many))) == 1


def test_variants_of_one_text_beside_a_stray_take_no_square_time() -> None:
    """All share buckets, the stray with them, so that no bucket is of one group."""
    variants = [" ".join([*document(0), str(i)]) for i in range(3000)]
    stray = " ".join([*document(0)[:170], *document(1)[170:]])
    step = drop_near_duplicates(similarity=0.5)
    looked = 0

    class Counting(drop_near_duplicates):
        def likeness(self, values: np.ndarray, offsets: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
            nonlocal looked
            looked += len(one)
            return super().likeness(values, offsets, one, other)

    dataset = texts(*variants[:1500], stray, *variants[1500:])
    sets = [shingles([text])[0] for text in (variants[0], stray)]
    assert 0.3 < resemblance(*sets) < 0.5
    kept = Counting(similarity=0.5)(dataset).frame["_row"].to_list()
    assert kept == step(dataset).frame["_row"].to_list() == [0, 1500]
    assert looked < 20 * 3000, "3,000 rows make 4.5 million pairs"


@given(st.lists(st.integers(0, 5), max_size=30), st.sampled_from([1, 7, 40, 10_000]))
def test_all_pairs_across_groups_are_held_against_one_another_once(of: list[int], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("groundup.data.cleaning.clusters.PAIRS_AT_ONCE", at_once)
        left, found = np.arange(len(of)), []
        while len(left):
            one, other, further = across(np.array(of)[left])
            found += [tuple(sorted(pair)) for pair in zip(left[one].tolist(), left[other].tolist(), strict=True)]
            left = left[further]
    assert sorted(found) == [(i, j) for i, j in itertools.combinations(range(len(of)), 2) if of[i] != of[j]]


def test_exact_duplicates_of_any_kind_of_row() -> None:
    frame = pl.DataFrame(
        {
            "name": ["a", "b", "c", "d", "e", "f"],
            "number": [1.0, 1.0, None, None, 2.0, 1.0],
            "image": [b"x", b"x", b"y", b"y", b"x", b"z"],
            "pixels": [[1, 2], [1, 2], [3], [3], [1, 2], [1, 2]],
        }
    )
    dataset = Dataset.of(frame, {"name": "id"})
    cleaned = drop_exact_duplicates()(dataset)
    assert cleaned.frame["name"].to_list() == ["a", "c", "e", "f"]
    assert cleaned.pending == (("b", "exact duplicate: of a"), ("d", "exact duplicate: of c"))
    assert drop_exact_duplicates(["number"])(dataset).frame["name"].to_list() == ["a", "c", "e"]
    with pytest.raises(DataError, match="no column 'nummer'"):
        drop_exact_duplicates(["nummer"])(dataset)
    with pytest.raises(DataError, match="but its ids"):
        drop_exact_duplicates()(Dataset.of(pl.DataFrame({"n": ["a"]}), {"n": "id"}))


def test_planted_leaks_of_text_are_found() -> None:
    changed = [*document(3)]
    changed[50:53] = ["not", "the", "same"]
    parts = {
        "train": [" ".join(document(i)) for i in range(20)],
        "valid": [" ".join(changed), " ".join(document(100)), "", " ".join(document(101))],
        "test": ["\n".join(document(5)), " ".join(document(101)), " ".join(document(102)), ""],
    }
    splits = Splits(*(texts(*values) for values in parts.values()))
    leaks = {(leak.split, leak.name): leak for leak in find_leaks(splits, "text", 0.8)}
    assert set(leaks) == {("valid", "0.txt"), ("test", "0.txt"), ("test", "1.txt")}
    assert leaks["valid", "0.txt"].like == "train: 3.txt"
    assert 0.9 < leaks["valid", "0.txt"].similarity < 1
    assert leaks["test", "0.txt"][2:4] == ("train: 5.txt", 1.0)
    assert leaks["test", "1.txt"][2:4] == ("valid: 3.txt", 1.0)


def test_a_leak_is_found_behind_a_twin_in_its_own_split() -> None:
    base, near = document(3), [*document(3), "more"]
    splits = Splits(texts(" ".join(near)), texts("a b c d e f"), texts(" ".join(base), " ".join(base)))
    assert [(leak.split, leak.name, leak.like) for leak in find_leaks(splits, "text")] == [
        ("test", "0.txt", "train: 0.txt"),
        ("test", "1.txt", "train: 0.txt"),
    ]
    turned = Splits(splits.test, splits.valid, splits.train)
    assert [(leak.split, leak.name, leak.like) for leak in find_leaks(turned, "text")] == [
        ("test", "0.txt", "train: 0.txt")
    ]


def test_leaks_of_tables_are_rows_with_equal_features() -> None:
    def table(names: list[str], ages: list[int | None], sexes: list[str]) -> Dataset:
        return Dataset.of(pl.DataFrame({"name": names, "age": ages, "sex": sexes}), {"name": "id"})

    splits = Splits(
        table(["a", "b", "b2"], [1, None, 1], ["m", "f", "m"]),
        table(["c"], [2], ["m"]),
        table(["d", "e", "f"], [None, 2, 1], ["f", "m", "f"]),
    )
    assert [leak[:4] for leak in find_leaks(splits)] == [
        ("test", "d", "train: b", 1.0),
        ("test", "e", "valid: c", 1.0),
    ]
    assert len(find_leaks(splits, ["age"])) == 3


def test_cleaned_standard_library_has_no_leak_and_an_uncleaned_one_has() -> None:
    whole = standard_library()
    assert find_leaks(splitting.by_hash(whole, "path", 0.2, 0.2), "text", 0.8)
    cleaned = drop_near_duplicates()(drop_exact_duplicates()(whole))
    assert find_leaks(splitting.by_hash(cleaned, "path", 0.2, 0.2), "text", 0.8) == []


SOME = [" ".join(document(i)) for i in range(6)]
CHANGED = [" ".join([*document(i)[:280], *(f"new{i}{k}" for k in range(20))]) for i in range(6)]


@given(
    st.lists(st.sampled_from([*SOME, *CHANGED, "", "a b", "b a", "a  b"]), max_size=24),
    st.lists(st.integers(0, 24), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_signatures_of_shards_give_what_the_whole_gives(values: list[str], cuts: list[int]) -> None:
    dataset = texts(*values)
    borders = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    shards = [dataset.take(np.arange(a, b)) for a, b in itertools.pairwise(borders)]
    step = drop_exact_duplicates()
    assert contract_of(step) == "pairwise"
    assert isinstance(step, Pairwise)
    removed = step.removed([step.signature(shard) for shard in shards])
    found = {borders[s] + i: why for s, one in enumerate(removed) for i, why in one.items()}
    whole = step(dataset)
    gone = sorted(set(range(len(values))) - set(whole.frame["_row"].to_list()))
    assert sorted(found) == gone
    assert dict(whole.pending) == {f"{i}.txt": why for i, why in found.items()}


@given(st.lists(st.sampled_from([*SOME, *CHANGED, "", "a b", "a  b", "x " * 9, "x " * 12]), max_size=14))
@settings(max_examples=40, deadline=None)
def test_what_stays_is_what_brute_force_leaves(values: list[str]) -> None:
    sets = [plain_shingles(value) for value in values]
    first = list(range(len(values)))
    for i, j in itertools.combinations(range(len(values)), 2):
        if sets[i] and sets[j] and len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.8:
            one, other = sorted((first[i], first[j]))
            first = [one if root == other else root for root in first]
    kept = [i for i in range(len(values)) if first[i] == i]
    assert drop_near_duplicates()(texts(*values)).frame["_row"].to_list() == kept


def test_a_long_document_hashes_as_it_does_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    long = ["word " * 50 + "é中文" * 300 + "x" * 3000 + " end", "short one here", "中" * 900]
    whole = [shingles([text])[0] for text in long]
    monkeypatch.setattr("groundup.data.cleaning.shingles.BYTES_AT_ONCE", 16)
    for one, other in zip(whole, shingles(long), strict=True):
        assert np.array_equal(one, other)


def test_equal_rows_have_equal_digests_whatever_their_numbers_are() -> None:
    frame = pl.DataFrame(
        {
            "float": [0.0, -0.0, float("nan"), -float("nan"), None, 1.0],
            "whole": [1, 1, 2, 2, 3, 1],
            "when": pl.Series(["2024-01-01", "2024-01-01", None, None, "2024-01-02", "2024-01-01"]).str.to_date(),
            "kind": pl.Series(["a", "a", "b", "b", None, "a"], dtype=pl.Categorical),
        }
    )
    digests = row_digests(frame)
    assert first_equal(digests).tolist() == [0, 0, 2, 2, 4, 5]
    assert np.array_equal(row_digests(frame[3:]), digests[3:])
    both = pl.DataFrame({"a": ["x", "y"], "b": ["y", "x"]})
    assert len(np.unique(row_digests(both), axis=0)) == 2, "the order of the columns counts"
    assert not np.array_equal(row_digests(pl.DataFrame({"a": [None]})), row_digests(pl.DataFrame({"a": [0]})))


@given(st.lists(st.tuples(st.sampled_from([1, 2, None]), st.sampled_from(["a", "", None])), max_size=20))
@settings(max_examples=60, deadline=None)
def test_exact_duplicates_are_those_of_brute_force(rows: list[tuple[int | None, str | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.String}, orient="row")
    kept = drop_exact_duplicates()(Dataset.of(frame, {"a": "number", "b": "category"})).frame["_row"].to_list()
    assert kept == [i for i, row in enumerate(rows) if row not in rows[:i]]


def test_columns_that_number_rows_hide_no_copy() -> None:
    draw = np.random.default_rng(0)
    measured = draw.normal(size=50)

    def table(rows: list[int], start: int) -> Dataset:
        numbers = [start + i for i in range(len(rows))]
        frame = {"id": numbers, "code": [f"A-{n}" for n in numbers], "x": measured[rows], "y": [r % 2 for r in rows]}
        return Dataset.of(pl.DataFrame(frame), {"code": "category"})

    splits = Splits(table(list(range(30)), 0), table(list(range(30, 40)), 30), table([*range(40, 48), 3, 33], 40))
    assert running_numbers(splits) == ["id", "code"]
    assert [leak[:3] for leak in find_leaks(splits)] == [
        ("test", "row 8", "train: row 3"),
        ("test", "row 9", "valid: row 3"),
    ]
    few = Splits(*(part.with_frame(part.frame.drop("x")) for part in splits.parts().values()))
    assert running_numbers(few) == [], "without them all would be equal by chance"
    assert find_leaks(few) == []


def test_names_are_no_content_and_sentences_are() -> None:
    sentence = "This is a sentence of a review, and it is long enough to be told apart."
    frame = pl.DataFrame({"who": ["Ann Lee", "Bo Li"], "said": [sentence, sentence[::-1]], "image": [b"x", b"y"]})
    kinds = {"who": "text", "said": "text", "image": "image"}
    dataset = Dataset.of(frame, kinds)  # type: ignore[arg-type]
    assert content_column(dataset) == "said"
    assert content_column(dataset.with_frame(frame.drop("said").with_row_index("_row"))) == "image"
    assert content_column(Dataset.of(frame.select("who"), {"who": "text"})) is None
    chinese = pl.DataFrame({"said": ["这家酒店的房间很大，服务也非常好，下次还会来住。"]})
    assert content_column(Dataset.of(chinese, {"said": "text"})) == "said"
    with pytest.raises(DataError, match=r"drop_near_duplicates\(\)\(dataset\)"):
        drop_near_duplicates(dataset)  # type: ignore[arg-type]
