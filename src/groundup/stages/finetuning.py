"""Another training from a run's weights: its samples, none of which has a twin in the held-out parts; plain weights."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import shutil
from collections.abc import Mapping
from typing import Any

import polars as pl

from groundup import terminal
from groundup.core.checkpoint import Checkpoint, write_checkpoint
from groundup.core.dataset import Dataset, Split, Splits
from groundup.core.recipe import Finetune
from groundup.core.use import make
from groundup.data import any_size
from groundup.data.cleaning.leaks import find_leaks
from groundup.finetune.lora import lora_layers, merge
from groundup.stages.designing import objective
from groundup.stages.learning import carried
from groundup.stages.prepared import Prepared
from groundup.stages.trained import Trained


def prepared_for(prepared: Prepared, wanted: Finetune) -> Prepared:
    """The same splits as the samples that fine-tuning asks for, with the tokenizer that the model was trained with."""
    if wanted.samples is None:
        return prepared
    samples = make(wanted.samples, "samples", where="recipe.finetune.samples")
    if hasattr(samples, "with_tokenizer"):
        samples = samples.with_tokenizer(prepared.samples)
    with contextlib.closing(prepared.shop.executor), terminal.busy("encoding"):
        samples = any_size.fit_samples(prepared.shop, samples, prepared.splits)
        encoded = any_size.encode_all(prepared.shop, samples, prepared.splits)
    terminal.encoded(samples, encoded)
    preprocessing = dataclasses.replace(prepared.preprocessing, samples=samples)
    return _without_twins(dataclasses.replace(prepared, preprocessing=preprocessing, encoded=encoded))


def _without_twins(prepared: Prepared) -> Prepared:
    """Samples cut from the rows, of which none that has a twin in the held-out parts is learned from.

    Files are apart, but what is cut from them may be copied between files, as a short method is.
    """
    encoded: dict[str, Any] = dict(prepared.encoded)
    if not hasattr(encoded["train"], "unlearned"):
        return prepared
    twins = _twins({name: part.texts for name, part in encoded.items()})
    encoded["train"] = encoded["train"].unlearned(twins)
    terminal.say(f"  {len(twins)} texts of train have a twin in the held-out parts and are not learned from")
    return dataclasses.replace(prepared, encoded=encoded)


def _twins(texts: Mapping[str, list[str]]) -> list[int]:
    """The numbers of the training texts that stand nearly alike in validation or test."""

    def part(name: Split) -> Dataset:
        return dataclasses.replace(Dataset.of(pl.DataFrame({"text": texts[name]}), {"text": "text"}), split=name)

    # Held against each held-out part as if that came first: then every text of train that has a twin is told.
    held_out = [Splits(part(name), part("train"), part(name)) for name in ("valid", "test")]
    rows = [leak.name for splits in held_out for leak in find_leaks(splits) if leak.split == "valid"]
    return sorted({int(row.removeprefix("row ")) for row in rows})


def as_stopped(trained: Trained) -> Trained:
    """A run that was stopped while it was fine-tuned, with what the method adds to the model."""
    wanted = trained.prepared.recipe.finetune
    assert wanted is not None
    make(wanted.method, "method", where="recipe.finetune.method")(trained.model)
    prepared = trained.prepared if wanted.samples is None else _without_twins(trained.prepared)
    return dataclasses.replace(
        trained, prepared=prepared, training=wanted.training, objective=objective(wanted.training, prepared)
    )


def merged(tuned: Trained) -> Checkpoint:
    """The run's model folded into plain weights, written down."""
    model = merge(copy.deepcopy(tuned.model)) if lora_layers(tuned.model) else tuned.model
    folder = tuned.run.folder / "merged"
    shutil.rmtree(folder, ignore_errors=True)  # of a conclusion that was stopped
    return write_checkpoint(folder, {"model.safetensors": model.state_dict()}, carried(tuned.prepared))
