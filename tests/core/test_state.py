"""Training state returns exactly, through real checkpoints, and refuses what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from groundup.core.batch import Bookmark
from groundup.core.checkpoint import Checkpoint, write_checkpoint
from groundup.core.errors import CheckpointError
from groundup.core.state import TrainState

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, betas=(0.8, 0.99), amsgrad=True),
    "AdamW fused": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, fused=True),
    "Adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.01),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, centered=True, momentum=0.5),
    "NAdam": lambda parameters: torch.optim.NAdam(parameters, lr=0.01),
}


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))


def fresh(kind: str) -> TrainState:
    model = network()
    groups = [{"params": list(model[0].parameters())}, {"params": list(model[2].parameters()), "weight_decay": 0.1}]
    return TrainState(model, OPTIMIZERS[kind](groups), total_steps=20)


def learn(state: TrainState, steps: int) -> list[float]:
    losses: list[float] = []
    for _ in range(steps):
        state.optimizer.zero_grad()
        loss = state.model(torch.randn(5, 3)).square().mean()
        loss.backward()
        state.optimizer.step()
        state.step += 1
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_going_on_from_a_checkpoint_equals_never_having_stopped(tmp_path: Path, kind: str) -> None:
    """Dropout and the inputs are drawn from torch's generator, so its state must return as well."""
    state = fresh(kind)
    learn(state, 3)
    state.samples, state.tokens, state.bookmark = 15, 15, Bookmark(1, 7)
    state.decisions = {"precision": "fp32", "compile": False}
    saved = {"model.safetensors": state.model.state_dict(), "training.safetensors": state.tensors()}
    write_checkpoint(tmp_path / "step-3", saved, {"state.json": state.to_json()})
    unbroken = learn(state, 4)

    torch.manual_seed(999)
    opened = Checkpoint.open(tmp_path / "step-3")
    resumed = fresh(kind)
    resumed.model.load_state_dict(opened.tensors("model.safetensors"))
    resumed.restore(opened.tensors("training.safetensors"), opened.json("state.json"))
    assert (resumed.step, resumed.total_steps, resumed.samples, resumed.tokens) == (3, 20, 15, 15)
    assert resumed.bookmark == Bookmark(1, 7)
    assert resumed.decisions == {"precision": "fp32", "compile": False}
    assert resumed.optimizer.param_groups[1]["weight_decay"] == state.optimizer.param_groups[1]["weight_decay"]

    assert learn(resumed, 4) == unbroken
    for ours, theirs in zip(resumed.model.parameters(), state.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_values_survive_json(tmp_path: Path) -> None:
    state = fresh("Adam")
    learn(state, 1)
    state.optimizer.param_groups[0]["lr"] = 0.1 + 0.2  # a float that needs all its digits
    assert json.loads(state.to_json()) == json.loads(json.dumps(state.values()))
    again = fresh("Adam")
    again.restore(state.tensors(), json.loads(state.to_json()))
    assert again.optimizer.param_groups[0]["lr"] == 0.1 + 0.2
    assert json.loads(again.to_json()) == json.loads(state.to_json())


def test_a_state_before_the_first_step_returns() -> None:
    state, again = fresh("Adam"), fresh("Adam")
    again.restore(state.tensors(), json.loads(state.to_json()))
    assert learn(again, 1)


def test_another_optimizer_is_refused() -> None:
    state = fresh("Adam")
    learn(state, 1)
    other = TrainState(network(), torch.optim.Adam(network().parameters()))
    with pytest.raises(CheckpointError, match="optimizer does not fit"):
        other.restore(state.tensors(), json.loads(state.to_json()))


def without(table: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != name}


DAMAGES: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], tuple[Any, Any]]] = {
    "no random state": lambda t, v: (without(t, "random.cpu"), v),
    "random state of another length": lambda t, v: ({**t, "random.cpu": torch.zeros(3, dtype=torch.uint8)}, v),
    "no step": lambda t, v: (t, without(v, "step")),
    "no optimizer": lambda t, v: (t, without(v, "optimizer")),
    "optimizer a list": lambda t, v: (t, {**v, "optimizer": []}),
    "bookmark a number": lambda t, v: (t, {**v, "bookmark": 3}),
    "bookmark too long": lambda t, v: (t, {**v, "bookmark": [1, 2, 3]}),
    "not a table": lambda t, v: (t, [v]),
    "index a word": lambda t, v: ({**t, "optimizer.first.exp_avg": torch.ones(1)}, v),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_gives_one_clear_error(damage: str) -> None:
    state = fresh("Adam")
    learn(state, 1)
    tensors, values = DAMAGES[damage](state.tensors(), json.loads(state.to_json()))
    with pytest.raises(CheckpointError):
        fresh("Adam").restore(tensors, values)
