"""Pairs of texts down the whole river: a T5 from scratch learns to turn words round, is fine-tuned, and answers."""

from __future__ import annotations

import csv
import json
import random
import tomllib
from pathlib import Path

import pytest
import tokenizers
import tomli_w
import torch

import groundup
from groundup import terminal
from groundup.core.errors import DataError, RecipeError
from groundup.models.hugging_face import write_folder
from groundup.models.t5 import T5, T5Config
from groundup.serving import Sampling, generate
from groundup.stages.designing import design

RECIPE = """
name = "turned"
seed = 1

[data]
source = {{ use = "csv", path = "{path}" }}
split = {{ use = "random", valid = 0.1, test = 0.1 }}
samples = {{ use = "TextPairs", source = "word", target = "turned", tokenizer = {{ use = "Characters" }} }}

[model]
use = "T5"
d_model = 64
d_kv = 32
d_ff = 128
num_layers = 1
num_heads = 2
dropout_rate = 0.0

[training]
objective = {{ use = "language_modelling" }}
optimizer = {{ use = "torch.optim:AdamW", lr = 3e-3 }}
schedule = {{ use = "constant", warmup = 0.06 }}
batch_size = 64
steps = {steps}
compile = "off"

[evaluation]
metrics = ["loss", "perplexity", "bits_per_byte"]
baselines = ["order3"]

[finetune]
method = {{ use = "lora", where = "*.attention.*" }}

[finetune.training]
objective = {{ use = "language_modelling" }}
optimizer = {{ use = "AdamW", lr = 1e-3 }}
batch_size = 64
steps = 3
compile = "off"
"""


def _words(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdef", k=draw.randint(2, 5))) for _ in range(count)]


def _recipe(folder: Path, steps: int) -> Path:
    with (folder / "words.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["word", "turned"])
        writer.writerows([word, word[::-1]] for word in sorted(set(_words(5000, seed=0))))
    (folder / "recipe.toml").write_text(RECIPE.format(path="words.csv", steps=steps))
    return folder / "recipe.toml"


def test_words_are_turned_round_by_a_model_from_scratch_and_it_can_be_tuned_further(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, steps=350)
    with terminal.quiet():
        run = groundup.train(recipe, out=tmp_path / "run")
        report = groundup.evaluate(run)
        found = groundup.predict(run, *_words(20, seed=9))
        tuned = groundup.finetune(run)
        (answer,) = groundup.predict(tuned, "abc")
    assert report.metrics["loss"].value < 0.5 * report.baselines["order3"]["loss"].value
    turned = [line["completion"] == line["prompt"][::-1] for line in found]
    assert sum(turned) > 10, found
    assert answer["completion"] == "cba"
    sample = json.loads((run / "sample.json").read_text())
    learned = "".join(token for token, trained in sample if trained)
    read = "".join(token for token, trained in sample if not trained)
    assert read.removesuffix("<|endoftext|>")[::-1] + "<|endoftext|>" == learned


def test_its_structure_is_shown_and_transformers_writes_what_it_writes(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    recipe = _recipe(tmp_path, steps=1)
    with terminal.quiet():
        shown = groundup.show(recipe)
        prepared = groundup.workflow.prepare(recipe)
    assert [layer.name for layer in shown.children][:3] == ["embedding", "encoder", "decoder"]
    assert all(layer.flops > 0 for layer in shown.children[1:3])
    model = design(prepared).eval()
    write_folder(model, tmp_path / "published")
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "published").eval()
    samples = prepared.samples
    source = torch.tensor([samples.source_tokens("fade")])
    wanted = theirs.generate(source, max_new_tokens=8, do_sample=False, num_beams=1)[0].tolist()
    (end,) = samples.prompt_tokens("fade")
    written = list(generate(model.writer(source), [end], 8, Sampling(temperature=0), stop=(end,)))
    assert [end, *written] == wanted[: len(written) + 1]
    assert wanted[len(written) + 1 :] in ([], [end])


def test_samples_and_a_model_that_do_not_fit_are_refused_with_what_would(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, steps=1)
    with terminal.quiet(), pytest.raises(RecipeError, match=r"T5 takes tokens, decoder_tokens.*give tokens, documents"):
        groundup.check(recipe, 'data.samples={ use = "PackedText", column = "word", length = 16 }')


def test_a_published_model_is_tuned_further_from_the_token_that_it_begins_with(tmp_path: Path) -> None:
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {letter: i for i, letter in enumerate("abcdef", 3)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    write_folder(T5(T5Config(vocab_size=9, eos_token_id=1, pad_token_id=0, **sizes)), tmp_path / "published")
    tokenizer.save(str(tmp_path / "published" / "tokenizer.json"))
    table = tomllib.loads(_recipe(tmp_path, steps=2).read_text())
    own = {"use": "TokenizerFile", "path": str(tmp_path / "published")}
    del table["model"], table["finetune"], table["evaluation"]["baselines"]
    table["start"], table["data"]["samples"]["tokenizer"] = "published", own
    recipe = tmp_path / "further.toml"
    recipe.write_text(tomli_w.dumps(table))
    with terminal.quiet():
        with pytest.raises(
            RecipeError, match=r"begins what it writes with token 0, and the samples with token 1; name"
        ):
            groundup.check(recipe)
        with pytest.raises(DataError, match=r"TextPairs\.begin: 'ab' is 2 tokens of this tokenizer; expected one"):
            groundup.check(recipe, "data.samples.begin=ab")
        run = groundup.train(recipe, "data.samples.begin=<pad>", out=tmp_path / "run")
        prepared = groundup.workflow.prepare(recipe, "data.samples.begin=<pad>")
        (answer,) = groundup.predict(run, "abc")
    batch = prepared.first("train", 3)
    assert batch.inputs["decoder_tokens"][:, 0].tolist() == [0, 0, 0]
    assert torch.equal(batch.inputs["decoder_tokens"][:, 1], batch.targets["targets"][:, 0])
    assert prepared.samples.prompt_tokens("abc") == [0]
    assert answer["prompt"] == "abc"
