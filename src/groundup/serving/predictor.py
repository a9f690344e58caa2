"""From raw input to answers in a person's own units, by what a checkpoint alone carries."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from groundup.core.checkpoint import Checkpoint
from groundup.core.dataset import Dataset
from groundup.core.errors import CheckpointError, DataError, NonFiniteError, nearest
from groundup.core.novelty import Counters
from groundup.core.preprocessing import Preprocessing
from groundup.core.recipe import Recipe, recipe_from_dict
from groundup.core.schema import Schema
from groundup.core.use import TRUSTED, Use, make, resolve
from groundup.serving.generation import Sampling, generate

IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

MAX_NEW_TOKENS = 256

Swap = Callable[[nn.Module, str, Use], object]
"""(model, where, with): changes the model in place. Given as a value, for serving knows no layers."""


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A trained model with all that its input went through in training.

    >>> Predictor.load("runs/titanic-001/checkpoints/step-500").predict({"Age": 31, "Sex": "female", ...})
    [{'label': 1, 'probability': 0.93, 'probabilities': {'0': 0.07, '1': 0.93}}]
    """

    recipe: Recipe
    preprocessing: Preprocessing
    model: nn.Module
    batch_size: int = 256
    counters: Counters = dataclasses.field(default_factory=Counters, compare=False)
    """What was met since this predictor was made that train did not have: by case and column."""

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        trusted: tuple[str, ...] | None = TRUSTED,
        device: torch.device | str = "cpu",
        swap: Swap | None = None,
    ) -> Self:
        """Open a checkpoint's folder: every file is verified, and the model is built and filled from it.

        A checkpoint names classes and functions. They are taken from the ``trusted`` packages only; None trusts all,
        as is right for a run of one's own. ``swap`` is ``groundup.nn.swap.swap``, and is only needed where the recipe
        swaps parts of the model. Raises CheckpointError for a folder that is damaged, incomplete, or holds
        tensors that are not the model's; RecipeError for a name that is not trusted.
        """
        checkpoint = Checkpoint.open(folder)
        try:
            recipe = recipe_from_dict(tomllib.loads(checkpoint.text("recipe.toml")))
        except tomllib.TOMLDecodeError as error:
            raise CheckpointError(f"{checkpoint.folder / 'recipe.toml'}: not valid TOML: {error}.") from error
        preprocessing = Preprocessing.from_json(checkpoint.text("preprocessing.json"), trusted)
        model = _filled_model(checkpoint, recipe, trusted, swap)
        return cls.from_parts(recipe, preprocessing, model.to(device))

    @classmethod
    def from_parts(cls, recipe: Recipe, preprocessing: Preprocessing, model: nn.Module) -> Self:
        """A predictor of what is at hand, without a checkpoint. The model is put in evaluation mode."""
        return cls(recipe, preprocessing, model.eval())

    @property
    def task(self) -> str:
        """What it gives: "classify", "regress", "forecast" or "generate"."""
        return str(self.preprocessing.samples.task)

    def predict(
        self, raw: Any, *, max_new_tokens: int = MAX_NEW_TOKENS, sampling: Sampling | None = None
    ) -> list[dict[str, Any]]:
        """One answer for each sample in ``raw``: labels with probabilities, values, or text.

        ``raw`` is what the samples read: a row as a dict, a list of rows, the path of a CSV file; the path of an
        image, or its array; a prompt. The last two arguments are for text. What was noticed on the way (columns left
        out, an image resized, a category that train did not have) stands under "notes", what is new of a row itself
        under "new". Raises DataError, with row and column, for input that the model cannot take, NonFiniteError for an
        output that is not finite.
        """
        dataset = self._prepared(raw)
        if self.task == "generate":
            texts = [str(text) for text in dataset.frame[self.preprocessing.samples.column]]
            found = [self._complete(text, max_new_tokens, sampling) for text in texts]
            return _noted(found, _notes(dataset))
        samples = self.preprocessing.samples
        encoded = samples.encode(dataset)
        outputs: list[Tensor] = []
        for start in range(0, len(encoded), self.batch_size):
            inputs, _ = encoded.batch(np.arange(start, min(start + self.batch_size, len(encoded))))
            outputs.append(self._output(inputs, dataset, start))
        found = _with_new(samples.present(samples.decode(torch.cat(outputs))), dataset)
        return _noted(found, [*_notes(dataset), *getattr(encoded, "notes", ())])

    def stream(
        self, prompt: str, *, max_new_tokens: int = MAX_NEW_TOKENS, sampling: Sampling | None = None
    ) -> Iterator[str]:
        """The text that goes on from ``prompt``, piece by piece as it is made; whole characters only.

        Raises DataError when the model is none of language.
        """
        tokenizer = self._tokenizer()
        return _characters(self._tokens(prompt, max_new_tokens, sampling), tokenizer)

    def _complete(self, text: str, max_new_tokens: int, sampling: Sampling | None) -> dict[str, Any]:
        ids = list(self._tokens(text, max_new_tokens, sampling))
        completion = self._tokenizer().decode(ids)
        seen = self.preprocessing.samples.prompt(text)  # what the completion goes on from, to the letter
        return {"prompt": seen, "completion": completion, "tokens": len(ids), "ended": len(ids) < max_new_tokens}

    def _tokens(self, prompt: str, max_new_tokens: int, sampling: Sampling | None) -> Iterator[int]:
        samples, stop = self.preprocessing.samples, (self._tokenizer().end_of_text,)
        first = samples.prompt_tokens(prompt)
        if not hasattr(samples, "source_tokens"):
            return generate(self.model, first, max_new_tokens, sampling, stop, samples.sizes()["length"])
        model: Any = self.model
        writer = model.writer(torch.tensor([samples.source_tokens(prompt)], device=next(model.parameters()).device))
        return generate(writer, first, max_new_tokens, sampling or Sampling(temperature=0), stop)

    def _tokenizer(self) -> Any:
        if self.task != "generate":
            raise DataError(f"this model does not write text: its task is {self.task}; use predict.")
        return self.preprocessing.samples.learned_tokenizer

    def _prepared(self, raw: Any) -> Dataset:
        """Raw input read against the columns as they were before the first step, then prepared as in training."""
        schema = self.preprocessing.schema
        dataset = self.preprocessing.samples.read(raw, schema)
        if isinstance(schema, Schema):
            dataset = schema.enforce(dataset)
            self.counters.add(len(dataset), dataset.new)
        return self.preprocessing(dataset)

    def _output(self, inputs: Mapping[str, Tensor], dataset: Dataset, start: int) -> Tensor:
        weight = next(self.model.parameters(), None)
        device = "cpu" if weight is None else weight.device
        with torch.no_grad():
            output: Tensor = self.model(**{name: value.to(device) for name, value in inputs.items()})
        bad = ~torch.isfinite(output).flatten(1).all(dim=1)
        if bool(bad.any()):
            place = start + int(bad.nonzero()[0])
            names = dataset.row_names()
            where = names[place] if place < len(names) else f"sample {place}"
            raise NonFiniteError(f"the model's output for {where} is not finite; its weights may be damaged.")
        return output.cpu()


