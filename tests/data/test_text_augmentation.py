"""Steps on words: they change as many as the papers say, leave what is protected, and draw by row alone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError, MissingExtraError, RecipeError
from groundup.core.use import Use, make
from groundup.data.augmentation import (
    AEDA,
    EDA,
    RandomDeletion,
    RandomInsertion,
    RandomSwap,
    Rotate,
    SynonymReplacement,
)
from groundup.data.augmentation import words as words_module
from groundup.data.augmentation.text import CHINESE_MARKS, MARKS, how_many, rewrite_text
from groundup.data.augmentation.words import Words, cut

TABLE = "quick\tfast\trapid\nfox\treynard\nlazy\tidle\tvery slow\ndog\thound\njumps\tleaps\n房间\t屋子\n干净\t整洁\n"
SENTENCE = "the quick brown fox jumps over the lazy dog near a quiet river bank today"

texts = st.text("ab cdE .,!?'3-\n\té中文房", max_size=60) | st.sampled_from([SENTENCE, "", "a", "  ", "3 4"])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("synonyms") / "table.txt"
    path.write_text(TABLE, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def every(table: str) -> list[Any]:
    return [
        SynonymReplacement(table, 0.3),
        RandomInsertion(table, 0.3),
        RandomSwap(0.3),
        RandomDeletion(0.3),
        EDA(table, 0.3),
        AEDA(),
    ]


def spaced(text: str, step: Any, seed: int = 0) -> Words:
    found: Words = step.rewrite(cut(text, "spaced"), np.random.default_rng(seed))
    return found


def split(words: Words) -> list[str]:
    return [words.pieces[place] for place in words.places]


@given(texts)
def test_pieces_put_together_are_the_text(text: str) -> None:
    assert cut(text, "spaced").text == text
    assert cut(text, "auto").text == text


def test_how_text_is_cut() -> None:
    pieces = cut("It's a well-known 3.5% of\tU.S. films , n't?", "spaced")
    assert split(pieces) == ["It's", "a", "well-known", "3.5", "of", "U", "S", "films", "n't"]
    assert pieces.pieces[5:8] == (" ", "3.5", "%")


def test_chinese_is_cut_into_words() -> None:
    pytest.importorskip("jieba")
    words = cut("这家宾馆的房间很干净，价格200元。")
    assert words.chinese
    assert {"宾馆", "房间", "干净", "，", "200"} <= set(words.pieces)
    assert not cut("plain text").chinese
    assert cut("房间", "spaced").pieces == ("房间",)


def test_jieba_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    words_module._chinese.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "jieba", None)
    with pytest.raises(MissingExtraError, match=r"groundup\[chinese\]"):
        cut("房间很干净")
    monkeypatch.undo()
    words_module._chinese.cache_clear()


@pytest.mark.parametrize(
    ("text", "free"),
    [
        ("What films featured Popeye Doyle ?", ["What", "films", "featured"]),
        ("the 2nd of 1,000 men in 1945", ["the", "of", "men", "in"]),
        ("It works. Now it does.", ["It", "works", "Now", "it", "does"]),
        ("a NASA probe", ["a", "probe"]),
    ],
)
def test_numbers_and_names_are_protected(text: str, free: list[str]) -> None:
    words = cut(text, "spaced")
    assert [words.pieces[place] for place in words.free] == free


def test_words_of_a_list_are_protected_whatever_their_case() -> None:
    words = cut("Not a good movie", "spaced", kept=["NOT"]).keeping(["Movie"])
    assert [words.pieces[place] for place in words.free] == ["a", "good"]


def test_chinese_names_and_numbers_are_protected() -> None:
    pytest.importorskip("jieba")
    words = cut("北京的三十个房间很干净")
    assert {words.pieces[place] for place in words.free}.isdisjoint({"北京", "三十"})
    assert {"房间", "干净"} <= {words.pieces[place] for place in words.free}


# ---------------------------------------------------------------------------------------------- the papers' counts


@pytest.mark.parametrize(("alpha", "length", "expected"), [(0.05, 10, 1), (0.1, 25, 2), (0.1, 9, 1), (0.5, 7, 3)])
def test_n_is_alpha_times_the_length(alpha: float, length: int, expected: int) -> None:
    assert how_many(alpha, cut(" ".join(["word"] * length), "spaced")) == expected


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.3])
def test_so_many_words_are_replaced(table: str, alpha: float) -> None:
    known = {"quick", "fox", "jumps", "lazy", "dog"}
    for seed in range(20):
        found = spaced(SENTENCE, SynonymReplacement(table, alpha), seed)
        gone = Counter(SENTENCE.split()) - Counter(split(found))
        assert set(gone) <= known, "only words with a synonym, and none of grammar"
        assert sum(gone.values()) == min(max(1, int(alpha * 15)), 5)


def test_a_replacement_is_a_synonym_in_its_place(table: str) -> None:
    seen = {spaced("Quick fox", SynonymReplacement(table, 0.5), seed).text for seed in range(40)}
    assert seen == {"Fast fox", "Rapid fox", "Quick reynard"}
    found = spaced("so lazy", SynonymReplacement(table, 0.5), 1)
    assert found.pieces in (("so", " ", "idle"), ("so", " ", "very", " ", "slow")), "several words are cut"


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4])
def test_so_many_words_are_inserted(table: str, alpha: float) -> None:
    for seed in range(20):
        found = split(spaced(SENTENCE, RandomInsertion(table, alpha), seed))
        added = Counter(found) - Counter(SENTENCE.split())
        slow = added.pop("slow", 0) or 0  # "very slow" is one synonym of two words
        assert sum(added.values()) == max(1, int(alpha * 15))
        assert slow == added.get("very", 0)
        assert set(added) <= {"fast", "rapid", "reynard", "idle", "very", "hound", "leaps"}
        rest = iter(found)
        assert all(word in rest for word in SENTENCE.split()), "the text's own words stay in order"
    assert " ".join(spaced("fox", RandomInsertion(table), 0).pieces).split() in (["reynard", "fox"], ["fox", "reynard"])


def test_so_many_words_are_swapped() -> None:
    words = [f"w{chr(97 + i)}" for i in range(20)]
    for alpha in (0.05, 0.1, 0.2):
        moved = [
            sum(a != b for a, b in zip(words, split(spaced(" ".join(words), RandomSwap(alpha), seed)), strict=True))
            for seed in range(60)
        ]
        assert max(moved) <= 2 * int(alpha * 20)
        assert min(moved) > 0 or alpha > 0.05
        if alpha == 0.05:
            assert set(moved) == {2}, "one swap moves two words"


def test_words_are_deleted_with_their_probability() -> None:
    words = " ".join(f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(200))
    left = [len(split(spaced(words, RandomDeletion(0.1), seed))) for seed in range(60)]
    assert np.mean(left) == pytest.approx(180, abs=2)
    assert np.std(left) == pytest.approx(np.sqrt(200 * 0.1 * 0.9), rel=0.25)
    assert spaced("one two three", RandomDeletion(1.0), 3).text in ("one", "two", "three"), "one is left"
    for seed in range(30):
        assert not re.search(r"^ |  | $", spaced(words, RandomDeletion(0.3), seed).text)


def test_eda_takes_one_of_the_four_with_equal_chances(table: str) -> None:
    counts: Counter[str] = Counter()
    for seed in range(2000):
        before, after = SENTENCE.split(), split(spaced(SENTENCE, EDA(table, 0.1, probability=1.0), seed))
        if len(after) > len(before) and not (Counter(before) - Counter(after)):
            counts["insert"] += 1
        elif len(after) < len(before) or after == before:
            counts["delete"] += 1
        elif Counter(before) == Counter(after):
            counts["swap"] += 1
        else:
            counts["replace"] += 1
    assert {name: pytest.approx(500, abs=75) for name in ("insert", "delete", "swap", "replace")} == counts
    kept = sum(spaced(SENTENCE, EDA(table, 0.5, probability=0.5), seed).text == SENTENCE for seed in range(600))
    assert kept == pytest.approx(300, abs=60)


@pytest.mark.parametrize("length", [1, 2, 5, 9, 30])
def test_aeda_inserts_up_to_a_third_of_the_words_number_of_marks(length: int) -> None:
    text = " ".join(["word"] * length)
    seen = Counter()
    for seed in range(300):
        found = spaced(text, AEDA(1.0), seed)
        marks = [piece for piece in found.pieces if piece in MARKS]
        assert split(found) == text.split()
        assert " ".join(found.text.split()) == found.text
        seen[len(marks)] += 1
    assert set(seen) == set(range(1, max(1, length // 3) + 1))


def test_chinese_text_is_changed_without_spaces(every: list[Any]) -> None:
    pytest.importorskip("jieba")
    text = "宾馆的房间很干净，服务员也很热情，下次还会来住。"
    for step in every:
        for seed in range(10):
            found = step.rewrite(cut(text), np.random.default_rng(seed))
            assert " " not in found.text or "very" in found.text
    marked = AEDA(1.0).rewrite(cut(text), np.random.default_rng(0))
    assert Counter(marked.text) - Counter(text) <= Counter(dict.fromkeys(CHINESE_MARKS, 9))
    replaced = {SynonymReplacement(every[0].synonyms, 0.1).rewrite(cut(text), np.random.default_rng(s)).text
                for s in range(20)}  # fmt: skip
    assert replaced == {text.replace("房间", "屋子"), text.replace("干净", "整洁")}


# ---------------------------------------------------------------------------------------------- properties


@given(text=texts, seed=st.integers(0, 5))
def test_protected_words_stay_and_in_order(every: list[Any], text: str, seed: int) -> None:
    for step in every:
        words = cut(text, "spaced").keeping(["ab"])
        stays = [words.pieces[place] for place in words.places if place not in words.free]
        after = iter(split(step.rewrite(words, np.random.default_rng(seed))))
        assert all(word in after for word in stays)


@given(text=texts, seed=st.integers(0, 5))
def test_at_zero_strength_a_text_stays(table: str, text: str, seed: int) -> None:
    still = [SynonymReplacement(table, 0), RandomInsertion(table, 0), RandomSwap(0), RandomDeletion(0), EDA(table, 0)]
    never = [RandomSwap(0.5, 0.0), EDA(table, 0.5, 0.0), AEDA(0.0)]
    assert rewrite_text(cut(text), [*still, *never], seed, 0, 0).text == text


@given(text=texts, seed=st.integers(0, 3), row=st.integers(0, 9))
def test_a_text_depends_on_seed_epoch_and_row_alone(every: list[Any], text: str, seed: int, row: int) -> None:
    first = rewrite_text(cut(text), every, seed, 1, row)
    assert rewrite_text(cut(text), every, seed, 1, row) == first
    assert first.places or not cut(text).places, "a text with words keeps one"


def test_seed_epoch_and_row_each_change_the_draw(every: list[Any]) -> None:
    draws = {rewrite_text(cut(SENTENCE), every, *key).text for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))}
    assert len(draws) == 4


def test_a_list_of_one_step_protects_its_words(table: str) -> None:
    for seed in range(20):
        step = SynonymReplacement(table, 0.9, protect=["Fox", "dog"])
        assert {"fox", "dog"} <= set(split(spaced(SENTENCE, step, seed)))


@pytest.mark.parametrize(
    "use", [Use("RandomSwap", alpha=1.5), Use("EDA", synonyms="x", probability=2.0), Use("AEDA", probability=-1.0)]
)
def test_options_out_of_range_name_the_place_in_the_recipe(use: Use) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.data\.augment\[0\].*read"):
        make(use, "augment", where="recipe.data.augment[0]")


def test_paths_start_at_the_recipes_folder(table: str) -> None:
    path = Path(table)
    step = make(Use("EDA", synonyms=path.name), "augment", folder=path.parent)
    assert step.known.of("fox") == ("reynard",)
    with pytest.raises(DataError, match="there are no synonyms"):
        make(Use("EDA", synonyms="absent.txt"), "augment", folder=path.parent).known  # noqa: B018


def test_a_step_for_images_is_refused() -> None:
    with pytest.raises(RecipeError, match="Rotate has no rewrite"):
        rewrite_text(cut("a text"), [Rotate(10)], 0, 0, 0)
