"""Pairs of texts down the whole river: a T5 from scratch learns to turn words round, is fine-tuned, and answers."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
import torch

import groundup
from groundup import terminal
from groundup.core.errors import RecipeError
from groundup.models.hugging_face import write_folder
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
