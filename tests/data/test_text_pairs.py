"""Pairs of texts as a model sees them: each target learned whole, moved by one where it is given, padding nowhere."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.preprocessing import Preprocessing
from groundup.core.use import Use
from groundup.data.loading import batches, once
from groundup.data.packing import MASKED
from groundup.data.samples import TextPairs

PAIRS = [("abc", "cba"), ("a", "a"), ("", "bb"), ("cc", "")]


def _dataset(pairs: list[tuple[str | None, str | None]]) -> Dataset:
    frame = pl.DataFrame(pairs, schema={"said": pl.String, "meant": pl.String}, orient="row")
    dataset = Dataset.of(frame, {"said": "text", "meant": "text"}, origin="the test")
    return dataset.take(np.arange(len(pairs)), "train")


def _samples(**options: int) -> TextPairs:
    samples = TextPairs(source="said", target="meant", tokenizer=Use("Characters"), **options)
    return samples.fit(_dataset([("abc", "d")]))


A, B, C, D, END = range(5)


def test_a_batch_is_the_sources_and_the_targets_moved_by_one() -> None:
    samples = _samples()
    inputs, targets = samples.encode(_dataset(PAIRS)).batch(np.array([0, 2, 3]))
    assert inputs["tokens"].tolist() == [[A, B, C, END], [END] * 4, [C, C, END, END]]
    assert inputs["lengths"].tolist() == [4, 1, 3]
    assert targets["targets"].tolist() == [[C, B, A, END], [B, B, END, MASKED], [END, *[MASKED] * 3]]
    assert inputs["decoder_tokens"].tolist() == [[END, C, B, A], [END, B, B, END], [END] * 4]
    assert {value.dtype for value in (*inputs.values(), *targets.values())} == {torch.int64}


def test_one_tokenizer_is_learned_from_both_columns_and_what_begins_a_text_is_offered_to_the_model() -> None:
    samples = _samples()
    assert samples.learned is not None
    assert samples.learned["tokenizer"]["characters"] == "abcd"
    assert samples.learned["rows"] == 1
    assert samples.sizes().items() >= {"vocab_size": 6, "decoder_start_token_id": END, "eos_token_id": END}.items()
    assert samples.prompt_tokens("ab") == [END]
    assert samples.source_tokens("ab") == [A, B, END]
    again = Preprocessing.from_json(Preprocessing((), samples).to_json()).samples
    assert again == samples
    assert TextPairs(source="said", target="meant").with_tokenizer(samples).learned == samples.learned


def test_long_texts_are_cut_and_counted() -> None:
    samples = _samples(length=3, target_length=2)
    encoded = samples.encode(_dataset(PAIRS))
    inputs, targets = encoded.batch(np.arange(4))
    assert inputs["tokens"].tolist() == [[A, B, END], [A, END, END], [END] * 3, [C, C, END]]
    assert targets["targets"].tolist() == [[C, B], [A, END], [B, B], [END, MASKED]]
    assert encoded.notes == (
        "1 of 4 sources are cut to 3 tokens",
        "2 of 4 targets are cut to 2 tokens, and learn no end",
    )
    assert encoded.num_bytes == 5
    assert samples.source_tokens("abc") == [A, B, END]


def test_every_target_is_learned_once_an_epoch_and_batches_have_one_shape() -> None:
    encoded = _samples().encode(_dataset(PAIRS * 5))
    found = list(once(encoded, 3))
    assert {batch.inputs["tokens"].shape[1] for batch in found} == {4}
    learned = torch.cat([batch.targets["targets"][batch.targets["targets"] != MASKED] for batch in found])
    assert sorted(learned.tolist()) == sorted(encoded.tokens.tolist())
    assert [row for batch in found for row in (batch.rows if batch.rows is not None else [])] == list(range(20))


def test_a_pair_is_shown_as_the_model_sees_it() -> None:
    samples = _samples()
    batch = next(batches(samples.encode(_dataset(PAIRS[:1])), 1, seed=0))
    end = "<|endoftext|>"
    read = [(letter, False) for letter in ("a", "b", "c", end)]
    assert samples.describe(batch) == [*read, *((letter, True) for letter in ("c", "b", "a", end))]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [([("a", None)], r"TextPairs: row 0 has no 'meant' \(1 such rows\)"), ([(None, "a")], "row 0 has no 'said'")],
)
def test_a_missing_text_is_named(pairs: list[tuple[str | None, str | None]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        _samples().encode(_dataset(pairs))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(DataError, match="source and target are both 'text'"):
        TextPairs(source="text", target="text")
    with pytest.raises(DataError, match="target_length is 0"):
        TextPairs(target_length=0)
    with pytest.raises(DataError, match="take no augmentation"):
        _samples().encode(_dataset(PAIRS)).batch(np.arange(1), augment=["something"])
