"""Published checkpoints as folders: config.json and safetensors, in one file or in shards with an index."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from groundup.core.errors import CheckpointError, RecipeError, nearest
from groundup.core.use import resolve
from groundup.models.config import read_config, write_config
from groundup.nn.folders import read_json, stream_tensors, tensor_names, write_whole
from groundup.nn.unfilled import unfilled
from groundup.nn.weights import Weight, fill, fits, write_names

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

FAMILIES: Mapping[str, str] = {
    "bert": "Bert",
    "convnext": "ConvNext",
    "deepseek_v3": "DeepseekV3",
    "dinov2": "Dinov2",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3Text",
    "gpt2": "GPT2",
    "gpt_neox": "GPTNeoX",
    "granite": "Granite",
    "llama": "Llama",
    "mamba2": "Mamba2",
    "mistral": "Mistral",
    "mixtral": "Mixtral",
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "modernbert": "ModernBert",
    "olmo2": "Olmo2",
    "patchtst": "PatchTST",
    "phi3": "Phi3",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3Moe",
    "resnet": "ResNet",
    "roberta": "Roberta",
    "smollm3": "SmolLM3",
    "squeezenet": "SqueezeNet",
    "t5": "T5",
    "vit": "ViT",
}
"""A config.json's model_type, which is the name of a file here -> the class in it."""


class Family(Protocol):
    """What a family's class offers beside being a module that is made of its config."""

    CONFIG: Any
    """Its dataclass (see ``groundup.models.config``)."""
    ARCHITECTURE: str
    """What config.json calls the class that others read it with; its config tells where that hangs on the head."""
    WEIGHTS: tuple[Weight, ...]
    """Published name, our name; a property where it depends on the sizes."""
    UNUSED: tuple[str, ...]
    """Patterns of published tensors that carry nothing."""
    TIED: Mapping[str, str]
    """Published tensor -> the one that it must equal where both are written out; it is then not read."""
    config: Any

    def __init__(self, config: Any) -> None: ...


def family_of(table: Mapping[str, Any], where: str | Path = CONFIG) -> Any:
    """The class for a config.json's table. Raises CheckpointError for a model_type that is not here."""
    kind = str(table.get("model_type"))
    if kind not in FAMILIES:
        raise CheckpointError(f"{where}: model_type {kind!r} is not known.{nearest(kind, FAMILIES)}")
    return resolve(f"groundup.models.{kind}:{FAMILIES[kind]}", "model")


