"""Published checkpoints as folders: config.json and safetensors, in one file or in shards with an index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from groundup.core.errors import CheckpointError, nearest
from groundup.models.llama import Llama
from groundup.nn.folders import read_json, read_tensors, write_whole
from groundup.nn.weights import read_names, write_names

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

FAMILIES = {"llama": Llama}
"""A config.json's model_type -> the class in the file of that name."""


def read_folder(folder: str | Path, *, dtype: torch.dtype = torch.float32, ignore: tuple[str, ...] = ()) -> Llama:
    """The model in a published folder, its weights in ``dtype``.

    ``ignore`` names settings of config.json to pass over. Raises CheckpointError for a family that is not here, a
    setting or tensor that is unknown, a tensor that is missing or of another shape, and a damaged file.
    """
    folder = Path(folder)
    table = read_json(folder / CONFIG)
    kind = table.get("model_type")
    if kind not in FAMILIES:
        raise CheckpointError(f"{folder / CONFIG}: model_type {kind!r} is not known.{nearest(str(kind), FAMILIES)}")
    family = FAMILIES[kind]
    config = family.CONFIG.from_dict(table, ignore)
    with torch.device("meta"):  # no time and memory for weights that are replaced at once
        model = family.from_config(config)
    tensors = _read_shards(folder)
    if config.tie_word_embeddings:
        _drop_tied_head(tensors, folder)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = read_names(tensors, family.WEIGHTS, expected, family.UNUSED)
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise CheckpointError(f"{folder}: {name!r} is {tuple(found[name].shape)}, config.json says {tuple(shape)}.")
    model.load_state_dict({name: tensor.to(dtype).contiguous() for name, tensor in found.items()}, assign=True)
    return model


def write_folder(
    model: Llama, folder: str | Path, *, texts: Mapping[str, str] | None = None, shard_bytes: int = 5 * 10**9
) -> None:
    """Write a model as a published folder that read_folder and transformers read; tied weights once.

    ``texts`` are further files by name, such as tokenizer.json. Written beside and renamed at the end. Raises
    CheckpointError when the folder exists or cannot be written, or when the model's layers were changed.
    """
    tensors = write_names(model.state_dict(), model.WEIGHTS)
    config = {**model.config.to_dict(), "dtype": str(next(model.parameters()).dtype).removeprefix("torch.")}
    shards = _shards(tensors, shard_bytes)
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    files = {CONFIG: json.dumps(config, indent=1)}
    if len(shards) == 1:
        names = [SINGLE]
    else:
        places = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        total = sum(tensor.nbytes for tensor in tensors.values())
        files[INDEX] = json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=1)
    write_whole(Path(folder), dict(zip(names, shards, strict=True)), {**files, **(texts or {})})


def _read_shards(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder, by its published name."""
    if not (folder / INDEX).is_file():
        return read_tensors(folder / SINGLE)
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict):
        raise CheckpointError(f"{folder / INDEX}: it has no weight_map.")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{folder / INDEX}: {name!r} is not a file of this folder.")
        tensors |= read_tensors(folder / name)
    if places.keys() != tensors.keys():
        odd = sorted(places.keys() ^ tensors.keys())
        raise CheckpointError(f"{folder / INDEX}: index and files differ in {len(odd)} tensors, such as {odd[0]!r}.")
    return tensors


def _drop_tied_head(tensors: dict[str, Tensor], folder: Path) -> None:
    """A tied model's head may be written out all the same; then it must be the embedding."""
    head = tensors.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, tensors.get("model.embed_tokens.weight", head)):
        raise CheckpointError(
            f"{folder}: config.json ties the embeddings, but lm_head.weight differs from the embedding. "
            "Set tie_word_embeddings to false there if the head is right."
        )


def _shards(tensors: Mapping[str, Tensor], shard_bytes: int) -> list[dict[str, Tensor]]:
    """The tensors in their order, cut where a shard would grow beyond ``shard_bytes``."""
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + tensor.nbytes > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += tensor.nbytes
    return shards