def _characters(tokens: Iterator[int], tokenizer: Any) -> Iterator[str]:
    """Text as soon as it is whole: a character can need several tokens."""
    waiting: list[int] = []
    for token in tokens:
        waiting.append(token)
        text = tokenizer.decode(waiting)
        if not text.endswith("\ufffd"):
            yield text
            waiting = []
    if waiting:
        yield tokenizer.decode(waiting)


def _notes(dataset: Dataset) -> list[str]:
    return [line for entry in dataset.history for line in entry.notes] + list(dataset.notes)


def _with_new(found: list[dict[str, Any]], dataset: Dataset) -> list[dict[str, Any]]:
    """Each answer with what is new of its own row; one answer for many rows has it in its notes."""
    if len(found) != len(dataset):
        return found
    told: dict[int, list[str]] = {}
    for one in dataset.new:
        for row in one.rows:
            told.setdefault(row, []).append(f"{one.column}: {one.case}")
    return [{**line, "new": told[i]} if i in told else line for i, line in enumerate(found)]


def _noted(found: list[dict[str, Any]], notes: list[str]) -> list[dict[str, Any]]:
    return [{**line, "notes": notes} for line in found] if notes else found


# ---------------------------------------------------------------------------------- the model of a checkpoint


def _filled_model(
    checkpoint: Checkpoint, recipe: Recipe, trusted: tuple[str, ...] | None, swap: Swap | None
) -> nn.Module:
    table = checkpoint.json("sizes.json")
    if not isinstance(table, dict):
        raise CheckpointError(f"{checkpoint.folder / 'sizes.json'}: holds {table!r:.60}, expected a table of sizes.")
    sizes = {name: tuple(size) if isinstance(size, list) else size for name, size in table.items()}
    with torch.random.fork_rng(devices=[]):  # the first weights are overwritten; the caller's random numbers are not
        model = _built_model(recipe, sizes, trusted, swap)
        tensors = checkpoint.tensors("model.safetensors")
        if recipe.finetune is not None and tensors.keys() != model.state_dict().keys():
            # Saved while it was fine-tuned: the method has added tensors of its own.
            demand_trusted(recipe.finetune.method, "method", trusted)
            make(recipe.finetune.method, "method", where="recipe.finetune.method", trusted=trusted)(model)
    expected = model.state_dict()
    where = checkpoint.folder / "model.safetensors"
    for said, names, others in (
        ("lacks", expected.keys() - tensors.keys(), tensors),
        ("holds, and the model has no place for,", tensors.keys() - expected.keys(), expected),
    ):
        if names:
            first, more = min(names), f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(f"{where}: it {said} {first!r}{more}.{nearest(first, others)}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{where}: {name!r} has the shape {tuple(tensor.shape)}, the model's {tuple(expected[name].shape)}."
            )
    model.load_state_dict(tensors)
    return model


