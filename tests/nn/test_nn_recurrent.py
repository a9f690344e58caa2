"""Recurrent layers: padded series, the parallel scan against a loop, and the minimal GRU step by step."""

from __future__ import annotations

import pytest
import torch

from groundup.core.use import Use
from groundup.nn import GRU, LSTM, RNN, LastStep, MinGRU, Sequential
from groundup.nn.scan import linear_scan


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_padded_series_are_read_as_if_they_were_alone(kind):
    layer = kind(5, layers=2, bidirectional=True, in_features=3).double()
    inputs, lengths = _random(3, 7, 3), torch.tensor([7, 2, 5])
    states = layer(inputs, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(states[row, :length], layer(inputs[row : row + 1, :length])[0])
        assert states[row, length:].abs().max().item() == 0 if length < 7 else True
    last = LastStep()(states, lengths)
    torch.testing.assert_close(last[1], states[1, 1])


def test_lengths_go_through_a_sequential_to_the_layers_that_take_them():
    torch.manual_seed(0)
    model = Sequential([Use("Dense", features=4), Use("GRU", hidden=6), Use("LastStep"), Use("Dense")], (7, 3), 2)
    inputs = torch.randn(2, 7, 3)
    torch.testing.assert_close(model(inputs, torch.tensor([7, 3]))[1], model(inputs[1:, :3])[0])
    assert not torch.allclose(model(inputs, torch.tensor([7, 3]))[1], model(inputs)[1])


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 13, 33])
def test_the_scan_is_the_loop(steps):
    decay = _random(2, steps, 3).sigmoid().requires_grad_()
    inputs = _random(2, steps, 3, seed=1).requires_grad_()
    state, states = torch.zeros(2, 3, dtype=torch.float64), []
    for t in range(steps):
        state = decay[:, t] * state + inputs[:, t]
        states.append(state)
    wanted = torch.stack(states, dim=1)
    torch.testing.assert_close(linear_scan(decay, inputs), wanted)
    weights = _random(2, steps, 3, seed=2)
    torch.testing.assert_close(
        torch.autograd.grad((linear_scan(decay, inputs) * weights).sum(), (decay, inputs)),
        torch.autograd.grad((wanted * weights).sum(), (decay, inputs)),
    )


def test_the_scan_has_exact_gradients_and_keeps_long_memories():
    assert torch.autograd.gradcheck(
        linear_scan, (_random(1, 6, 2).sigmoid().requires_grad_(), _random(1, 6, 2, seed=1).requires_grad_())
    )
    decay, inputs = torch.ones(1, 4096, 1), torch.zeros(1, 4096, 1)
    inputs[:, 0] = 1.0
    assert linear_scan(decay, inputs)[0, -1].item() == 1.0


def test_the_minimal_gru_is_its_recurrence_and_goes_on_from_a_state():
    torch.manual_seed(0)
    layer = MinGRU(5, in_features=3).double()
    inputs = _random(2, 9, 3)
    z, c = layer.gate(inputs).sigmoid(), layer.candidate(inputs)
    g = torch.where(c >= 0, c + 0.5, c.sigmoid())
    state, states = torch.zeros(2, 5, dtype=torch.float64), []
    for t in range(9):
        state = (1 - z[:, t]) * state + z[:, t] * g[:, t]
        states.append(state)
    wanted = torch.stack(states, dim=1)
    torch.testing.assert_close(layer(inputs), wanted)
    first = layer(inputs[:, :4])
    torch.testing.assert_close(torch.cat([first, layer(inputs[:, 4:], first[:, -1])], dim=1), wanted)
    assert layer.bfloat16()(inputs.bfloat16()).dtype == torch.bfloat16


@pytest.mark.slow
def test_the_minimal_gru_learns_to_remember():
    torch.manual_seed(0)
    model = Sequential([Use("Embedding", vocab_size=6, features=16), Use("MinGRU", hidden=32), Use("MinGRU", hidden=32),
                        Use("LastStep"), Use("Dense")], (24,), 4)  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(150):  # the first of 24 tokens has to be told behind the others, which are 4 or 5
        tokens = torch.randint(4, 6, (64, 24))
        tokens[:, 0] = torch.randint(0, 4, (64,))
        loss = torch.nn.functional.cross_entropy(model(tokens), tokens[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU, MinGRU])
def test_each_gate_is_initialised_by_itself(kind):
    layer = kind(6, in_features=6, init=Use("orthogonal"))
    for name, parameter in layer.named_parameters():
        for gate in parameter.split(6):
            if gate.ndim == 2:
                torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)
            else:
                assert gate.abs().max().item() == 0, name