def config_of(folder: Path, ignore: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """The class of the family in a published folder, and its config. Raises CheckpointError as ``read_folder`` does."""
    if not (folder / CONFIG).is_file():
        refuse_other_formats(folder)
    table = read_json(folder / CONFIG)
    family = family_of(table, folder / CONFIG)
    read = getattr(family.CONFIG, "from_dict", None) or functools.partial(read_config, family.CONFIG)
    try:
        return family, read(table, ignore)
    except (TypeError, ValueError, RecipeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def build(family: Any, config: Any) -> nn.Module:
    """A family's model of a config's sizes."""
    model: nn.Module = family.from_config(config) if hasattr(family, "from_config") else family(config)
    return model


def read_folder(
    folder: str | Path,
    *,
    dtype: torch.dtype | None = torch.float32,
    ignore: tuple[str, ...] = (),
    head: str | None = None,
    num_labels: int | None = None,
) -> nn.Module:
    """The model in a published folder, its weights in ``dtype``, or with None as they are stored.

    ``head`` and ``num_labels`` give an encoder another head than the published one; what the file has no weights for
    starts anew.

    Weights that need no conversion lie in the file until they are written to: that takes no time and no memory of
    its own, but the file must stay as it is for as long as the model is used. Others are converted one by one.
    ``ignore`` names settings of config.json to pass over. Raises CheckpointError for a family that is not here, a
    setting or tensor that is unknown, a tensor that is missing or of another shape, and a damaged file.
    """
    folder = Path(folder)
    family, config = config_of(folder, ignore)
    anew: dict[str, Any] = {} if head is None else {"head": head}
    anew |= {} if num_labels is None else {"num_labels": num_labels}
    wanted = dataclasses.replace(config, **anew) if anew else config
    other = wanted != config
    if other:  # the new head is made behind, and what the file has of the old one is passed over
        config = dataclasses.replace(wanted, head="states")
    with unfilled():  # no time and memory for weights that are replaced at once
        model: Any = build(family, config)
    fill_published(model, _all_tensors(folder), folder, dtype)
    if other:
        model.config = wanted
        model.head = family.new_head(wanted)
        model.head.to(next(model.parameters()).dtype)
    found: nn.Module = model
    return found


def fill_published(
    model: Any, tensors: Iterable[tuple[str, Tensor]], where: Path, dtype: torch.dtype | None = None
) -> None:
    """Give a family's model, on the meta device or not, its tensors by their published names.

    Raises CheckpointError as ``read_folder`` does, which begins with ``where``.
    """
    tied = getattr(model, "TIED", {}) if getattr(model.config, "tie_word_embeddings", False) else {}
    if getattr(model.config, "head", "words") != "words":
        tied = {}
    tied = {**tied, **getattr(model, "COPIES", {})}
    named = _untied(_prefixed(tensors, getattr(model, "PREFIX", ""), model), tied, where)
    try:
        fill(model, named, model.WEIGHTS, model.UNUSED, dtype)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error


def write_folder(
    model: Any, folder: str | Path, *, texts: Mapping[str, str] | None = None, shard_bytes: int = 5 * 10**9
) -> None:
    """Write a model as a published folder that read_folder and transformers read; tied weights once.

    ``texts`` are further files by name, such as tokenizer.json. Written beside and renamed at the end. Raises
    CheckpointError when the folder exists or cannot be written, or when the model's layers were changed.
    """
    tensors = write_names(model.state_dict(), model.WEIGHTS)
    if getattr(model.config, "head", None) == "states":  # published without the prefix that tells body from head
        tensors = {name.removeprefix(model.PREFIX): tensor for name, tensor in tensors.items()}
    write = getattr(model.config, "to_dict", None) or functools.partial(
        write_config, model.config, getattr(model, "ARCHITECTURE", "")
    )
    config = {**write(), "dtype": str(next(model.parameters()).dtype).removeprefix("torch.")}
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


def _all_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the folder, by its published name, file by file."""
    files = [SINGLE]
    if (folder / INDEX).is_file():
        files = _indexed(folder)
    elif not (folder / SINGLE).is_file():
        refuse_other_formats(folder)
    for file in files:
        yield from stream_tensors(folder / file)


def _prefixed(tensors: Iterable[tuple[str, Tensor]], prefix: str, model: Any) -> Iterator[tuple[str, Tensor]]:
    """Names of a body that was published alone, as they are where it has a head."""
    patterns = [*(row.theirs for row in model.WEIGHTS), *model.UNUSED]
    for name, tensor in tensors:
        known = not prefix or name.startswith(prefix) or any(fits(name, pattern) for pattern in patterns)
        yield name if known else prefix + name, tensor


def _indexed(folder: Path) -> list[str]:
    """The files that the index names. Raises CheckpointError when they do not hold just what it says."""
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict):
        raise CheckpointError(f"{folder / INDEX}: it has no weight_map.")
    held: set[str] = set()
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{folder / INDEX}: {name!r} is not a file of this folder.")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {INDEX} names the shard {name!r}, which is not there; copy or fetch it.")
        held |= set(tensor_names(folder / name))
    if places.keys() != held:
        odd = sorted(places.keys() ^ held)
        raise CheckpointError(f"{folder / INDEX}: index and files differ in {len(odd)} tensors, such as {odd[0]!r}.")
    return sorted(set(places.values()))


def refuse_other_formats(folder: Path) -> None:
    """Raise CheckpointError that says what to do where a folder is not one that can be read."""
    if not folder.is_dir():
        beside = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise CheckpointError(f"{folder}: there is no such folder.{nearest(folder.name, beside)}")
    if (folder / "run.json").is_file() or (folder / "manifest.json").is_file():
        raise CheckpointError(
            f"{folder}: is a run of groundup or a checkpoint of one, no published model. "
            "To train it further: groundup finetune RUN."
        )
    for pattern, meant in (
        ("*.bin", "torch's pickle"),
        ("*.pt*", "torch's pickle"),
        ("*.gguf", "GGUF"),
        ("*.h5", "Keras"),
    ):
        found = sorted(folder.glob(pattern))
        if found:
            raise CheckpointError(
                f"{folder}: there is no {SINGLE}, only {found[0].name} ({meant}). "
                f"Convert it once: groundup convert {found[0]} {folder}"
            )
    others = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise CheckpointError(
        f"{folder}: holds no published model: expected {CONFIG} with {SINGLE} or {INDEX}; there is {others}."
    )


def _untied(
    tensors: Iterator[tuple[str, Tensor]], tied: Mapping[str, str], folder: Path
) -> Iterator[tuple[str, Tensor]]:
    """Without the copies of a tied tensor, which may be written out all the same; then they must be the original."""
    copies: dict[str, Tensor] = {}
    originals: dict[str, Tensor] = {}
    for name, tensor in tensors:
        if name in tied:
            copies[name] = tensor
            continue
        if name in tied.values():
            originals[name] = tensor
        yield name, tensor
    for name, copy in copies.items():
        original = originals.get(tied[name])
        if original is not None and not torch.equal(copy, original):
            raise CheckpointError(
                f"{folder}: config.json ties the embeddings, but {name} differs from the embedding. "
                "Set tie_word_embeddings to false there if the head is right."
            )
        if original is None:
            yield tied[name], copy


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
