"""Tokenizers: lossless, deterministic, and with the ids that tokenizer.json gives to everyone else."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import DataError
from groundup.data.sources import standard_library
from groundup.data.tokenization import END_OF_TEXT, BytePairEncoding, Characters


@pytest.fixture(scope="module")
def sources() -> list[str]:
    return standard_library(limit_bytes=1_500_000).frame["text"].to_list()


@pytest.fixture(scope="module")
def trained(sources: list[str]) -> BytePairEncoding:
    return BytePairEncoding(2048).fit(sources)


@pytest.fixture(scope="module")
def read_by_others(trained: BytePairEncoding) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer.from_str(trained.to_json())
    tokenizer.encode_special_tokens = True  # what a text happens to spell is text
    return tokenizer


def test_sizes_and_ids(trained: BytePairEncoding) -> None:
    assert trained.vocab_size == 2048
    assert trained.end_of_text == 2047
    assert trained.learned is not None
    assert trained.learned["rows"] > 50
    assert len(set(trained.learned["tokens"])) == 2047
    assert trained.decode([trained.end_of_text]) == END_OF_TEXT
    assert trained.end_of_text not in trained.encode(f"a {END_OF_TEXT} b"), "text cannot end a document"
    again = BytePairEncoding(learned=json.loads(json.dumps(trained.learned)))
    assert again == trained
    assert again.encode("def f(x):\n    return x") == trained.encode("def f(x):\n    return x")


def test_same_ids_as_tokenizer_json_on_real_text(
    trained: BytePairEncoding, read_by_others: tokenizers.Tokenizer, sources: list[str], shared_data: Path
) -> None:
    novel = (shared_data / "lm_chinese_novels" / "西游记.txt").read_text(encoding="utf-8", errors="replace")
    texts = [
        *sources[:60],
        novel[:60_000],
        "naïve café ﬁ Ω≈ç√ 🙂👩‍👩‍👧 नमस्ते عربى\u3000\u00a0\u2028\r\n\r \t\x0b\x0c\x85x",
    ]
    for text, ids, other in zip(texts, trained.encode_many(texts), read_by_others.encode_batch(texts), strict=True):
        assert ids.tolist() == other.ids
        assert ids.dtype == np.int32
        assert trained.decode(ids) == text
        assert read_by_others.decode(other.ids, skip_special_tokens=False) == text


def every_character(step: int) -> list[str]:
    """Texts with every character below U+3100, and each ``step``-th beyond, among letters, digits and marks."""
    points = [*range(0x3100), *range(0x3100, 0xD800, step), *range(0xE000, 0x110000, step)]
    return ["".join(f"a{chr(p)}1{chr(p)} {chr(p)}(" for p in points[i : i + 512]) for i in range(0, len(points), 512)]


# The two libraries read the classes of characters from tables of their own, perhaps of different Unicode versions.
@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.slow)])
def test_same_ids_for_every_character_there_is(
    trained: BytePairEncoding, read_by_others: tokenizers.Tokenizer, step: int
) -> None:
    texts = every_character(step)
    for ids, other in zip(trained.encode_many(texts), read_by_others.encode_batch(texts), strict=True):
        assert ids.tolist() == other.ids


PIECES = st.one_of(st.text(max_size=8), st.sampled_from([" ", "\n", "\t", "    ", "self", "return", "_", "=="]))


@given(st.lists(PIECES, max_size=30).map("".join))
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back_and_has_the_same_ids_for_all(
    trained: BytePairEncoding, read_by_others: tokenizers.Tokenizer, text: str
) -> None:
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert ids == read_by_others.encode(text).ids
    assert trained.byte_lengths()[ids].sum() == len(text.encode())
    assert len(trained.byte_lengths()) == trained.vocab_size


def test_a_prompt_cut_before_white_space_has_the_tokens_of_the_whole(
    trained: BytePairEncoding, sources: list[str]
) -> None:
    generator = random.Random(0)
    for text in generator.sample(sources, 40):
        text = text[:3000]
        whole = trained.encode(text)
        cuts = [i for i in range(1, len(text)) if text[i].isspace() and not text[i - 1].isspace()]
        for cut in generator.sample(cuts, min(10, len(cuts))):
            prompt = trained.encode(text[:cut])
            assert whole[: len(prompt)] == prompt


def test_training_is_the_same_in_any_process(sources: list[str]) -> None:
    script = (
        "import hashlib, json, sys; from groundup.data.tokenization import BytePairEncoding\n"
        "texts = json.load(sys.stdin)\n"
        "print(hashlib.sha256(json.dumps(BytePairEncoding(500).fit(texts).learned).encode()).hexdigest())"
    )
    digests = set()
    for seed, threads in (("0", "1"), ("7", "2")):
        environment = {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"}
        done = subprocess.run(
            [sys.executable, "-c", script],
            input=json.dumps(sources[:15]),
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_hostile_text_takes_linear_time(trained: BytePairEncoding) -> None:
    for text in ("a" * 200_000, " " * 200_000, "\n" * 200_000, "^" * 200_000, "中" * 50_000, "1" * 200_000):
        assert trained.decode(trained.encode(text)) == text


def test_what_byte_pairs_refuse(tmp_path: Path) -> None:
    small = BytePairEncoding(4096).fit(["ab ab ab"])
    assert small.vocab_size < 300, "so little text gives few merges, and the size says so"
    assert small.decode(small.encode("zebra 中")) == "zebra 中"
    with pytest.raises(DataError, match="at least 257"):
        BytePairEncoding(200).fit(["abc"])
    for nothing in ([], [""]):
        with pytest.raises(DataError, match="no text"):
            BytePairEncoding().fit(nothing)
        with pytest.raises(DataError, match="no text"):
            Characters().fit(nothing)
    for unfitted in (BytePairEncoding(), Characters()):
        with pytest.raises(DataError, match="not been fitted"):
            unfitted.encode("a")
    path = small.save(tmp_path)
    assert path.name == "tokenizer.json"
    loaded = tokenizers.Tokenizer.from_file(str(path))
    assert loaded.get_vocab_size() == small.vocab_size
    assert loaded.token_to_id(END_OF_TEXT) == small.end_of_text


def test_characters_are_sorted_and_come_back(shared_data: Path) -> None:
    play = (shared_data / "lm_tinyshakespeare" / "input.txt").read_text()
    fitted = Characters().fit([play])
    assert fitted.vocab_size == 65 + 2
    assert fitted.encode("\n !")[:3] == [0, 1, 2], "sorted, as nanoGPT numbers them"
    [ids] = fitted.encode_many([play])
    assert fitted.decode(ids.tolist()) == play
    assert fitted.byte_lengths()[ids].sum() == len(play.encode())
    other = tokenizers.Tokenizer.from_str(fitted.to_json())
    assert other.encode(play[:5000]).ids == ids[:5000].tolist()
    assert other.decode(ids[:5000].tolist()) == play[:5000]
    assert other.encode("a中").ids == fitted.encode("a中")


@given(st.text(min_size=1), st.text())
@settings(max_examples=100, deadline=None)
def test_unknown_characters_are_one_token_or_an_error(known: str, text: str) -> None:
    fitted = Characters().fit([known])
    expected = "".join(letter if letter in known else "\ufffd" for letter in text)
    assert fitted.decode(fitted.encode(text)) == expected
    assert all(0 <= i < fitted.vocab_size for i in fitted.encode(text))
    strict = Characters(unknown="error").fit([known])
    assert strict.vocab_size == fitted.vocab_size - 1
    strange = set(text) - set(known)
    if not strange:
        assert strict.encode(text) == fitted.encode(text)
    else:
        with pytest.raises(DataError, match=f"{len(strange)} characters"):
            strict.encode(text)
