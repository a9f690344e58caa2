"""A published encoder of text with its own tokenizer is trained on labelled texts, down the whole river."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import tomli_w
import torch
from tokenizers import models, pre_tokenizers, processors

import groundup
from groundup import terminal
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError, RecipeError
from groundup.core.use import Use
from groundup.data.samples import LabelledText
from groundup.data.tokenizer_file import TokenizerFile
from groundup.models.bert import Bert, BertConfig
from groundup.models.hugging_face import read_folder, write_folder

GOOD, BAD = ["good", "fine", "lovely"], ["bad", "poor", "dull"]
OTHERS = ["the", "film", "plot", "was", "and", "a"]


def tokenizer(first: Sequence[str] = ("[PAD]", "[UNK]")) -> tokenizers.Tokenizer:
    """As a BERT's: tokens around each text, and every text filled up to 24, as published files may say."""
    words = [*first, "[CLS]", "[SEP]", *OTHERS, *GOOD, *BAD]
    made = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(words[:4])
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_padding(length=24, pad_id=0, pad_token="[PAD]")
    made.enable_truncation(3)
    return made


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder with a headless BERT of a few words, and its tokenizer."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    folder = tmp_path / "published"
    write_folder(Bert(BertConfig(vocab_size=16, max_position_embeddings=20, **sizes)), folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def recipe(folder: Path, start: Path, **samples: Any) -> Path:
    draw = random.Random(0)
    with (folder / "texts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(500):
            words = draw.choices(OTHERS, k=draw.randint(2, 9))
            words.insert(draw.randint(0, len(words)), draw.choice(GOOD if i % 2 else BAD))
            writer.writerow([" ".join(words) + f" {i}", "praise" if i % 2 else "blame"])
    table = {
        "name": "opinions",
        "start": str(start),
        "model": {"use": "Published", "head": "classes"},
        "data": {
            "source": {"use": "csv", "path": str(folder / "texts.csv")},
            "split": {"use": "random", "valid": 0.1, "test": 0.2},
            "samples": {"use": "LabelledText", "target": "label", "length": 12, **samples},
        },
        "training": {
            "objective": {"use": "supervised", "loss": "cross_entropy"},
            "optimizer": {"use": "AdamW", "lr": 3e-3},
            "batch_size": 32,
            "steps": 40,
            "compile": "off",
        },
        "evaluation": {"metrics": ["accuracy"], "baselines": ["logistic_regression"]},
    }
    (folder / "recipe.toml").write_text(tomli_w.dumps(table))
    return folder / "recipe.toml"


def test_it_is_trained_evaluated_and_asked(tmp_path: Path, published: Path) -> None:
    theirs = {"use": "TokenizerFile", "path": str(published)}
    with terminal.quiet():
        run = groundup.train(recipe(tmp_path, published, tokenizer=theirs), out=tmp_path / "run")
        report = groundup.evaluate(run)
        (published / "tokenizer.json").unlink()  # what was trained does not need the folder
        good, bad = groundup.predict(run, "the plot was lovely", "a dull film")
    assert report.metrics["accuracy"].value > 0.9
    assert report.baselines["logistic_regression"]["accuracy"].value > 0.9
    assert (good["label"], bad["label"]) == ("praise", "blame")


def test_without_its_tokenizer_it_is_refused_with_the_line_that_mends_it(tmp_path: Path, published: Path) -> None:
    with terminal.quiet(), pytest.raises(RecipeError, match=r"Take it: data\.samples\.tokenizer = .*TokenizerFile"):
        groundup.check(recipe(tmp_path, published))


def dataset(texts: list[str], labels: list[str] | None = None) -> Dataset:
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels or ["x"] * len(texts), strict=True)]
    found = Dataset.of_rows(rows, {"text": "text", "label": "category"}, origin="memory")
    return Dataset(found.frame, found.kinds, "train", origin="memory")


def test_tokens_are_the_tokenizers_own_and_batches_as_long_as_their_longest_text(published: Path) -> None:
    texts = ["good film", "the plot was bad and dull", "unheard film", "a a a a a a a a a a a a"]
    use = Use("TokenizerFile", path=str(published))
    samples = LabelledText("label", length=9, tokenizer=use).fit(dataset(texts, ["a", "b", "a", "b"]))
    encoded = samples.encode(dataset(texts, ["a", "b", "a", "b"]))
    expected = tokenizer()
    expected.no_padding()
    expected.enable_truncation(9)
    wanted = [one.ids for one in expected.encode_batch(texts)]
    for positions in ([0], [0, 2], [0, 1, 2, 3]):
        inputs, _ = encoded.batch(np.array(positions))
        lengths = [len(wanted[i]) for i in positions]
        assert inputs["lengths"].tolist() == lengths
        assert inputs["tokens"].shape == (len(positions), max(lengths))
        for row, i in zip(inputs["tokens"].tolist(), positions, strict=True):
            assert row == wanted[i] + [0] * (max(lengths) - len(wanted[i]))
    assert encoded.notes == (
        "1 tokens are unknown to the tokenizer", "1 texts are longer than 9 tokens and cut off",
    )  # fmt: skip
    assert encoded.describe(0)["words"] == ["[CLS]", "good", "film", "[SEP]"]
    assert samples.sizes()["vocab_size"] == 16
    counts, targets = encoded.arrays()
    assert counts.sum(axis=1).tolist() == [len(one) for one in wanted]
    assert targets.tolist() == [0, 1, 0, 1]


def test_an_unknown_token_that_is_the_first_is_counted_and_padding_is_not(tmp_path: Path) -> None:
    tokenizer(("[UNK]", "[PAD]")).save(str(tmp_path / "tokenizer.json"))
    use = Use("TokenizerFile", path=str(tmp_path))
    rows = dataset(["good unheard film", "bad"], ["a", "b"])
    assert LabelledText("label", tokenizer=use).fit(rows).encode(rows).notes == (
        "1 tokens are unknown to the tokenizer",
    )


def test_padding_and_truncation_of_the_file_do_not_reach_plain_text(published: Path) -> None:
    read = TokenizerFile(str(published)).fit([])
    assert read.encode("the film was good and fine") == [4, 5, 7, 10, 8, 11]
    assert [one.tolist() for one in read.encode_many(["good", "bad film"])] == [[10], [13, 5]]


def test_other_tokenizers_and_lengths_that_hold_no_text_are_refused(published: Path) -> None:
    with pytest.raises(DataError, match=r"LabelledText.tokenizer: read BytePairEncoding; expected .* TokenizerFile"):
        LabelledText("label", tokenizer=Use("BytePairEncoding")).fit(dataset(["good"]))
    use = Use("TokenizerFile", path=str(published))
    samples = LabelledText("label", length=2, tokenizer=use).fit(dataset(["good", "bad"], ["a", "b"]))
    with pytest.raises(DataError, match="2 tokens stand around each text; a length of 2 is too short"):
        samples.encode(dataset(["good", "bad"], ["a", "b"]))


def test_a_new_head_of_the_usual_number_of_classes_is_made(published: Path) -> None:
    model = read_folder(published, head="classes", num_labels=2)
    assert model(torch.tensor([[2, 10, 3]])).shape == (1, 2)
