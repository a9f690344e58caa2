"""A checkpoint is a folder as a value: written whole or not at all, verified before it is read, no pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundup.core.errors import CheckpointError

SCHEMA = 1
MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A folder whose manifest has been verified."""

    folder: Path
    aliases: Mapping[str, Mapping[str, str]]

    @classmethod
    def open(cls, folder: str | Path) -> Checkpoint:
        """Verify every file's size and SHA-256. Raises CheckpointError that names the file."""
        folder = Path(folder)
        manifest = _read_manifest(folder)
        for name, entry in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                raise CheckpointError(f"{path}: listed in the manifest but not there; use another checkpoint.")
            if path.stat().st_size != entry["bytes"]:
                raise CheckpointError(f"{path}: {path.stat().st_size} bytes, {entry['bytes']} were written.")
            if _sha256(path) != entry["sha256"]:
                raise CheckpointError(
                    f"{path}: its SHA-256 is not the one that was written: the file was changed or damaged. "
                    "Use an older checkpoint of the run, or restore the file."
                )
        return cls(folder, manifest["aliases"])

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one safetensors file, tied ones under each of their names."""
        try:
            found: dict[str, Tensor] = load_file(self.folder / name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{self.folder / name}: cannot be read: {error}.") from error
        for alias, original in self.aliases.get(name, {}).items():
            found[alias] = found[original]
        return found

    def text(self, name: str) -> str:
        """A text file of the checkpoint."""
        path = self.folder / name
        if not path.is_file():
            raise CheckpointError(f"{path}: this checkpoint has no such file.")
        return path.read_text(encoding="utf-8")

    def json(self, name: str) -> Any:
        """A JSON file of the checkpoint."""
        try:
            return json.loads(self.text(name))
        except json.JSONDecodeError as error:
            raise CheckpointError(f"{self.folder / name}: not valid JSON: {error}.") from error


def write_checkpoint(
    folder: str | Path, tensors: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, str]
) -> Checkpoint:
    """Write a checkpoint whole: into ``folder.tmp``, fsync, manifest last, then one rename.

    ``tensors`` maps file names to named tensors, ``texts`` file names to their content. Raises
    CheckpointError, with nothing left behind, when the folder exists or the disk is full.
    """
    folder = Path(folder)
    if folder.exists():
        raise CheckpointError(f"{folder}: exists already; a checkpoint is never overwritten.")
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        aliases: dict[str, dict[str, str]] = {}
        for name, named in tensors.items():
            unique, aliases[name] = _without_aliases(named)
            save_file(unique, temporary / name)
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8")
        files = {}
        for name in (*tensors, *texts):
            _fsync(temporary / name)
            files[name] = {"bytes": (temporary / name).stat().st_size, "sha256": _sha256(temporary / name)}
        manifest = {"schema": SCHEMA, "files": files, "aliases": aliases}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        _fsync(temporary / MANIFEST)
        _fsync(temporary)
        temporary.rename(folder)
        _fsync(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"{folder}: the checkpoint could not be written: {error}. Earlier checkpoints are untouched; "
            "make room on the disk, then resume."
        ) from error
    return Checkpoint(folder, aliases)


def latest_checkpoint(folder: str | Path) -> tuple[Checkpoint, list[str]]:
    """The newest ``step-N`` whose manifest verifies, and why newer ones were passed over."""
    folder = Path(folder)
    found = [p for p in folder.glob("step-*") if p.is_dir() and p.name.removeprefix("step-").isdigit()]
    passed_over: list[str] = []
    for path in sorted(found, key=lambda p: int(p.name.removeprefix("step-")), reverse=True):
        try:
            return Checkpoint.open(path), passed_over
        except CheckpointError as error:
            passed_over.append(str(error))
    tried = "; ".join(passed_over)
    raise CheckpointError(f"{folder}: no usable checkpoint{': ' + tried if tried else ''}.")


def _read_manifest(folder: Path) -> Any:
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{folder}: not a checkpoint (it has no {MANIFEST}).")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            raise CheckpointError(f"{path}: schema {manifest['schema']}, this version reads {SCHEMA}.")
        dict(manifest["files"]), dict(manifest["aliases"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged: {error!r}. Use an older checkpoint.") from error
    return manifest


def _without_aliases(named: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors without those that share another's memory (tied weights), and alias -> the one kept."""
    unique: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in named.items():
        key = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and key in seen:
            aliases[name] = seen[key]
            continue
        seen[key] = name
        unique[name] = tensor.detach().to("cpu", copy=False).contiguous()
        if unique[name].untyped_storage().nbytes() != unique[name].numel() * unique[name].element_size():
            unique[name] = torch.clone(unique[name])  # a view would drag its whole storage along
    return unique, aliases


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
