"""Folders in published formats: JSON and safetensors read with clear errors, and written whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundup.core.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's table. Raises CheckpointError when the file is missing, damaged or no table."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}.") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"{path}: expected a table, read {type(table).__name__}.")
    return table


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file's tensors. Raises CheckpointError when the file is missing or damaged."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}.") from error
    return tensors


MAPPED_BYTES = 1 << 28
"""How much of a file is mapped at once while its tensors are converted, so that what was read can be let go."""


def stream_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """A safetensors file's tensors in their order there, each lying in the file until it is used.

    Raises CheckpointError when the file is missing or damaged.
    """
    names = tensor_names(path)
    start = 0
    while start < len(names):
        try:
            with safe_open(path, "pt") as file:
                mapped = 0
                while start < len(names) and mapped < MAPPED_BYTES:
                    tensor = file.get_tensor(names[start])
                    mapped += tensor.nbytes
                    yield names[start], tensor
                    start += 1
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}.") from error


def tensor_names(path: Path) -> list[str]:
    """The names in a safetensors file, in the order of its bytes. Raises CheckpointError as ``read_tensors`` does."""
    try:
        with safe_open(path, "pt") as file:
            return list(file.offset_keys())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}.") from error


def write_whole(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, str]) -> None:
    """Write safetensors files and text files, by file name, beside ``folder`` and rename at the end.

    Raises CheckpointError, with nothing left behind, when the folder exists or cannot be written.
    """
    if folder.exists():
        raise CheckpointError(f"{folder}: exists already; choose another place or move it away.")
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for name, named in tensors.items():
            save_file({key: _whole(tensor) for key, tensor in named.items()}, temporary / name, {"format": "pt"})
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8")
        temporary.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"{folder}: could not be written: {error}.") from error


def _whole(tensor: Tensor) -> Tensor:
    """The tensor in memory of its own; a view would drag along or share what it is a view of."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
