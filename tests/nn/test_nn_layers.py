"""Shapes and values of the leaf layers, and the numbers that no layer accepts."""

from __future__ import annotations

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import groundup.nn
from groundup.core.errors import RecipeError
from groundup.core.use import Use, make, public_names
from groundup.nn import (
    GRU,
    LSTM,
    RNN,
    Attention,
    AveragePool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Embedding,
    GlobalAveragePool2d,
    LastStep,
    LayerNorm,
    MaxPool2d,
    RMSNorm,
    activations,
)

IMAGES = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    ("layer", "inputs", "shape"),
    [
        (Dense(7, in_features=5), torch.randn(2, 3, 5), (2, 3, 7)),
        (Dense(in_features=5, out_features=4), torch.randn(2, 5), (2, 4)),
        (Conv2d(6, in_channels=3), IMAGES, (2, 6, 9, 11)),
        (Conv2d(6, kernel=4, in_channels=3), IMAGES, (2, 6, 9, 11)),
        (Conv2d(6, stride=2, in_channels=3), IMAGES, (2, 6, 5, 6)),
        (Conv2d(6, kernel=5, stride=3, in_channels=3), IMAGES, (2, 6, 3, 4)),
        (Conv2d(6, padding="valid", in_channels=3), IMAGES, (2, 6, 7, 9)),
        (Conv2d(6, padding=2, in_channels=3), IMAGES, (2, 6, 11, 13)),
        (MaxPool2d(), IMAGES, (2, 3, 4, 5)),
        (MaxPool2d(3, 1), IMAGES, (2, 3, 7, 9)),
        (AveragePool2d(2), IMAGES, (2, 3, 4, 5)),
        (GlobalAveragePool2d(), IMAGES, (2, 3)),
        (BatchNorm2d(in_channels=3), IMAGES, (2, 3, 9, 11)),
        (BatchNorm1d(in_features=5), torch.randn(4, 5), (4, 5)),
        (LayerNorm(in_features=5), torch.randn(4, 6, 5), (4, 6, 5)),
        (RMSNorm(in_features=5), torch.randn(4, 6, 5), (4, 6, 5)),
        (LSTM(8, in_features=5), torch.randn(2, 6, 5), (2, 6, 8)),
        (GRU(8, bidirectional=True, in_features=5), torch.randn(2, 6, 5), (2, 6, 16)),
        (RNN(8, layers=2, dropout=0.1, in_features=5), torch.randn(2, 6, 5), (2, 6, 8)),
        (LastStep(), torch.randn(2, 6, 5), (2, 5)),
        (Attention(4, 2, in_features=16), torch.randn(2, 6, 16), (2, 6, 16)),
        (Embedding(8, vocab_size=10), torch.arange(6).view(2, 3), (2, 3, 8)),
    ],
)
def test_shapes(layer, inputs, shape):
    assert layer(inputs).shape == shape


def test_what_cannot_be_built_says_why():
    with pytest.raises(RecipeError, match="add features"):
        Dense(in_features=3)
    with pytest.raises(RecipeError, match="odd kernel"):
        Conv2d(3, kernel=2, stride=2, in_channels=1)
    with pytest.raises(RecipeError, match="between layers"):
        LSTM(3, dropout=0.5, in_features=2)
    with pytest.raises(RecipeError, match="must divide"):
        Attention(3, in_features=16)
    with pytest.raises(RecipeError, match="must divide"):
        Attention(4, 3, in_features=16)


def test_rms_norm_is_its_formula_in_every_type():
    norm = RMSNorm(in_features=6, eps=1e-3)
    norm.weight.data = torch.arange(1.0, 7.0)
    inputs = torch.randn(4, 6)
    expected = inputs / (inputs.square().mean(-1, keepdim=True) + 1e-3).sqrt() * norm.weight
    torch.testing.assert_close(norm(inputs), expected)
    short = norm(inputs.bfloat16())
    assert short.dtype == torch.bfloat16
    torch.testing.assert_close(short.float(), expected, rtol=0.02, atol=0.02)
    exact = RMSNorm(in_features=6).double()
    assert torch.autograd.gradcheck(exact, inputs.double().requires_grad_())


def test_pooling_and_series_values():
    assert torch.equal(GlobalAveragePool2d()(IMAGES), IMAGES.mean((2, 3)))
    assert torch.equal(MaxPool2d(3)(IMAGES)[..., 0, 0], IMAGES[..., :3, :3].amax((2, 3)))
    lstm = LSTM(4, in_features=3)
    inputs = torch.randn(2, 5, 3)
    states, (last, _) = lstm.recurrence(inputs)
    assert torch.equal(LastStep()(lstm(inputs)), last[-1])
    assert torch.equal(lstm(inputs), states)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("relu", F.relu),
        ("relu_squared", lambda x: F.relu(x) ** 2),
        ("leaky_relu", F.leaky_relu),
        ("elu", F.elu),
        ("gelu", F.gelu),
        ("silu", F.silu),
        ("mish", F.mish),
        ("softplus", F.softplus),
        ("sigmoid", torch.sigmoid),
        ("tanh", torch.tanh),
    ],
)
def test_activations_by_name(name, reference):
    inputs = torch.linspace(-3, 3, 13)
    torch.testing.assert_close(make(Use(name), "activation")(inputs), reference(inputs))


def test_swiglu_gradient():
    gate, up = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    torch.testing.assert_close(activations.swiglu(gate, up), gate * torch.sigmoid(gate) * up)
    assert torch.autograd.gradcheck(activations.swiglu, (gate, up))


@pytest.mark.parametrize("module", [groundup.nn, activations])
def test_every_public_name_is_there_and_says_what_it_is(module):
    assert sorted(public_names(module)) == sorted(module.__all__)
    for name in module.__all__:
        assert inspect.getdoc(getattr(module, name)), name
    assert all(issubclass(getattr(groundup.nn, name), nn.Module) for name in groundup.nn.__all__)
