"""Pairs of texts down the whole river: a T5 from scratch learns to turn words round, is fine-tuned, and answers."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import groundup
from groundup import terminal

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
optimizer = {{ use = "AdamW", lr = 3e-3 }}
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
    with terminal.quiet():
        run = groundup.train(_recipe(tmp_path, steps=300), out=tmp_path / "run")
        report = groundup.evaluate(run)
        found = groundup.predict(run, *_words(60, seed=9))
        tuned = groundup.finetune(run)
        (answer,) = groundup.predict(tuned, "abc")
    assert report.metrics["loss"].value < 0.5 * report.baselines["order3"]["loss"].value
    turned = [line["completion"] == line["prompt"][::-1] for line in found]
    print(report.metrics, sum(turned), found[:5])
    assert sum(turned) > 40
    assert all(line["ended"] for line in found)
    assert answer["completion"] == "cba"
