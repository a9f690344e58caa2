"""A run's folder as a value: everything a run leaves lies here, and an existing one is never overwritten."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup.core.checkpoint import Checkpoint, latest_checkpoint, write_checkpoint
from groundup.core.errors import CheckpointError, GroundupError
from groundup.core.recipe import Recipe, recipe_from_dict
from groundup.core.report import machine


@dataclasses.dataclass(frozen=True)
class Run:
    """``recipe.toml``, ``run.json``, ``metrics.jsonl``, ``checkpoints/`` and what else a run writes."""

    folder: Path

    @classmethod
    def create(cls, recipe: Recipe, out: Path | None = None) -> Run:
        """A new folder: ``out``, or the next free ``runs/NAME-001``. Raises GroundupError if ``out`` exists."""
        try:
            folder = _claim(out) if out is not None else _claim_next(Path("runs"), recipe.name)
            run = cls(folder)
            run.write("recipe.toml", recipe.resolved().to_toml())
            about = {"folder": str(recipe.folder.resolve()), "digest": recipe.digest(), "machine": machine()}
            run.write("run.json", json.dumps({**about, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}, indent=1))
        except OSError as error:
            raise GroundupError(f"{out or 'runs'}: the run's folder cannot be written: {error}.") from error
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """An existing run. Raises CheckpointError when the folder is none."""
        folder = Path(folder)
        for name in ("recipe.toml", "run.json"):
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder}: not the folder of a run (it has no {name}).")
        return cls(folder)

    def recipe(self) -> Recipe:
        """The recipe the run was started with; relative paths start where they did then."""
        about = self.read_json("run.json")
        try:
            table = tomllib.loads((self.folder / "recipe.toml").read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{self.folder / 'recipe.toml'}: damaged: {error}.") from error
        return recipe_from_dict(table, folder=Path(about["folder"])).checked()

    def write(self, name: str, text: str) -> Path:
        """Write a text file whole: beside its place, then renamed into it."""
        path = self.folder / name
        beside = path.with_name(path.name + ".tmp")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise GroundupError(f"{path}: cannot be written: {error}. Make room, then resume.") from error
        return path

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file whole."""
        return self.write(name, json.dumps(value, indent=1, ensure_ascii=False))

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run."""
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise CheckpointError(f"{self.folder}: the run has no {name}.") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{self.folder / name}: damaged: {error}.") from error

    def log(self, **values: Any) -> None:
        """Append one line to ``metrics.jsonl``."""
        try:
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise GroundupError(f"{self.folder / 'metrics.jsonl'}: cannot be written: {error}.") from error

    def logged(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; a last line cut off by a crash is left out."""
        path = self.folder / "metrics.jsonl"
        lines: list[dict[str, Any]] = []
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    lines.append(json.loads(line))
                except json.JSONDecodeError:
                    break
        return lines

    def rewind(self, step: int) -> None:
        """Forget logged lines behind ``step``: a resume writes them anew."""
        kept = [line for line in self.logged() if line["step"] <= step]
        self.write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def best(self) -> tuple[int | None, float]:
        """The step with the lowest validation loss so far, and that loss; (None, infinity) before the first."""
        found = [(line["step"], float(line["loss"])) for line in self.logged() if line["kind"] == "valid"]
        return min(found, key=lambda pair: pair[1], default=(None, float("inf")))

    @property
    def checkpoints(self) -> Path:
        """Where ``step-N`` folders lie."""
        return self.folder / "checkpoints"

    def save(
        self, step: int, tensors: Mapping[str, Mapping[str, Any]], texts: Mapping[str, str], keep: set[int]
    ) -> Checkpoint:
        """Write ``checkpoints/step-N``; once it stands, drop all but it, the one before as a fallback, and ``keep``."""
        checkpoint = write_checkpoint(self.checkpoints / f"step-{step}", tensors, texts)
        names = [path.name.removeprefix("step-") for path in self.checkpoints.glob("step-*")]
        older = sorted(int(name) for name in names if name.isdecimal() and int(name) != step)
        for number in older[:-1]:
            if number not in keep:
                _remove(self.checkpoints / f"step-{number}")
        return checkpoint

    def checkpoint(self) -> Checkpoint:
        """The checkpoint that the run chose at its end; before that, the newest that verifies."""
        if (self.folder / "chosen.json").is_file():
            return Checkpoint.open(self.folder / self.read_json("chosen.json")["checkpoint"])
        return latest_checkpoint(self.checkpoints)[0]

    def choose(self, checkpoint: Checkpoint) -> None:
        """Settle on a checkpoint of this run for evaluation and prediction."""
        self.write_json("chosen.json", {"checkpoint": checkpoint.folder.relative_to(self.folder).as_posix()})

    def newest(self) -> tuple[Checkpoint, list[str]]:
        """Where a resume begins: the newest checkpoint that verifies, and why damaged ones, set aside, were not it."""
        checkpoint, passed_over = latest_checkpoint(self.checkpoints)
        newest = int(checkpoint.folder.name.removeprefix("step-"))
        for half_written in self.checkpoints.glob("*.tmp"):  # by a process that was killed
            shutil.rmtree(half_written)
        for path in self.checkpoints.glob("step-*"):
            number = path.name.removeprefix("step-")
            if number.isdecimal() and int(number) > newest:
                path.rename(path.with_name(f"damaged-{path.name}-{time.time_ns()}"))
        return checkpoint, passed_over


def refuse_existing(out: Path | None) -> None:
    """Raises GroundupError, before any work is done, when a run would have to overwrite this folder."""
    if out is not None and Path(out).exists():
        raise GroundupError(f"{out}: exists already, and a run is never overwritten. Choose another folder.")


def _claim(folder: Path) -> Path:
    refuse_existing(folder)
    folder.mkdir(parents=True)
    return folder


def _claim_next(parent: Path, name: str) -> Path:
    """mkdir decides, so that two runs started at once cannot take the same folder."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        try:
            folder = parent / f"{name}-{number:03d}"
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


def _remove(folder: Path) -> None:
    """Remove a checkpoint so that a crash in between cannot leave one that looks whole."""
    dying = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(dying, ignore_errors=True)  # what a killed process left
    os.replace(folder, dying)
    shutil.rmtree(dying)
