"""What a training starts from: a published folder, one that convert wrote, or a family run by transformers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from groundup.core.coerce import coerce
from groundup.core.errors import CheckpointError, RecipeError
from groundup.core.recipe import call_to_toml, read_call_file
from groundup.core.use import TRUSTED, Use, import_path, make, resolve, signature_of
from groundup.models.adapter import Adapted, read_adapted, said_of
from groundup.models.hugging_face import (
    CONFIG,
    FAMILIES,
    SINGLE,
    build,
    config_of,
    read_folder,
    refuse_other_formats,
    write_folder,
)
from groundup.nn.folders import read_json, read_tensors, write_whole

MAPPING = "mapping.toml"

MODEL = "model.toml"
"""In a folder that convert wrote for a model that no config.json describes: the call that makes it."""


class Published:
    """The model that the recipe's ``start`` holds, as it is described there; ``model`` may then be left out.

    ``head`` gives an encoder or an image model another head: "states", "words", "classes", "tokens" or "spans". One
    for another number of classes than the data have starts anew. ``classes`` keeps rows of the published head instead:
    which of its classes the data's are, in the order of these, that of the alphabet. ``ignore`` names settings of
    config.json to pass over. ``model`` is written by the run: the call that makes the model, so that what is trained
    no longer needs the folder.
    """

    def __new__(cls, *words: Any, model: Use | None = None, **options: Any) -> nn.Module:  # type: ignore[misc]
        """The model itself, without weights, of what lies in groundup and torch alone."""
        if model is None:
            raise RecipeError("recipe.model: what is published is known when the data are; recipe.start names it.")
        made: nn.Module = make(model, "model", where="recipe.model.model", trusted=TRUSTED)
        return made

    def __init__(
        self,
        head: str | None = None,
        classes: Sequence[int] | None = None,
        ignore: Sequence[str] = (),
        model: Use | None = None,
    ) -> None:
        """Never called: it is the signature that recipes are checked against."""


@dataclasses.dataclass(frozen=True)
class Start:
    """A folder with weights, and the call that makes the model for them."""

    folder: Path
    model: Use
    """As the recipe has it, every size spelled out."""
    notes: tuple[str, ...] = ()
    """What a person must know of it."""

    @property
    def call(self) -> Use:
        """The call of the model itself."""
        found: Use = self.model.arguments.get("model", self.model)
        return found

    def read(self) -> nn.Module:
        """The model with its weights, in float32. Raises CheckpointError as ``read_folder`` does."""
        if not (self.folder / CONFIG).is_file():
            model: nn.Module = make(self.model, "model", where="recipe.model")
            return _filled(model, self.folder)
        if self.call.target == import_path(Adapted):
            return read_adapted(self.folder)
        asked, chosen = self.model.arguments, self.call.arguments
        ignore = tuple(asked.get("ignore", ()))
        if asked.get("classes") is not None:
            return _with_classes(read_folder(self.folder, ignore=ignore), asked["classes"])
        return read_folder(self.folder, ignore=ignore, head=chosen.get("head"), num_labels=chosen.get("num_labels"))

    def about(self) -> dict[str, Any]:
        """Where the weights come from, as plain values that are kept with the run."""
        digests = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "folder": str(self.folder.resolve()),
            "model": self.call.target,
            "notes": list(self.notes),
            "sha256": digests,
        }


def open_start(folder: Path, model: Use, sizes: Mapping[str, Any]) -> Start:
    """What lies in a folder, with the call that makes the model for it.

    ``model`` is the recipe's, ``Published`` where it leaves that to the folder; ``sizes`` are the data's. Raises
    CheckpointError for a folder that is none of these, RecipeError for a model or sizes that do not go with it.
    """
    stated = resolve(model.target, "model") is not Published
    if (folder / CONFIG).is_file():
        if stated:
            raise RecipeError(
                f"recipe.model: {folder / CONFIG} says what the model is. Leave model out, or say what is to be "
                'different: model = { use = "Published", head = "classes" }.'
            )
        kind = str(read_json(folder / CONFIG).get("model_type"))
        call, notes = _family(folder, model.arguments, sizes) if kind in FAMILIES else _foreign(folder, kind, sizes)
        return Start(folder, model.with_arguments(model=call), notes)
    if not (folder / SINGLE).is_file() or not (stated or (folder / MODEL).is_file()):
        refuse_other_formats(folder)
    if stated:
        return Start(folder, spelled(model, sizes))
    call = read_call_file(folder / MODEL, "model")
    resolve(call.target, "model", where=str(folder / MODEL), trusted=TRUSTED)
    return Start(folder, model.with_arguments(model=call))


def published_model(folder: Path) -> tuple[Use, nn.Module]:
    """The model that a folder's config.json describes, without weights, and the call that makes it."""
    family, config = config_of(folder)
    return _call(family, config), build(family, config)


