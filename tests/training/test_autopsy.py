"""What a run that goes non-finite is told: layer, operation, rows; and that nothing was updated."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from groundup.core.batch import Batch, Loss
from groundup.core.errors import NonFiniteError
from groundup.core.state import TrainState
from groundup.models import MLP, Llama
from groundup.nn.losses import mse
from groundup.optim import AdamW, Muon, parameter_groups
from groundup.training import fit, language_modelling, supervised
from groundup.training.seeds import RandomState


class Apply(nn.Module):
    """A layer that is one function of its input."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(inputs)


class Net(nn.Module):
    """inputs [B, 2] -> first -> middle -> last, the middle nested one level deeper."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Identity(), middle)])
        self.last = nn.Linear(2, 1)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(2))
            self.first.bias.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        for block in self.blocks:
            hidden = block(hidden)
        output: Tensor = self.last(hidden)
        return output


def batch(inputs: list[list[float]], targets: list[float] | None = None) -> Batch:
    values = torch.tensor(targets or [0.5] * len(inputs))[:, None]
    return Batch({"inputs": torch.tensor(inputs)}, {"targets": values}, rows=np.arange(len(inputs)) + 100)


GOOD = [[1.0, 2.0], [3.0, 1.0], [2.0, 2.0], [1.5, 1.0]]


def failure(model: nn.Module, bad: Batch, loss: Callable[..., Tensor] = mse, accumulate: int = 1) -> str:
    """The message; state, weights, buffers and modes must be as they were before the step."""
    state = TrainState(model, AdamW(model.parameters()), total_steps=2)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(NonFiniteError) as caught:
        list(fit(state, [bad] * 2, lambda m, b: supervised(m, b, loss), accumulate=accumulate))
    assert state.step == 0
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) or not value.isfinite().all(), name
    assert model.training
    assert not state.optimizer.state
    message = str(caught.value)
    assert message.startswith("step 1: ")
    assert "the weights were not updated" in message
    return message


def test_the_first_layer_whose_output_is_not_finite_is_named_with_operation_and_rows() -> None:
    inputs = [*GOOD, [-1.0, 1.0], [0.0, -2.0]]
    message = failure(Net(Apply(torch.log)), batch(inputs))
    assert "It began in blocks.0.1 (Apply), by the operation log; rows 104, 105." in message
    assert "a small constant inside log" in message


def test_an_attention_masks_infinities_are_not_blamed() -> None:
    def attend(hidden: Tensor) -> Tensor:
        scores = (hidden @ hidden.T).masked_fill(torch.ones(len(hidden), len(hidden)).triu(1).bool(), -torch.inf)
        return (scores.softmax(-1) @ hidden) / (hidden.sum(1, keepdim=True) - 3)

    message = failure(Net(Apply(attend)), batch([[0.0, 1.0], [1.0, 1.0], [1.0, 2.0]]))
    assert "It began in blocks.0.1 (Apply), by the operation div; row 102." in message


def test_micro_batches_are_searched_one_by_one() -> None:
    message = failure(Net(Apply(torch.log)), batch([*GOOD, [1.0, 1.0], [-1.0, 1.0]]), accumulate=3)
    assert "blocks.0.1 (Apply), by the operation log; row 105." in message


def test_a_gradient_that_is_not_finite_is_named_where_outputs_are() -> None:
    message = failure(Net(Apply(torch.sqrt)), batch([*GOOD, [0.0, 1.0]]))
    assert message.startswith("step 1: the gradient norm is")
    assert "Outputs and loss are finite, but the gradient of first." in message
    assert "by the operation div; row 104." in message  # sqrt's derivative divides by its output


def test_the_data_itself() -> None:
    message = failure(Net(Apply(torch.tanh)), batch([*GOOD, [torch.nan, 1.0]]))
    assert "The data itself has it: 'inputs' is not finite; row 104." in message
    message = failure(Net(Apply(torch.tanh)), batch(GOOD, [0.0, torch.inf, 0.0, 0.0]))
    assert "'targets' is not finite; row 101." in message


def test_the_loss_function() -> None:
    def log_error(output: Tensor, targets: Tensor) -> Tensor:
        return (output - targets).square().log().mean()

    model = Net(Apply(torch.tanh))
    with torch.no_grad():
        model.last.weight.fill_(1.0)  # sums that are rounded alike for one row and for several
        model.last.bias.zero_()
        target = float(model(torch.tensor(GOOD))[2])
    message = failure(model, batch(GOOD, [9.0, 9.0, target, 9.0]), log_error)
    assert "It began in the loss, by the operation log; row 102." in message


def test_weights_that_were_broken_before() -> None:
    model = Net(Apply(torch.tanh))
    with torch.no_grad():
        model.last.weight[0, 1] = torch.inf
    assert "Last.weight was not finite even before this step" in failure(model, batch(GOOD))


def test_a_norm_that_overflows_while_every_gradient_is_finite() -> None:
    def steep(output: Tensor, targets: Tensor) -> Tensor:
        return (output * 3e30).mean()

    message = failure(Net(Apply(torch.tanh)), batch([[30.0, 30.0]] * 2), steep)
    assert "the sum's" in message


def test_dropout_falls_as_it_did_in_the_step() -> None:
    """The failing step is run again from the same random numbers, or the dropped unit would be another."""

    class Chance(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            lucky = torch.rand(()) < 0.97
            return inputs if lucky else inputs.log()

    torch.manual_seed(0)
    model = Net(Chance())
    state = TrainState(model, AdamW(model.parameters()), total_steps=10_000)
    bad = batch([[-1.0, 1.0], [1.0, 1.0]])
    with pytest.raises(NonFiniteError, match=r"blocks\.0\.1 \(Chance\), by the operation log; row 100\."):
        list(fit(state, [bad] * 10_000, lambda m, b: supervised(m, b, mse)))
    assert state.step > 0


def test_a_decoder_in_bf16_and_its_batch_statistics_are_left_alone() -> None:
    torch.manual_seed(0)
    model = Llama(19, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    with torch.no_grad():
        model.blocks[1].feed_forward.down.weight.fill_(3e38)  # type: ignore[union-attr]
    state = TrainState(model, Muon(parameter_groups(model)), total_steps=1)
    state.decisions["precision"] = {"name": "bf16"}
    tokens = torch.arange(10).reshape(2, 5)
    with pytest.raises(NonFiniteError, match=r"blocks\.1\.feed_forward\.down \(\w+\).*rows 7, 8.*precision = 'fp32'"):
        list(
            fit(
                state,
                [Batch({"tokens": tokens}, {"targets": tokens + 1}, rows=np.array([7, 8]))],
                language_modelling,
            )
        )


def test_buffers_and_random_numbers_are_put_back() -> None:
    from groundup.training.autopsy import autopsy
    from groundup.training.precision import Precision

    torch.manual_seed(0)
    model = MLP([4], in_features=2, out_features=1, norm="batch", dropout=0.5)
    bad = batch([*GOOD, [torch.inf, 0.0]])
    before, random = copy.deepcopy(model.state_dict()), RandomState.now(torch.device("cpu"))

    def objective(m: nn.Module, b: Batch) -> Loss:
        return supervised(m, b, mse)

    error = autopsy(model, objective, [batch(GOOD), bad], Precision(), random, "step 9: the loss is nan")
    assert "row 104" in str(error)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random.cpu)
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
