"""Published quality rules: at their thresholds, against plain counting, and on real text that must pass or fail."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.contract import contract_of
from groundup.core.dataset import Dataset, apply
from groundup.data.cleaning import c4_quality, fineweb_quality, gopher_quality, gopher_repetition
from groundup.data.cleaning.words import is_spaceless, sentences_in, words_of
from groundup.data.sources import text_files


def texts(*values: str | None) -> Dataset:
    return Dataset.of(pl.DataFrame({"text": values}, schema={"text": pl.String}), {"text": "text"})


def reason(step: Any, text: str) -> str | None:
    """Why a text goes, or None."""
    cleaned = apply(step, texts(text), "step")
    return None if len(cleaned) else cleaned.history[-1].removed[0][1]


PROSE = " ".join(f"The cat and dog{i} have to be with that bird of mine." for i in range(6))
"""72 words."""


PAGE = """The garden lay behind the house, and nobody had walked in it for years.
When spring came, an old man asked whether he might be allowed to have the key.
"You will find it in the drawer," said the woman, "but do not forget to bring it back."
He thanked her with a bow, took a spade from the wall, and went to work before noon.
"""


def test_prose_passes_every_rule() -> None:
    for step in (gopher_quality(), gopher_repetition(), c4_quality(), fineweb_quality()):
        assert reason(step, PAGE) is None, step
        assert contract_of(step) == "row-local"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "gopher_quality words: 0, below 50"),
        ("The cat sat.", "gopher_quality words: 3, below 50"),
        ("a to b of " * 20, "gopher_quality mean word length: 1.5, below 3"),
        ("incomprehensibilities to of " * 20, "gopher_quality mean word length: 8.33"),
        (
            "incomprehensibilities the characterisations of " * 20,
            "gopher_quality mean word length: 10.8, above 10",
        ),
        (PROSE + " #" * 9, "gopher_quality hashes per word: 0.111, above 0.1"),
        (PROSE + " ..." * 5 + " …" * 4, "gopher_quality ellipses per word: 0.111, above 0.1"),
        ("\n".join(f"• {PROSE}" for _ in range(20)), "gopher_quality bullet lines: 1, above 0.9"),
        (
            "\n".join(f"{PROSE} and..." if i % 3 else PROSE for i in range(9)),
            "gopher_quality ellipsis lines: 0.667, above 0.3",
        ),
        (PROSE + " 1234" * 30, "gopher_quality alphabetic words: 0.706, below 0.8"),
        ("Katze sitzt jetzt hinter dem alten Ofen. " * 9, "gopher_quality stop words: 0, below 2"),
    ],
)
def test_gopher_quality_names_the_rule_and_what_was_measured(text: str, expected: str) -> None:
    if expected.endswith("8.33"):
        assert "mean word length" not in str(reason(gopher_quality(), text))
    else:
        assert reason(gopher_quality(), text) == expected


def test_thresholds_are_arguments_and_can_be_switched_off() -> None:
    assert reason(gopher_quality(min_words=3, min_stop_words=1), "The cat sat.") is None
    assert reason(gopher_quality(min_words=None, min_stop_words=None), "cat sat here") is None
    assert reason(gopher_quality(max_words=10), PROSE) == "gopher_quality words: 72, above 10"
    assert reason(gopher_quality(stop_words=["katze", "ofen"]), "Katze sitzt jetzt hinter dem alten Ofen. " * 9) is None


def plain_repeated(words: list[str], n: int) -> float:
    """The definition, written out: characters in runs of n words that stood before, each counted once."""
    seen, inside = set(), set()
    for i in range(len(words) - n + 1):
        run = tuple(words[i : i + n])
        if run in seen:
            inside |= set(range(i, i + n))
        seen.add(run)
    return sum(len(words[i]) for i in inside) / max(1, sum(map(len, words)))


def plain_top(words: list[str], n: int) -> float:
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    counts = collections.Counter(runs)
    most = max(counts.values(), default=0)
    if most < 2:
        return 0.0
    top = max((run for run in counts if counts[run] == most), key=lambda run: sum(map(len, run)))
    inside = {k for i, run in enumerate(runs) if run == top for k in range(i, i + n)}
    return sum(len(words[i]) for i in inside) / sum(map(len, words))


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "d1", "e"]), max_size=40))
@settings(max_examples=100, deadline=None)
def test_shares_of_repeated_runs_are_those_of_plain_counting(words: list[str]) -> None:
    text = " ".join(words)
    found = dict(
        line.split(": ") for line in gopher_repetition(top_ngrams=(0, 0, 0), repeated_ngrams=(0,) * 6).reasons(text)
    )
    for n in range(2, 11):
        name = f"characters in the top {n}-gram" if n < 5 else f"characters in repeated {n}-grams"
        plain = plain_top(words, n) if n < 5 else plain_repeated(words, n)
        measured = float(found[name].partition(",")[0]) if name in found else 0.0
        if n >= 5 or measured:
            assert measured == pytest.approx(plain, rel=5e-3)
        if n < 5 and not measured:
            assert plain == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one line\n" * 4 + "two lines\nthree lines", "gopher_repetition repeated lines: 0.5, above 0.3"),
        ("\n\n".join(["a\nb", "a\nb", "c"]), "gopher_repetition repeated lines: 0.4, above 0.3"),
        (
            "long line that is here twice\n" * 2 + "a\nb\nc\nd\ne",
            "gopher_repetition characters in repeated lines: 0.459",
        ),
        (
            "buy now " * 3 + "words that stand here once alone and so on",
            "gopher_repetition characters in the top 2-gram: 0.346",
        ),
        (
            " ".join(f"w{i}" for i in range(25)) + " it so is by he me we us at an" * 2,
            "gopher_repetition characters in repeated 5-grams: 0.19",
        ),
    ],
)
def test_gopher_repetition_names_the_rule(text: str, expected: str) -> None:
    assert str(reason(gopher_repetition(), text)).startswith(expected)


def test_c4_keeps_good_lines_and_drops_bad_pages() -> None:
    page = (
        "Home | About | Contact\n"
        "This is a sentence with enough words in it.[1]\n"
        "Too short.\n"
        "Please enable Javascript to see all of this page.\n"
        "This site uses cookies and you have to like it.\n"
        "It goes on without an end and then...\n"
        'He said that "it is all good enough for now"\n'
        "Is this the third sentence of it? Yes, it is!\n"
    )
    cleaned = apply(c4_quality(), texts(page, None), "c4")
    assert cleaned.frame["text"][0] == (
        'This is a sentence with enough words in it.\nHe said that "it is all good enough for now"\n'
        "Is this the third sentence of it? Yes, it is!"
    )
    assert cleaned.history[-1].cells_changed == {"text": 1}
    assert cleaned.history[-1].removed == (("row 1", "c4_quality sentences: 0, below 3"),)
    for text, why in (
        (page + "{", "c4_quality curly bracket: it is there"),
        (page + "Lorem Ipsum", "c4_quality lorem ipsum: it is there"),
        ("One sentence of five words. And another one of six words.", "c4_quality sentences: 2, below 3"),
    ):
        assert reason(c4_quality(), text) == why
    assert reason(c4_quality(curly_brackets=False), page + "{") is None


def test_fineweb_rules() -> None:
    good = "This is a line of prose that is long enough.\n" * 1 + "Another line of prose is here, with a mark.\n"
    assert reason(fineweb_quality(), good) is None
    assert reason(fineweb_quality(), "No mark at the end of this line of prose") == (
        "fineweb_quality end-mark lines: 0, not above 0.12"
    )
    assert str(reason(fineweb_quality(), "Short one.\n" + "Another.\n" + good)) == "None"
    assert str(reason(fineweb_quality(), "A.\nB.\nC.\nD.\nE.\n" + good)).startswith(
        "fineweb_quality short lines: 0.714"
    )
    assert str(reason(fineweb_quality(), good * 2)).startswith("fineweb_quality characters in repeated lines: 0.5")
    sparse = "\n\n\n\n".join(f"Wonderfully-antidisestablishmentarian-{i}." for i in range(9))
    assert str(reason(fineweb_quality(), sparse)).startswith("fineweb_quality newlines per word: 3.56, above 0.3")


def test_words_and_sentences_of_both_scripts() -> None:
    assert words_of("The cat, sat.") == ["The", "cat,", "sat."]
    assert words_of("我爱Python3，你呢？ yes, sir") == ["我", "爱", "Python3", "你", "呢", "yes,", "sir"]
    assert is_spaceless("我爱你 ok")
    assert not is_spaceless("hello 我")
    lines = ["One.", "One. Two? Three!", "一。二！三", "他说：“好。”然后走了。", 'He "did." So.']
    assert [sentences_in(line) for line in lines] == [1, 3, 3, 2, 2]


def test_real_c4_pages_are_kept_as_they_are(shared_data: Path) -> None:
    lines = (shared_data / "sft_demos_llamafactory" / "c4_demo.jsonl").read_text("utf-8").splitlines()
    pages = texts(*(json.loads(line)["text"] for line in lines))
    kept = apply(c4_quality(), pages, "c4")
    assert len(kept) == len(pages) == 300
    assert kept.history[-1].cells_changed == {}
    assert len(gopher_quality()(pages)) > 260
    assert len(gopher_repetition()(pages)) > 280


def test_chinese_prose_is_not_wrecked(shared_data: Path) -> None:
    novels = text_files(shared_data / "lm_chinese_novels").frame["text"]
    pages = texts(*(text[i : i + 1500] for text in novels for i in range(0, 60_000, 1500)))
    assert len(gopher_quality()(pages)) == len(pages)
    assert len(gopher_repetition()(pages)) == len(pages)
    assert len(fineweb_quality()(pages)) > 0.7 * len(pages)
    english = texts(
        *(
            text[i : i + 3000]
            for text in text_files(shared_data / "lm_english_novels_100").frame["text"]
            for i in range(9000, 60_000, 3000)
        )
    )
    assert len(gopher_quality()(english)) == len(english)
    assert len(gopher_repetition()(english)) == len(english)


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_text_breaks_a_rule_itself(text: str) -> None:
    for step in (gopher_quality(min_words=None), gopher_repetition(), c4_quality(), fineweb_quality()):
        once = step(texts(text))
        assert step(dataclasses_clean(once)).frame.equals(once.frame), "what passed passes again, unchanged"


def dataclasses_clean(dataset: Dataset) -> Dataset:
    return Dataset.of(dataset.frame, dataset.kinds)
