"""Exactly what resuming a training needs, in one small dataclass."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from groundup.core.batch import Bookmark
from groundup.core.errors import CheckpointError


@dataclasses.dataclass
class TrainState:
    """The one mutable noun: model, optimizer, and where the training stands."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Callable[[float], float] | None = None
    """Fraction of the budget that is done (0 to 1) -> factor on every group's own learning rate."""
    total_steps: int = 0
    step: int = 0
    samples: int = 0
    tokens: int = 0
    bookmark: Bookmark = Bookmark()
    decisions: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What was decided at the start and must hold after a resume: precision, compile, device."""

    def tensors(self) -> dict[str, Tensor]:
        """Optimizer moments and random states, by name; the model's weights are saved beside them."""
        found: dict[str, Tensor] = {"random.cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            for i, state in enumerate(torch.cuda.get_rng_state_all()):
                found[f"random.cuda.{i}"] = state
        for index, state in self.optimizer.state_dict()["state"].items():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    found[f"optimizer.{index}.{name}"] = value
        return found

    def values(self) -> dict[str, Any]:
        """Everything that is no tensor, as plain JSON values."""
        state = self.optimizer.state_dict()
        scalars = {
            str(index): {name: value for name, value in entry.items() if not isinstance(value, Tensor)}
            for index, entry in state["state"].items()
        }
        return {
            "step": self.step,
            "total_steps": self.total_steps,
            "samples": self.samples,
            "tokens": self.tokens,
            "bookmark": list(self.bookmark),
            "decisions": self.decisions,
            "optimizer": {"param_groups": state["param_groups"], "scalars": scalars},
        }

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Set everything but the model's weights as it was saved. Raises CheckpointError on a mismatch."""
        try:
            self._restore(tensors, values)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the training's state is incomplete or damaged: {error!r}") from error

    def _restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        saved = values["optimizer"]
        state: dict[int, dict[str, Any]] = {int(i): dict(entry) for i, entry in saved["scalars"].items()}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, field = rest.partition(".")
                state.setdefault(int(index), {})[field] = tensor
        try:
            self.optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"the optimizer does not fit the one that was saved: {error}") from error
        self.step, self.total_steps = values["step"], values["total_steps"]
        self.samples, self.tokens = values["samples"], values["tokens"]
        self.bookmark = Bookmark(*values["bookmark"])
        self.decisions = dict(values["decisions"])
        torch.set_rng_state(tensors["random.cpu"])
        if torch.cuda.is_available():
            for i in range(torch.cuda.device_count()):
                if f"random.cuda.{i}" in tensors:
                    torch.cuda.set_rng_state(tensors[f"random.cuda.{i}"], i)

    def to_json(self) -> str:
        """``values`` as JSON text."""
        return json.dumps(self.values(), indent=1)
