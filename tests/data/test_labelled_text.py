"""Texts with labels: a vocabulary from train alone, padding behind the end, and augmentation before numbering."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.contract import Mergeable, contract_of
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError, RecipeError
from groundup.core.preprocessing import Preprocessing, fit_step
from groundup.core.use import Use, make
from groundup.data.augmentation import AEDA, RandomDeletion, RandomSwap, SynonymReplacement, before_and_after
from groundup.data.loading import batches
from groundup.data.samples import LabelledText
from groundup.data.samples.vocabulary import PADDING, RESERVED, UNKNOWN

TEXTS = ["The film was good .", "a bad film", "Good , good and fun", "bad bad bad acting in 2001", "fine", "the end"]
LABELS = ["good", "bad", "good", "bad", "good", "bad"]
STEPS = [RandomSwap(0.4), RandomDeletion(0.2), AEDA(0.5)]


def texts(values: list[Any], labels: list[Any] | None = None, split: str = "train") -> Dataset:
    frame = pl.DataFrame({"text": pl.Series(values, dtype=pl.String)})
    if labels is not None:
        frame = frame.with_columns(label=pl.Series(labels))
    dataset = Dataset.of(frame, {"text": "text"}, origin="memory")
    return dataclasses.replace(dataset, split=split)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fitted() -> LabelledText:
    return LabelledText("label").fit(texts(TEXTS, LABELS))


def test_the_vocabulary_is_trains_most_frequent_first(fitted: LabelledText) -> None:
    words = fitted.need()["words"]
    assert words[:3] == ["bad", "good", "film"]
    assert set(words) == {word for text in TEXTS for word in text.lower().split()}
    assert fitted.sizes() == {
        "vocab_size": len(words) + 2, "length": 6, "input_shape": (6,), "out_features": 2, "num_classes": 2,
    }  # fmt: skip


def test_words_become_numbers_and_padding_stands_behind(fitted: LabelledText) -> None:
    encoded = fitted.encode(texts(["Bad stranger , bad", "!?"], ["bad", "good"], "test"))
    inputs, targets = encoded.batch(np.array([0, 1]))
    bad, comma = (fitted.need()["words"].index(word) + RESERVED for word in ("bad", ","))
    assert inputs["inputs"].tolist() == [[bad, UNKNOWN, comma, bad, PADDING, PADDING], [UNKNOWN, UNKNOWN, 0, 0, 0, 0]]
    assert inputs["inputs"].dtype == torch.int64
    assert targets["targets"].tolist() == [0, 1]
    assert encoded.notes == ("3 of 6 words are not in train's vocabulary",)
    assert encoded.describe(0) == {
        "text": "Bad stranger , bad", "words": ["bad", "<unknown>", ",", "bad"], "target label": "bad",
    }  # fmt: skip


def test_options_of_the_vocabulary() -> None:
    train = texts(TEXTS, LABELS)
    small = LabelledText("label", vocab_size=2, buckets=5, length=3).fit(train)
    assert small.need()["words"] == ["bad", "good"]
    assert small.sizes()["vocab_size"] == 2 + 2 + 5
    numbers = small.encode(train).numbers
    assert numbers.shape == (6, 3)
    assert UNKNOWN not in numbers, "each strange word has a number of its own among the buckets"
    assert numbers.max() < 9
    assert small.encode(train).notes[-1] == "3 texts are longer than 3 words and cut off"
    assert set(LabelledText("label", min_count=2).fit(train).need()["words"]) == {"bad", "good", "film", "the"}
    with pytest.raises(DataError, match="no word of 'text' stands 9 times"):
        LabelledText("label", min_count=9).fit(train)
    with pytest.raises(RecipeError, match="buckets: read -1"):
        make(Use("LabelledText", target="label", buckets=-1), "samples", where="recipe.data.samples")


@pytest.mark.parametrize("cuts", [[3], [1, 2], [0, 5]])
def test_shards_in_order_teach_what_all_rows_teach(cuts: list[int]) -> None:
    train, samples = texts(TEXTS, LABELS), LabelledText("label", buckets=3)
    assert isinstance(samples, Mergeable)
    assert contract_of(samples) == "fitted"
    parts = [samples.partial(train.take(at)) for at in np.split(np.arange(6), cuts)]
    state = parts[0]
    for part in parts[1:]:
        state = samples.merge(state, part)
    assert samples.finish(state) == samples.fit(train)


def test_only_train_is_learned_from(fitted: LabelledText) -> None:
    with pytest.raises(DataError, match="would leak"):
        fit_step(LabelledText("label"), texts(TEXTS, LABELS, "valid"))
    with pytest.raises(DataError, match=r"row 1 has no 'text'"):
        LabelledText("label").fit(texts(["a", None], ["x", "y"]))
    assert Preprocessing.from_json(Preprocessing((), fitted).to_json()).samples == fitted


def test_raw_text_is_read(fitted: LabelledText, tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text("text\na good film\nbad\n", encoding="utf-8")
    for raw, expected in (
        ("a good film", ["a good film"]),
        (["a good film", "bad"], ["a good film", "bad"]),
        ({"text": "bad"}, ["bad"]),
        ([{"text": "bad"}, {"text": "fine"}], ["bad", "fine"]),
        (str(table), ["a good film", "bad"]),
        ('{"text": "bad"}', ["bad"]),
        ("missing.csv", ["missing.csv"]),
    ):
        read = fitted.read(raw)
        assert read.split == "serve"
        assert read.frame["text"].to_list() == expected
        assert fitted.encode(read).targets is None
    for bad in ("", "   ", 3, ["a", None]):
        with pytest.raises(DataError, match="expected some text"):
            fitted.read(bad)
    with pytest.raises(DataError, match="no targets"):
        fitted.encode(fitted.read("x")).arrays()


def test_outputs_are_given_back_as_labels(fitted: LabelledText) -> None:
    decoded = fitted.decode(torch.tensor([[0.0, 2.0], [3.0, 0.0]]))
    assert [line["label"] for line in fitted.present(decoded)] == ["good", "bad"]
    assert fitted.decode_targets({"targets": torch.tensor([1])}).tolist() == [1]


def test_a_number_can_be_predicted() -> None:
    train = texts(TEXTS, [0.5, 1.5, 2.0, 8.0, 3.0, 1.0])
    samples = LabelledText("label").fit(train)
    assert samples.task == "regress"
    np.testing.assert_allclose(samples.encode(train).arrays()[1], [0.5, 1.5, 2.0, 8.0, 3.0, 1.0])
    scaled = LabelledText("label", target_scale="min_max").fit(train).encode(train)
    assert (scaled.targets.min(), scaled.targets.max()) == (0, 1)
    np.testing.assert_allclose(scaled.arrays()[1], [0.5, 1.5, 2.0, 8.0, 3.0, 1.0])


def test_a_linear_model_is_given_counts(fitted: LabelledText) -> None:
    counts, targets = fitted.encode(texts(TEXTS, LABELS)).arrays()
    words = fitted.need()["words"]
    assert counts.shape == (6, len(words))
    assert counts[3, words.index("bad")] == 3
    assert counts.sum() == sum(len(text.split()) for text in TEXTS)
    assert targets.tolist() == [1, 0, 1, 0, 1, 0]


# ---------------------------------------------------------------------------------------------- augmentation


def test_augmented_batches_do_not_depend_on_the_batching(fitted: LabelledText) -> None:
    train = texts(TEXTS * 5, LABELS * 5)
    encoded = fitted.encode(train)
    whole = encoded.batch(np.arange(30), STEPS, seed=3, epoch=2)[0]["inputs"]
    order = np.random.default_rng(0).permutation(30)
    for part in np.split(order, [1, 3, 11]):
        assert torch.equal(encoded.batch(part, STEPS, seed=3, epoch=2)[0]["inputs"], whole[part])
    few = fitted.encode(train.take(order[:4])).batch(np.arange(4), STEPS, seed=3, epoch=2)[0]["inputs"]
    assert torch.equal(few, whole[order[:4]]), "the draw goes by row, wherever it stands"
    assert not torch.equal(encoded.batch(np.arange(30), STEPS, seed=3, epoch=3)[0]["inputs"], whole)
    assert not torch.equal(encoded.batch(np.arange(30))[0]["inputs"], whole)


def test_a_stream_that_is_resumed_goes_on_bit_for_bit(fitted: LabelledText) -> None:
    encoded = fitted.encode(texts(TEXTS * 5, LABELS * 5))
    stream = batches(encoded, 7, seed=1, augment=STEPS)
    seen = [next(stream) for _ in range(9)]
    for one, other in zip(
        seen[4:], batches(encoded, 7, seed=1, augment=STEPS, bookmark=seen[3].bookmark), strict=False
    ):
        assert torch.equal(one.inputs["inputs"], other.inputs["inputs"])


def test_words_of_the_labels_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text("good fine\nbad awful\nfilm movie\n", encoding="utf-8")
    train = texts(["a good film", "a bad film"] * 9, ["Good", "bad"] * 9)
    encoded = LabelledText("label").fit(train).encode(train)
    step = SynonymReplacement("table.txt", 0.9, folder=tmp_path)
    assert set(encoded.augmented(np.arange(18), [step], 0, 0)) == {"a good movie", "a bad movie"}


@given(st.lists(st.text("ab .é中,3", min_size=1, max_size=20), min_size=2, max_size=6), st.integers(0, 3))
def test_any_texts_can_be_learned_augmented_and_read_back(values: list[str], seed: int) -> None:
    train = texts([f"{value} x" for value in values], [i % 2 for i in range(len(values))])
    samples = LabelledText("label", language="spaced", task="classify").fit(train)
    encoded = samples.encode(train)
    inputs, _ = encoded.batch(np.arange(len(values)), STEPS, seed, 0)
    assert inputs["inputs"].shape == (len(values), samples.sizes()["length"])
    assert int(inputs["inputs"].min()) >= 0
    assert int(inputs["inputs"].max()) < samples.sizes()["vocab_size"]
    assert (inputs["inputs"][:, 0] != PADDING).all()
    padded = (inputs["inputs"] == PADDING).int()
    assert (padded.diff(dim=1) >= 0).all(), "padding stands behind all words"


def test_before_and_after_each_step(fitted: LabelledText) -> None:
    encoded = fitted.encode(texts(TEXTS, LABELS))
    shown = before_and_after(encoded, STEPS, count=2)
    assert [name for name, _ in shown[0].stages] == ["before", "RandomSwap", "RandomDeletion", "AEDA"]
    assert all(one.stages[0][1] == TEXTS[one.row] and one.name == f"row {one.row}" for one in shown)
    assert any(one.stages[0][1] != one.stages[1][1] for one in shown)
