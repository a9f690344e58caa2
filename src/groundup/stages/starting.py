"""Weights that a training begins with: fetched, converted from a foreign file, or read from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from groundup import terminal
from groundup.core.errors import CheckpointError, RecipeError
from groundup.core.plan import format_bytes
from groundup.core.recipe import Recipe, read_call
from groundup.core.run import refuse_existing
from groundup.core.use import Use, make
from groundup.core.use import check as checked
from groundup.data.tokenization import TokenizerFile
from groundup.models import convert as converting
from groundup.models.fetch import NAME, fetch
from groundup.models.start import (
    MAPPING,
    Start,
    open_start,
    published_model,
    said_of_folder,
    spelled,
    write_start,
)
from groundup.stages.prepared import Prepared


def start_of(recipe: Recipe, samples: Any) -> Start | None:
    """What the recipe's model begins with; a name that is no folder is fetched, unless that was done before."""
    if recipe.start is None:
        return None
    folder = recipe.folder / Path(recipe.start).expanduser()
    if not folder.exists() and NAME.fullmatch(recipe.start):
        fetched = Path("models") / recipe.start.partition("/")[2]
        if not (fetched / "config.json").is_file():
            terminal.say(f"  there is no folder {folder}, so {recipe.start} is looked for on the hub")
            fetched = downloaded(recipe.start)
        folder = fetched
    terminal.stage("start", str(folder))
    if (folder / "config.json").is_file():
        _demand_its_tokens(recipe, samples, folder)
    start = open_start(folder, recipe.model, samples.sizes())
    for note in start.notes:
        terminal.warn(note)
    return start


def _demand_its_tokens(recipe: Recipe, samples: Any, folder: Path) -> None:
    """Raises RecipeError where the samples number words otherwise than the published model does."""
    if samples.task == "generate":
        theirs = isinstance(samples.learned_tokenizer, TokenizerFile)
    else:
        theirs = "vocab_size" not in samples.sizes() or getattr(samples, "tokenizer", None) is not None
    if not theirs:
        raise RecipeError(
            "recipe.start: a model of text knows the tokens of its own tokenizer and no others. Take it: "
            f'data.samples.tokenizer = {{ use = "TokenizerFile", path = "{folder}" }}.'
        )


def downloaded(name: str, revision: str | None = None, out: Path | None = None) -> Path:
    """The folder that a published model was fetched into."""
    with terminal.busy("downloading"):
        folder = fetch(name, out, revision)
    size = format_bytes(sum(path.stat().st_size for path in folder.glob("*.safetensors")))
    terminal.say(f"  {size} of weights; {said_of_folder(folder)}")
    terminal.say(f'\n[bold]{folder}[/bold] holds it. A recipe begins with it by a line: start = "{folder.resolve()}"')
    return folder


def model_named(model: str | Path, overrides: tuple[str, ...]) -> tuple[Use, nn.Module]:
    """The call that makes a model, and the model: by a folder with a config.json, or by name and arguments."""
    if Path(model).is_dir():
        if overrides:
            raise RecipeError(f"convert: {model} says what the model is by its config.json; read {overrides[0]!r} too.")
        return published_model(Path(model))
    use = checked(read_call(str(model), overrides), "model", "model")
    return use, make(use, "model")


def model_prepared(prepared: Prepared) -> tuple[Use, nn.Module]:
    """The call that makes a recipe's model, with the sizes of its data, and the model."""
    use = spelled(prepared.recipe.model, prepared.sizes)
    return use, make(use, "model", where="recipe.model")


def converted(file: Path, model: tuple[Use, nn.Module], mapping: Path | None, folder: Path) -> Path:
    """The folder that a foreign file's tensors were written into, each where the mapping, or what is sure, puts it."""
    use, made = model
    refuse_existing(folder)
    given, unused = converting.read_mapping(mapping) if mapping is not None else ({}, ())
    theirs = converting.read_foreign(file)
    found = converting.take_published(theirs, made, file) if mapping is None else None
    if found is None:
        found = converting.propose(theirs, made, given, unused)
        terminal.mapping(found.tables(), found.counts())
        if mapping is None and (found.guesses or not found.complete):
            _write_proposal(found.to_toml(), folder.with_name(f"{folder.name}-{MAPPING}"))
        converting.carry_over(found, theirs, made)
    else:
        terminal.mapping(found.tables(), found.counts())
    write_start(made, use, folder, {MAPPING: found.to_toml()})
    terminal.say("  read back: every tensor is the one that was written")
    terminal.say(f'\n[bold]{folder}[/bold] is written. A recipe begins with it by a line: start = "{folder.resolve()}"')
    return folder


def _write_proposal(text: str, file: Path) -> None:
    if file.exists():
        raise CheckpointError(f"{file}: lies there already. Give it back with --mapping {file}, or move it away.")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    terminal.warn(f"{file} is the proposal. Look it over, then run the same line again with --mapping {file}")
