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

from groundup.core.errors import CheckpointError, nearest

SCHEMA = 1
MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A folder whose manifest has been verified."""

    folder: Path
    aliases: Mapping[str, Mapping[str, str]]
    files: frozenset[str]
    """The names that the manifest lists; nothing else in the folder is ever read."""

    @classmethod
    def open(cls, folder: str | Path) -> Checkpoint:
        """Verify every file's size and SHA-256. Raises CheckpointError that names the file."""
        folder = Path(folder)
        manifest = _read_manifest(folder)
        for name, entry in manifest["files"].items():
            try:
                _verify(folder / name, entry)
            except OSError as error:
                raise CheckpointError(f"{folder / name}: cannot be read: {error}.") from error
        return cls(folder, manifest["aliases"], frozenset(manifest["files"]))

    def digest(self) -> str:
        """SHA-256 of the manifest, which holds that of every file."""
        return _sha256(self.folder / MANIFEST)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one safetensors file, tied ones under each of their names."""
        path = self._path(name)
        try:
            found: dict[str, Tensor] = load_file(path)
            for alias, original in self.aliases.get(name, {}).items():
                found[alias] = found[original]
        except (SafetensorError, OSError, KeyError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}.") from error
        return found

    def text(self, name: str) -> str:
        """A text file of the checkpoint."""
        path = self._path(name)
        try:
            return path.read_bytes().decode()  # as bytes, so that no line ending is translated
        except (UnicodeDecodeError, OSError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}.") from error

    def json(self, name: str) -> Any:
        """A JSON file of the checkpoint."""
        try:
            return json.loads(self.text(name))
        except json.JSONDecodeError as error:
            raise CheckpointError(f"{self.folder / name}: not valid JSON: {error}.") from error

    def _path(self, name: str) -> Path:
        if name not in self.files:
            raise CheckpointError(f"{self.folder / name}: this checkpoint has no such file.{nearest(name, self.files)}")
        return self.folder / name


def write_checkpoint(
    folder: str | Path, tensors: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, str]
) -> Checkpoint:
    """Write a checkpoint whole: into ``folder.tmp``, fsync, manifest last, then one rename.

    ``tensors`` maps file names to named tensors, ``texts`` file names to their content. Raises
    CheckpointError when the folder exists or the disk is full; whatever goes wrong, nothing is left behind.
    """
    folder = Path(folder)
    temporary = folder.with_name(folder.name + ".tmp")
    try:
        if folder.exists() or folder.is_symlink():
            raise CheckpointError(f"{folder}: exists already; a checkpoint is never overwritten.")
        shutil.rmtree(temporary, ignore_errors=True)  # what a killed process left
        temporary.mkdir(parents=True)
        aliases: dict[str, dict[str, str]] = {}
        for name, named in tensors.items():
            unique, aliases[name] = _without_aliases(named)
            save_file(unique, temporary / name)
        for name, text in texts.items():
            (temporary / name).write_bytes(text.encode())
        files = {}
        for name in (*tensors, *texts):
            _fsync(temporary / name)
            files[name] = {"bytes": (temporary / name).stat().st_size, "sha256": _sha256(temporary / name)}
        (temporary / MANIFEST).write_bytes(_render(SCHEMA, files, aliases).encode())
        _fsync(temporary / MANIFEST)
        _fsync(temporary)
        temporary.rename(folder)
        _fsync(folder.parent)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: the checkpoint could not be written: {error}. Earlier checkpoints are untouched; "
            "make room on the disk, then resume."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # renamed by now, or only half written
    return Checkpoint(folder, aliases, frozenset(files))


def latest_checkpoint(folder: str | Path) -> tuple[Checkpoint, list[str]]:
    """The newest ``step-N`` whose manifest verifies, and why newer ones were passed over."""
    folder = Path(folder)
    found = [p for p in folder.glob("step-*") if p.is_dir() and p.name.removeprefix("step-").isdecimal()]
    passed_over: list[str] = []
    for path in sorted(found, key=lambda p: int(p.name.removeprefix("step-")), reverse=True):
        try:
            return Checkpoint.open(path), passed_over
        except CheckpointError as error:
            passed_over.append(str(error))
    tried = "; ".join(passed_over)
    raise CheckpointError(f"{folder}: no usable checkpoint{': ' + tried if tried else ''}.")


def _render(schema: Any, files: Any, aliases: Any) -> str:
    """The manifest's text. It ends with a digest of itself: a changed alias would swap weights unseen."""
    body = {"schema": schema, "files": files, "aliases": aliases}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps({**body, "sha256": digest}, indent=1)


def _read_manifest(folder: Path) -> Any:
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{folder}: not a checkpoint (it has no {MANIFEST}).")
    try:
        text = path.read_bytes().decode()
        manifest = json.loads(text)
        schema, files, aliases = manifest["schema"], manifest["files"], manifest["aliases"]
        if schema != SCHEMA:
            raise CheckpointError(f"{path}: schema {schema}, this version reads {SCHEMA}.")
        for name, entry in files.items():
            if Path(name).name != name or name == ".." or "\\" in name:
                raise ValueError(f"{name!r} does not name a file inside the checkpoint")
            int(entry["bytes"]), str(entry["sha256"])
        for name, table in aliases.items():
            if name not in files or not all(isinstance(original, str) for original in table.values()):
                raise ValueError(f"aliases of {name!r}")
        if _render(schema, files, aliases) != text:
            raise ValueError("its digest is not the one that was written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {error!r}. Use an older checkpoint.") from error
    return manifest


def _verify(path: Path, entry: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: listed in the manifest but not there; use another checkpoint.")
    if path.stat().st_size != entry["bytes"]:
        raise CheckpointError(f"{path}: {path.stat().st_size} bytes, {entry['bytes']} were written.")
    if _sha256(path) != entry["sha256"]:
        raise CheckpointError(
            f"{path}: its SHA-256 is not the one that was written: the file was changed or damaged. "
            "Use an older checkpoint of the run, or restore the file."
        )


def _without_aliases(named: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors without those that share another's memory (tied weights), and alias -> the one kept."""
    unique: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    storages: set[int] = set()
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in named.items():
        key = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and key in seen:
            aliases[name] = seen[key]
            continue
        seen[key] = name
        whole = tensor.detach().to("cpu", copy=False).contiguous()
        storage = whole.untyped_storage()
        if storage.nbytes() != whole.numel() * whole.element_size() or storage.data_ptr() in storages:
            whole = torch.clone(whole)  # a view would drag its whole storage along, or be refused as shared
        storages.add(storage.data_ptr())
        unique[name] = whole
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