def said_of_folder(folder: Path) -> str:
    """What a person should know of a published folder: its family, and whether it is written out here."""
    kind = str(read_json(folder / CONFIG).get("model_type"))
    return f"its family, {kind}, is written out here" if kind in FAMILIES else said_of(kind, folder / CONFIG)


def spelled(model: Use, sizes: Mapping[str, Any]) -> Use:
    """The call with the sizes that its constructor would be offered."""
    parameters, _ = signature_of(resolve(model.target, "model"))
    offered = {name: size for name, size in sizes.items() if name in parameters and name not in model.arguments}
    return model.with_arguments(**offered)


def _foreign(folder: Path, kind: str, sizes: Mapping[str, Any]) -> tuple[Use, tuple[str, ...]]:
    note = said_of(kind, folder / CONFIG)
    if "vocab_size" not in sizes or "num_classes" in sizes:
        raise RecipeError(f"recipe.start: {note} It can only write text so far, and the data ask for something else.")
    return Use(import_path(Adapted), config=json.dumps(read_json(folder / CONFIG))), (note,)


def _family(folder: Path, asked: Mapping[str, Any], sizes: Mapping[str, Any]) -> tuple[Use, tuple[str, ...]]:
    family, published = config_of(folder, tuple(asked.get("ignore", ())))
    config = _headed(published, asked, folder)
    notes: tuple[str, ...] = ()
    outputs, head = _outputs(sizes), getattr(config, "head", None)
    if outputs is not None and head != "classes":
        can = 'Say model = { use = "Published", head = "classes" }.' if head else "Take another model, or another task."
        raise RecipeError(f"recipe.start: {folder} gives {head or 'words'}, and the data ask for {outputs}. {can}")
    if asked.get("classes") is not None:
        config = _of_classes(config, asked["classes"], outputs)
    elif outputs is not None and (published.head, published.num_labels) != ("classes", outputs):
        had = f"that there gives {published.num_labels}" if published.head == "classes" else "there is none there"
        notes = (f"the head, which gives {outputs} numbers, starts anew; {had}",)
        config = dataclasses.replace(config, num_labels=outputs)
    _demand_fit(config, sizes, folder)
    return _call(family, config), notes


def _outputs(sizes: Mapping[str, Any]) -> int | None:
    """How many classes or values the data ask for; None where it is the next token."""
    found: int | None = sizes.get("num_classes", sizes.get("out_features"))
    return None if found == sizes.get("vocab_size") else found


def _call(family: Any, config: Any) -> Use:
    """The call that makes a family's model of these sizes."""
    names, _ = signature_of(family)
    values = {name: value for name, value in vars(config).items() if name in names and value is not None}
    return Use(import_path(family), **values)


def _headed(config: Any, asked: Mapping[str, Any], folder: Path) -> Any:
    """The config with the head that the recipe asks for. Raises RecipeError for one that the family does not have."""
    wanted = asked.get("head")
    if wanted is None and asked.get("classes") is None:
        return config
    if not hasattr(config, "head"):
        raise RecipeError(f"recipe.model: {folder} is a model that takes no other head; leave head and classes out.")
    hint = typing.get_type_hints(type(config))["head"]
    head = config.head if wanted is None else coerce(wanted, hint, "recipe.model.head")
    return dataclasses.replace(config, head=head)


