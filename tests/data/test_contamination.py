"""Benchmark lines in training text, against plain n-grams of words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.contract import contract_of
from groundup.core.dataset import Dataset, apply
from groundup.core.errors import DataError
from groundup.data.cleaning import drop_contaminated
from groundup.data.cleaning.contamination import normalised, read_benchmark
from groundup.data.sources import text_files


def texts(*values: str | None) -> Dataset:
    return Dataset.of(pl.DataFrame({"text": values}, schema={"text": pl.String}), {"text": "text"})


def plain_words(text: str) -> list[str]:
    """The definition, written out: lower case, no punctuation, white space between words, Chinese one by one."""
    kept = "".join(c for c in text.lower() if c.isalnum() or c.isspace())
    return re.findall(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+", kept)


QUESTION = "What is the airspeed velocity of an unladen swallow, and why does it carry a coconut?"
SHORT = "To be, or not to be: that is it!"
CHINESE = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    file = tmp_path / "benchmark.txt"
    file.write_text(f"{QUESTION}\n\ntoo short\n{SHORT}\n{CHINESE}\n", encoding="utf-8")
    return file


def test_documents_that_hold_a_line_go_and_the_ledger_says_which(benchmark: Path) -> None:
    dataset = texts(
        "An innocent document. " * 10,
        f"Before. {QUESTION.upper().replace(',', ' --')} After.",
        "He asked what is the airspeed velocity of an unladen swallow and left",
        "They said 'to be or NOT to be, that is it' again",
        "to be or not to be that was it",
        f"诗曰：{CHINESE[:12]}\n{CHINESE[12:]}",
        None,
        "",
    )
    cleaned = apply(drop_contaminated(benchmark), dataset, "drop_contaminated")
    assert cleaned.frame["_row"].to_list() == [0, 2, 4, 6, 7]
    assert dict(cleaned.history[-1].removed) == {
        "row 1": "contaminated: 4 runs of 13 words as in line 1 of benchmark.txt",
        "row 3": "contaminated: 1 runs of 13 words as in line 4 of benchmark.txt",
        "row 5": "contaminated: 8 runs of 13 words as in line 5 of benchmark.txt",
    }
    assert cleaned.history[-1].notes[0].startswith("3 of 3 lines of")
    assert "line 1 stands in 1 documents, 100% of it" in cleaned.history[-1].notes


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "中", "é"]), max_size=24), max_size=6), st.integers(8, 13))
@settings(max_examples=80, deadline=None)
def test_hits_are_those_of_plain_words(documents: list[list[str]], size: int) -> None:
    lines = ["a b c a b c a b", "a b c é é 中 c b a a b c 中 b", "b b b b b b b b b b b b b b"]
    file = Path(__file__).parent / "no such file"
    values = [", ".join(words) for words in documents]
    step = drop_contaminated(file, words=size, most_documents=100)
    step.__dict__["grams"] = _grams(lines, size)
    found = set(step.removed([step.signature(texts(*values))])[0]) if values else set()
    expected = set()
    for i, words in enumerate(map(plain_words, values)):
        for line in map(plain_words, lines):
            n = min(size, len(line))
            own = {tuple(line[k : k + n]) for k in range(len(line) - n + 1)}
            if own & {tuple(words[k : k + n]) for k in range(len(words) - n + 1)}:
                expected.add(i)
    assert found == expected


def _grams(lines: list[str], size: int) -> object:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lines.txt"
        file.write_text("\n".join(lines), encoding="utf-8")
        return read_benchmark(file, size)


def test_what_stands_in_many_documents_is_a_common_phrase(benchmark: Path) -> None:
    many = [f"{i} {QUESTION}" for i in range(11)]
    assert len(drop_contaminated(benchmark)(texts(*many))) == 11
    assert len(drop_contaminated(benchmark)(texts(*many[:10]))) == 0
    assert len(drop_contaminated(benchmark, most_documents=11)(texts(*many))) == 0


def test_shards_give_what_the_whole_gives(benchmark: Path) -> None:
    values = [f"{i} {QUESTION}" if i % 7 == 0 else f"clean {i}" for i in range(60)] + [CHINESE]
    step, dataset = drop_contaminated(benchmark), texts(*values)
    assert contract_of(step) == "pairwise"
    whole = step.removed([step.signature(dataset)])[0]
    parts = [dataset.take(np.arange(a, min(a + 13, 61))) for a in range(0, 61, 13)]
    found = step.removed([step.signature(part) for part in parts])
    assert {13 * s + i: why for s, one in enumerate(found) for i, why in one.items()} == whole
    assert len(whole) == 10


def test_json_lines_and_what_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "benchmark.jsonl"
    file.write_text(json.dumps({"question": QUESTION, "answers": ["eleven metres", {"n": 1}]}) + "\n")
    assert len(drop_contaminated(file)(texts(QUESTION, "other"))) == 1
    assert len(drop_contaminated(file, fields=["question"])(texts(QUESTION, "other"))) == 1
    assert len(drop_contaminated(Path("benchmark.jsonl"), folder=tmp_path)(texts(QUESTION))) == 0
    with pytest.raises(DataError, match="line 1: there is no field 'prompt'; there is: question, answers"):
        drop_contaminated(file, fields=["prompt"])(texts("a"))
    with pytest.raises(DataError, match="cannot be read"):
        drop_contaminated(tmp_path / "none.txt")(texts("a"))
    file.write_text("{")
    with pytest.raises(DataError, match="line 1: not JSON"):
        drop_contaminated(file)(texts("a"))
    (tmp_path / "short.txt").write_text("a b c\n")
    with pytest.raises(DataError, match="no line has 8 words"):
        drop_contaminated(tmp_path / "short.txt")(texts("a"))
    with pytest.raises(DataError, match="words is 3"):
        drop_contaminated(file, words=3)


def test_a_sentence_of_a_novel_is_found_in_it(shared_data: Path, tmp_path: Path) -> None:
    novels = text_files(shared_data / "lm_english_novels_100")
    text = novels.frame["text"][3]
    words = text[200_000:].split()[5:40]
    file = tmp_path / "sentence.txt"
    file.write_text(" ".join(words).upper() + "\n" + " ".join(reversed(words)) + "\n")
    step = drop_contaminated(file)
    cleaned = apply(step, novels, "drop_contaminated")
    assert [name for name, _ in cleaned.history[-1].removed] == [novels.frame["path"][3]]
    [hit] = step.hits([step.signature(novels)])
    assert (hit.line, hit.documents, hit.share) == (1, 1, 1.0)


def test_words_are_normalised_as_stated() -> None:
    assert normalised("It's “state-of-the-art”, naïve!").split() == ["its", "stateoftheart", "naïve"]
    assert normalised("中文 and English。").split() == ["中", "文", "and", "english"]