def _built_model(
    recipe: Recipe, sizes: Mapping[str, Any], trusted: tuple[str, ...] | None, swap: Swap | None
) -> nn.Module:
    """The model as the recipe describes it: made, then swapped."""
    demand_trusted(recipe.model, "model", trusted)
    for change in recipe.swap:
        demand_trusted(change.with_, "with", trusted)
    try:
        model = make(recipe.model, "model", where="recipe.model", trusted=trusted, **sizes)
    except (TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"recipe.model: {recipe.model.target} cannot be built for these sizes: {error}."
        ) from error
    if not isinstance(model, nn.Module):
        raise CheckpointError(f"recipe.model: {recipe.model.target} makes {type(model).__name__}, expected a Module.")
    if recipe.swap and swap is None:
        raise CheckpointError(
            f"recipe.swap: parts of this model were swapped ({recipe.swap[0].where!r}), and load was given no way to "
            "do it again; pass swap=swap, from groundup.nn.swap."
        )
    for change in recipe.swap:
        assert swap is not None
        swap(model, change.where, change.with_)
    return model


def demand_trusted(value: Any, slot: str, trusted: tuple[str, ...] | None) -> None:
    """Raise RecipeError for any import path in a call, however deep, that lies outside the trusted packages.

    A part may carry out the calls among its arguments by itself (a list of layers does), and a string there can
    become one; so every string of that form is looked at.
    """
    if trusted is None:
        return
    if isinstance(value, Use):
        demand_trusted(value.target, slot, trusted)
        demand_trusted(value.arguments, slot, trusted)
    elif isinstance(value, str) and IMPORT_PATH.fullmatch(value):
        resolve(value, slot, where=f"recipe.{slot}", trusted=trusted)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            demand_trusted(inner, name, trusted)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            demand_trusted(inner, slot, trusted)
