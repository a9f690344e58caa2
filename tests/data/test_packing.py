"""Packed text: every token learned once, no target across documents, nothing lost; and what a batch says of itself."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.dataset import Dataset, apply
from groundup.core.errors import DataError
from groundup.core.preprocessing import Preprocessing, step_name
from groundup.core.use import Use
from groundup.data import splitting
from groundup.data.cleaning import drop_exact_duplicates, drop_generated, drop_near_duplicates, repair_text
from groundup.data.loading import batches, once
from groundup.data.packing import MASKED, PADDING_DOCUMENT, PackedSequences, cut_stream, fit_whole
from groundup.data.samples import PackedText
from groundup.data.sources import standard_library, text_files


def documents(*texts: str | None) -> Dataset:
    frame = pl.DataFrame({"text": list(texts)}, schema={"text": pl.String})
    dataset = Dataset.of(frame, {"text": "text"}, origin="the test")
    return dataset.take(np.arange(len(texts)), "train")


def packed(texts: list[str], length: int) -> tuple[PackedText, PackedSequences]:
    samples = PackedText(length=length, tokenizer=Use("Characters")).fit(documents(*texts, "abc"))
    return samples, samples.encode(documents(*texts))


def learned_pairs(encoded: PackedSequences, batch_size: int = 3) -> list[tuple[int, int]]:
    """(token, target) wherever something is learned, over one epoch."""
    pairs: list[tuple[int, int]] = []
    for batch in once(encoded, batch_size):
        tokens, targets = batch.inputs["tokens"], batch.targets["targets"]
        mask = targets != MASKED
        pairs += zip(tokens[mask].tolist(), targets[mask].tolist(), strict=True)
    return pairs


@given(st.lists(st.text(st.sampled_from("abc"), max_size=12), min_size=1, max_size=10), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_each_token_is_a_target_once_but_the_first_of_a_document(texts: list[str], length: int) -> None:
    if not any(texts):
        return
    samples, encoded = packed(texts, length)
    tokenizer = samples.learned_tokenizer
    expected: Counter[tuple[int, int]] = Counter()
    for text in texts:
        ids = [*tokenizer.encode(text), tokenizer.end_of_text]
        expected.update(itertools.pairwise(ids))
    assert Counter(learned_pairs(encoded)) == expected
    assert encoded.num_targets == sum(expected.values())
    assert encoded.num_bytes == sum(max(len(text) - 1, 0) for text in texts)


@given(st.lists(st.text(st.sampled_from("abc"), max_size=12), min_size=1, max_size=10), st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_what_holds_for_every_sequence(texts: list[str], length: int) -> None:
    if not any(texts):
        return
    samples, encoded = packed(texts, length)
    end = samples.learned_tokenizer.end_of_text
    for batch in once(encoded, 4):
        tokens, where = batch.inputs["tokens"], batch.inputs["documents"]
        targets = batch.targets["targets"]
        assert tokens.shape == where.shape == targets.shape == (batch.num_samples, length)
        assert tokens.dtype == where.dtype == targets.dtype == torch.int64
        assert bool((targets != MASKED).any(dim=1).all()), "a sequence with an empty mask"
        assert bool((targets[tokens == end] == MASKED).all()), "a target across documents"
        assert bool((targets[where == PADDING_DOCUMENT] == MASKED).all())
        assert bool((where[:, 0] == 0).all())
        for i in range(batch.num_samples):
            for t in range(length - 1):
                step = int(where[i, t + 1] - where[i, t])
                if where[i, t + 1] == PADDING_DOCUMENT:
                    continue
                assert step == int(tokens[i, t] == end), "a document ends with its end of text, and there alone"
                if targets[i, t] != MASKED:
                    assert targets[i, t] == tokens[i, t + 1]


@pytest.mark.parametrize("length", [1, 2, 63, 64, 1000])
def test_one_long_text_loses_nothing(shared_data: Path, length: int) -> None:
    splits = splitting.contiguous(
        text_files(shared_data / "lm_tinyshakespeare" / "input.txt"), "text", valid=0.1, test=0.0
    )
    fitted, splits = Preprocessing.fit((), PackedText(length=length, tokenizer=Use("Characters")), splits)
    for part in (splits.train, splits.valid):
        cut = part.with_frame(part.frame.with_columns(pl.col("text").str.head(20_011)))
        encoded = fitted.samples.encode(cut)
        text = cut.frame["text"][0]
        stream = [text[0]]
        for batch in once(encoded, 64):
            targets = batch.targets["targets"]
            stream.append(fitted.samples.learned_tokenizer.decode(targets[targets != MASKED].tolist()))
        assert "".join(stream) == text + "<|endoftext|>"
        assert len(encoded) == -(-len(text) // length)
    assert len(fitted.samples.encode(splits.test)) == 0


def test_tokens_texts_and_bytes_for_baselines() -> None:
    samples, encoded = packed(["abc", "é" * 3, ""], 4)
    tokenizer = samples.learned_tokenizer
    assert tokenizer.decode(encoded.tokens.tolist()) == "abc<|endoftext|>ééé<|endoftext|><|endoftext|>"
    assert encoded.texts == ["abc", "ééé", ""]
    assert encoded.num_bytes == 2 + 4
    assert encoded.rows.tolist() == [0, 1]
    with pytest.raises(DataError, match="no augmentation"):
        encoded.batch(np.array([0]), augment=["Rotate"])


def test_unknown_characters_are_said_and_counted_for_no_fewer_bytes() -> None:
    samples, _ = packed(["abc"], 4)
    encoded = samples.encode(documents("ab中c"))
    assert encoded.notes == ("1 characters of train are unknown to the tokenizer",)
    assert encoded.num_bytes == 3


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.integers(20, 30))
@settings(max_examples=100, deadline=None)
def test_whole_documents_are_packed_well(lengths: list[int], capacity: int) -> None:
    windows = fit_whole(lengths, capacity)
    assert sorted(itertools.chain(*windows)) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in window) <= capacity for window in windows)
    fewest = -(-sum(lengths) // capacity)
    assert len(windows) <= 11 / 9 * max(fewest, 1) * 1.5 + 1
    assert fit_whole(lengths, capacity) == windows


def test_windows_over_a_stream() -> None:
    begins, ends = cut_stream([5, 1, 4], 4)
    assert begins.tolist() == [0, 4, 8]
    assert ends.tolist() == [4, 8, 9]
    begins, ends = cut_stream([2, 2, 2], 1)
    assert begins.tolist() == [0, 2, 4], "the places on an end of text have no target, and are no window"
    assert cut_stream([], 4)[0].tolist() == cut_stream([1], 4)[0].tolist() == []


def test_a_batch_described_shows_what_is_learned() -> None:
    samples, encoded = packed(["ab", "cab"], 6)
    [batch] = once(encoded, 1)
    assert samples.describe(batch) == [
        ("a", False),
        ("b", True),
        ("<|endoftext|>", True),
        ("c", False),
        ("a", True),
        ("b", True),
        ("<|endoftext|>", True),
    ]
    long, encoded = packed(["ab", "cab"], 20)
    assert long.describe(next(batches(encoded, 1, seed=0))) == samples.describe(batch), "padding is not shown"
    cut, encoded = packed(["abcabc"], 3)
    shown = [cut.describe(batch) for batch in once(encoded, 1)]
    assert shown[0] == [("a", False), ("b", True), ("c", True), ("a", True)]
    assert shown[1][0] == ("a", False)


def test_fitting_is_on_train_alone_and_travels_as_json() -> None:
    dataset = standard_library(limit_bytes=300_000)
    splits = splitting.by_hash(dataset, "path", 0.2, 0.2)
    samples = PackedText(length=32, tokenizer=Use("BytePairEncoding", vocab_size=512))
    with pytest.raises(DataError, match="would leak"):
        Preprocessing.fit((), samples, type(splits)(splits.valid, splits.train, splits.test))
    fitted, splits = Preprocessing.fit((), samples, splits)
    assert fitted.samples.learned["rows"] == len(splits.train)
    assert fitted.samples.sizes() == {"vocab_size": 512, "length": 32, "input_shape": (32,), "out_features": 512}
    again = Preprocessing.from_json(fitted.to_json())
    assert again.samples == fitted.samples
    one, other = (each.samples.encode(splits.test) for each in (fitted, again))
    assert np.array_equal(one.tokens, other.tokens)
    assert one.num_bytes < sum(len(text.encode()) for text in one.texts)
    small = PackedText(length=8).fit(documents("tiny tiny text"))
    assert small.sizes()["vocab_size"] < 300, "the size is what there is, not what was asked for"


def test_reading_prompts_and_showing_outputs() -> None:
    samples = PackedText(length=8, tokenizer=Use("BytePairEncoding", vocab_size=300)).fit(documents("def f(x): pass"))
    served = samples.read("def f")
    assert served.split == "serve"
    assert served.frame["text"].to_list() == ["def f"]
    assert samples.read(["a", "b"]).frame["text"].to_list() == ["a", "b"]
    assert samples.read({"text": "a"}).frame["text"].to_list() == ["a"]
    for nothing in ("", "  ", None, 3, {"txt": "a"}):
        with pytest.raises(DataError, match="expected some text"):
            samples.read(nothing)
    tokenizer = samples.learned_tokenizer
    assert samples.prompt_tokens("def f(x):\n    ") == tokenizer.encode("def f(x):")
    with pytest.raises(DataError, match="prompt is empty"):
        samples.prompt_tokens("")
    ids = torch.tensor([tokenizer.encode("def"), tokenizer.encode("f(x")[:1] * len(tokenizer.encode("def"))])
    assert samples.present(samples.decode(ids))[0] == {"text": "def"}
    logits = torch.zeros(2, 3, tokenizer.vocab_size)
    logits[:, :, 65] = 50.0
    shown = samples.present(samples.decode(logits))
    assert len(shown) == 2
    assert max(shown[0]["next"].values()) == pytest.approx(1.0)
    characters, _ = packed(["abc"], 4)
    assert characters.prompt_tokens("a ") == characters.learned_tokenizer.encode("a ")


def test_what_is_refused() -> None:
    with pytest.raises(DataError, match="length is 0"):
        PackedText(length=0)
    with pytest.raises(DataError, match="no tokenizer yet"):
        PackedText().encode(documents("a"))
    fitted, _ = packed(["abc"], 4)
    with pytest.raises(DataError, match=r"row 1 has no 'text'.*drop_short"):
        fitted.encode(documents("abc", None))
    with pytest.raises(DataError, match="no document with a token to predict"):
        fitted.encode(documents("", ""))
    with pytest.raises(DataError, match="no column 'text'"):
        fitted.encode(Dataset.of(pl.DataFrame({"txt": ["a"]})))


def test_the_whole_way_from_files_to_batches() -> None:
    dataset = standard_library(limit_bytes=600_000)
    for step in (repair_text, drop_generated, drop_exact_duplicates(), drop_near_duplicates()):
        dataset = apply(step, dataset, step_name(step))
    splits = splitting.by_hash(dataset, "path", 0.1, 0.1)
    fitted, splits = Preprocessing.fit(
        (), PackedText(length=128, tokenizer=Use("BytePairEncoding", vocab_size=1024)), splits
    )
    for part in splits.parts().values():
        encoded = fitted.samples.encode(part)
        size = sum(len(text.encode()) for text in part.frame["text"])
        assert 0.99 * size < encoded.num_bytes < size
        assert 2 < size / encoded.num_targets < 4


def test_context_shows_tokens_again_and_counts_each_once() -> None:
    """Outside train a window repeats the end of the one before; the targets are those of plain windows, in order."""
    text = "one two three four five six seven eight nine ten " * 9
    frame = pl.DataFrame({"path": ["a", "b"], "text": [text, text[7:]]})
    train = dataclasses.replace(Dataset.of(frame, {"path": "id", "text": "text"}), split="train")
    test = dataclasses.replace(train, split="test")
    plain = PackedText(length=16, tokenizer=Use("Characters")).fit(train)
    overlapping = dataclasses.replace(plain, context=6)

    def learned(samples: PackedText, dataset: Dataset) -> list[int]:
        encoded = samples.encode(dataset)
        targets = encoded.batch(np.arange(len(encoded)))[1]["targets"]
        return targets[targets != -100].tolist()

    assert learned(overlapping, test) == learned(plain, test)
    assert len(overlapping.encode(test)) > len(plain.encode(test))
    assert len(overlapping.encode(train)) == len(plain.encode(train))
    inputs, targets = overlapping.encode(test).batch(np.arange(3))
    assert (targets["targets"][1:, :6] == -100).all()
    assert inputs["tokens"][2, :6].tolist() == inputs["tokens"][1, -6:].tolist()
