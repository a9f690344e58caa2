"""Each check holds on a sound model, sees a planted fault of its kind, and leaves the model as it was."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from groundup.core.batch import Batch, Loss
from groundup.core.plan import Plan
from groundup.proof import fits_memory, gradients, initial_loss, overfits_one_batch, same_outputs

BATCH = Batch({"inputs": torch.linspace(-1, 1, 48).reshape(6, 8)}, {"targets": torch.tensor([0, 1, 2, 0, 1, 2])})


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(16, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.drop(self.norm(self.first(inputs)).relu()))


def objective(model: nn.Module, batch: Batch) -> Loss:
    return Loss(nn.functional.cross_entropy(model(**batch.inputs), batch.targets["targets"]), batch.num_samples)


@pytest.mark.parametrize(
    ("value", "passed", "hint"),
    [
        (math.log(10), True, ""),
        (1.2 * math.log(10), True, ""),
        (0.1, False, "input holds the target"),
        (30.0, False, "confident and wrong"),
        (math.nan, False, "division by 0"),
    ],
)
def test_initial_loss(value: float, passed: bool, hint: str) -> None:
    check = initial_loss(value, math.log(10))
    assert check.passed is passed
    assert hint in check.mend
    assert "2.303 is expected" in check.saw


def test_gradients_of_a_sound_model() -> None:
    model = Net()
    model.first.requires_grad_(False)
    check = gradients(model, objective, BATCH)
    assert check.passed, check
    assert "all 4 trainable parameters have a finite one, all 2 frozen ones none" in check.saw


def test_gradients_see_a_parameter_that_forward_does_not_use() -> None:
    model = Net()
    model.forgotten = nn.Linear(2, 2)
    check = gradients(model, objective, BATCH)
    assert not check.passed
    assert "2 of 8 trainable parameters have none: forgotten.weight, forgotten.bias" in check.saw


def test_gradients_see_what_is_not_finite() -> None:
    model = Net()
    with torch.no_grad():
        model.last.weight[0, 0] = torch.inf
    check = gradients(model, objective, BATCH)
    assert not check.passed
    assert "are not finite" in check.saw


def test_gradients_see_a_loss_cut_off_from_the_model() -> None:
    def detached(model: nn.Module, batch: Batch) -> Loss:
        return Loss(objective(model, batch).total.detach(), batch.num_samples)

    assert "does not depend" in gradients(Net(), detached, BATCH).saw
    frozen = Net()
    frozen.requires_grad_(False)
    assert "every parameter is frozen" in gradients(frozen, objective, BATCH).saw


def test_gradients_see_a_frozen_parameter_that_gets_one() -> None:
    model = Net()
    model.first.weight.requires_grad_(False)

    class Stray(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, value: Tensor, frozen: nn.Parameter) -> Tensor:
            ctx.frozen = frozen  # type: ignore[attr-defined]
            return value.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
            ctx.frozen.grad = torch.ones_like(ctx.frozen)  # type: ignore[attr-defined]
            return gradient, None

    def stray(model: nn.Module, batch: Batch) -> Loss:
        return Loss(Stray.apply(objective(model, batch).total, model.first.weight), batch.num_samples)

    check = gradients(model, stray, BATCH)
    assert not check.passed
    assert "1 frozen parameters have one: first.weight" in check.saw


def test_gradients_that_are_zero_so_far_are_told() -> None:
    model = Net()
    nn.init.zeros_(model.last.weight)
    check = gradients(model, objective, BATCH)
    assert check.passed
    assert "first.weight" in check.saw.partition("are 0 so far")[2]


def fingerprint(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("check", ["gradients", "same_outputs", "overfits_one_batch"])
def test_checks_leave_the_model_untouched(check: str) -> None:
    model = Net()
    model.norm.eval()
    earlier = torch.full_like(model.last.bias, 3.0)
    model.last.bias.grad = earlier
    before, random = fingerprint(model), torch.get_rng_state()
    if check == "gradients":
        gradients(model, objective, BATCH)
    elif check == "same_outputs":
        same_outputs(model, copy.deepcopy(model), BATCH)
    else:
        overfits_one_batch(model, objective, BATCH, steps=3)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.last.bias.grad is earlier
    assert torch.equal(earlier, torch.full_like(earlier, 3.0))
    assert model.first.weight.grad is None
    assert (model.training, model.norm.training, model.drop.training) == (True, False, True)


def test_a_replaced_buffer_comes_back() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 3)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, inputs: Tensor) -> Tensor:
            self.seen = self.seen + 1
            return self.linear(inputs)

    model = Counting()
    held = model.seen
    assert gradients(model, objective, BATCH).passed
    assert model.seen is held
    assert float(held) == 0


def test_same_outputs() -> None:
    model = Net()
    check = same_outputs(model, copy.deepcopy(model), BATCH)
    assert check.passed
    assert "the largest difference among 18 numbers is 0" in check.saw


def test_different_outputs() -> None:
    model = Net()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.last.bias[0] += 1e-3
    check = same_outputs(model, other, BATCH)
    assert not check.passed
    assert "0.001" in check.saw
    assert same_outputs(model, other, BATCH, tolerance=2e-3).passed
    with torch.no_grad():
        other.last.bias[0] = torch.nan
    assert "inf" in same_outputs(model, other, BATCH, tolerance=1e9).saw


def test_a_statistic_that_was_lost_is_seen() -> None:
    """Batch norm's running mean is no parameter, so a checkpoint of parameters alone would lose it."""
    model = Net()
    for _ in range(3):
        model(**BATCH.inputs)
    other = Net()
    other.load_state_dict({**other.state_dict(), **dict(model.named_parameters())})
    assert not same_outputs(model, other, BATCH).passed


def test_outputs_of_different_shape() -> None:
    one, two = nn.Linear(8, 3), nn.Linear(8, 4)
    check = same_outputs(one, two, Batch({"input": BATCH.inputs["inputs"]}, {}))
    assert not check.passed
    assert "(6, 3)" in check.saw


def test_overfits_one_batch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3))
    batch = Batch({"input": torch.randn(6, 8)}, BATCH.targets)
    assert overfits_one_batch(model, objective, batch).passed

    def unrelated(model: nn.Module, batch: Batch) -> Loss:
        return Loss((model(**batch.inputs) * 0).sum() + 1.0, batch.num_samples)

    assert not overfits_one_batch(model, unrelated, batch, steps=5).passed


def test_fits_memory() -> None:
    plan = Plan({"weights": 100, "activations": 700})
    assert fits_memory(plan, 1000).passed
    check = fits_memory(plan, 999)
    assert not check.passed, "800 bytes and a quarter more are 1000"
    assert "batch_size" in check.mend
    assert fits_memory(plan, 800, margin=1.0).passed
    assert "weights take most" in fits_memory(Plan({"weights": 100}), 10).mend
