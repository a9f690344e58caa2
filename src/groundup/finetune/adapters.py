"""LoRA adapters in PEFT's file format: adapter_config.json and adapter_model.safetensors, under published names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from groundup.core.errors import CheckpointError, RecipeError
from groundup.finetune.freeze import freeze
from groundup.finetune.lora import LoRALinear, lora_layers
from groundup.nn.folders import read_json, read_tensors, write_whole
from groundup.nn.weights import Weight, read_names, write_names

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"

PLAIN = {"peft_type": "LORA", "bias": "none", "fan_in_fan_out": False, "use_dora": False, "use_rslora": False}
"""Settings that change what an adapter computes, and the one value that is read here."""


def write_adapter(model: nn.Module, folder: str | Path, table: Sequence[Weight] = (), base: str | None = None) -> None:
    """Write the model's LoRA layers as an adapter for the published model that ``table`` (its WEIGHTS) names.

    ``base`` is that model's name or path, for whoever loads the adapter. Raises RecipeError when there is no LoRA or
    its layers differ in rank or alpha, CheckpointError when the folder exists or cannot be written.
    """
    names = lora_layers(model)
    layers = [layer for name in names if isinstance(layer := model.get_submodule(name), LoRALinear)]
    kinds = {(layer.rank, layer.alpha, layer.dropout.p) for layer in layers}
    if len(kinds) != 1:
        raise RecipeError(
            f"write_adapter: expected LoRA layers of one rank and alpha, found {sorted(kinds) or 'none'}."
        )
    ((rank, alpha, dropout),) = kinds
    tensors: dict[str, Tensor] = {}
    targets: list[str] = []
    for name, layer in zip(names, layers, strict=True):
        targets.append(_published(name, table))
        tensors[f"base_model.model.{targets[-1]}.lora_A.weight"] = layer.lora_a
        tensors[f"base_model.model.{targets[-1]}.lora_B.weight"] = layer.lora_b
    config = {
        **PLAIN,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": targets,
    }
    write_whole(Path(folder), {TENSORS: tensors}, {CONFIG: json.dumps(config, indent=1)})


def read_adapter(model: nn.Module, folder: str | Path, table: Sequence[Weight] = ()) -> nn.Module:
    """Put an adapter's LoRA layers into the model it was made for; they train, all else is frozen.

    The model, changed in place. ``table`` is its WEIGHTS. Raises CheckpointError for a setting or tensor that is not
    known and for a layer or shape that the model does not have.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    for name, value in config.items():
        if name in PLAIN and value != PLAIN[name]:
            raise CheckpointError(f"{folder / CONFIG}: {name} is {value!r}; adapters are read with {PLAIN[name]!r}.")
        if name in UNREAD and value:
            raise CheckpointError(f"{folder / CONFIG}: {name} is {value!r}; adapters that use it are not read.")
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(folder / TENSORS).items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", name)
        if match is None:
            raise CheckpointError(f"{folder / TENSORS}: tensor {name!r} is not one of a LoRA layer.")
        pairs.setdefault(_ours(match[1], table), {})[match[2]] = tensor
    modules = dict(model.named_modules())
    for name, pair in pairs.items():
        linear = modules.get(name)
        if not isinstance(linear, nn.Linear) or set(pair) != {"A", "B"}:
            raise CheckpointError(f"{folder / TENSORS}: {name!r} is no linear layer of the model, or lacks A or B.")
        shapes = ((config["r"], linear.in_features), (linear.out_features, config["r"]))
        if (pair["A"].shape, pair["B"].shape) != shapes:
            raise CheckpointError(f"{folder / TENSORS}: {name!r} has A and B of other shapes than {shapes}.")
    freeze(model)
    for name, pair in pairs.items():
        layer = LoRALinear(modules[name], config["r"], config["lora_alpha"], config.get("lora_dropout", 0.0))
        with torch.no_grad():
            layer.lora_a.copy_(pair["A"])
            layer.lora_b.copy_(pair["B"])
        model.set_submodule(name, layer, strict=True)
    return model


UNREAD = ("alpha_pattern", "layer_replication", "modules_to_save", "rank_pattern", "trainable_token_indices")
"""Settings that change what an adapter computes and that are not read here."""


def _published(name: str, table: Sequence[Weight]) -> str:
    """The published name of one of our layers."""
    if not table:
        return name
    (found,) = write_names({f"{name}.weight": torch.empty(0)}, table)
    return found.removesuffix(".weight")


def _ours(name: str, table: Sequence[Weight]) -> str:
    """Our name of a published layer."""
    if not table:
        return name
    (found,) = read_names({f"{name}.weight": torch.empty(0)}, table)
    return found.removesuffix(".weight")