def _of_classes(config: Any, chosen: Sequence[int], outputs: int | None) -> Any:
    """The config of a head with some of its classes."""
    if outputs is not None and len(chosen) != outputs:
        raise RecipeError(f"recipe.model.classes: read {len(chosen)} numbers, and the data ask for {outputs}.")
    strange = [number for number in chosen if not 0 <= number < config.num_labels]
    if strange:
        raise RecipeError(
            f"recipe.model.classes: read {strange[0]}, expected numbers from 0 to {config.num_labels - 1}."
        )
    return dataclasses.replace(config, num_labels=len(chosen))


def _demand_fit(config: Any, sizes: Mapping[str, Any], folder: Path) -> None:
    """Raises RecipeError where the data have more channels or tokens than the model knows, or begin otherwise."""
    channels, tokens = getattr(config, "num_channels", None), getattr(config, "vocab_size", None)
    if channels is not None and sizes.get("in_channels", channels) != channels:
        raise RecipeError(
            f"recipe.start: {folder} sees images of {channels} channels, and the data's have {sizes['in_channels']}; "
            f"set data.samples.channels = {channels}."
        )
    if tokens is not None and sizes.get("vocab_size", 0) > tokens:
        raise RecipeError(
            f"recipe.start: {folder} knows {tokens} tokens, and the data's tokenizer makes {sizes['vocab_size']}; "
            "use the one that belongs to the model."
        )
    begins = getattr(config, "decoder_start_token_id", None)
    if begins is not None and sizes.get("decoder_start_token_id", begins) != begins:
        raise RecipeError(
            f"recipe.start: {folder} begins what it writes with token {begins}, and the samples with token "
            f'{sizes["decoder_start_token_id"]}; name that token by its text, as data.samples.begin = "<pad>" for a T5.'
        )


def _with_classes(model: nn.Module, chosen: Sequence[int]) -> nn.Module:
    """The model with some rows of its head alone."""
    head: Any = [module for module in model.head.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]  # type: ignore[union-attr]
    rows = torch.tensor(list(chosen))
    for name, parameter in list(head.named_parameters()):
        setattr(head, name, nn.Parameter(parameter.detach()[rows].clone()))
    return model


def _filled(model: nn.Module, folder: Path) -> nn.Module:
    """The model with a file's tensors, which have our names. Raises CheckpointError where they are not the model's."""
    tensors, state = read_tensors(folder / SINGLE), model.state_dict()
    odd = sorted(tensors.keys() ^ state.keys())
    if odd:
        whose = "the file has and the model lacks" if odd[0] in tensors else "the model has and the file lacks"
        raise CheckpointError(f"{folder / SINGLE}: {len(odd)} names differ, such as {odd[0]!r}, which {whose}.")
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            raise CheckpointError(
                f"{folder / SINGLE}: {name!r} is {tuple(tensor.shape)}, the model's is {tuple(state[name].shape)}."
            )
    model.load_state_dict(tensors)
    return model


def write_start(model: nn.Module, use: Use, folder: Path, texts: Mapping[str, str]) -> None:
    """Write a model as a folder to start from: in the published format where there is one for it, else by our names.

    ``use`` is the call that makes it, every size spelled out. What was written is read back and must be the same.
    """
    if type(model).__name__ in FAMILIES.values():
        write_folder(model, folder, texts=texts)
        again = read_folder(folder)
    else:
        write_whole(folder, {SINGLE: model.state_dict()}, {MODEL: call_to_toml(use, "model"), **texts})
        again = Start(folder, use).read()
    for name, tensor in model.state_dict().items():
        if not torch.equal(again.state_dict()[name], tensor):
            raise CheckpointError(f"{folder}: {name!r} does not read back as it was written.")
