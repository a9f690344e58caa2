"""The convolutional network for text: its output is Kim's formula, whatever the padding."""

from __future__ import annotations

import pytest
import torch

from groundup.core.errors import RecipeError
from groundup.models import TextCNN


@pytest.fixture
def model() -> TextCNN:
    torch.manual_seed(0)
    made = TextCNN(8, [2, 3], channels=40, vocab_size=20, out_features=3).eval()
    for layer in made.convolutions:
        torch.nn.init.constant_(layer.bias, 0.5)  # so that padding, were it seen, would often answer most
    return made


def test_padding_changes_nothing(model: TextCNN) -> None:
    words = torch.tensor([[4, 9, 2, 17, 3, 0, 0], [5, 0, 0, 0, 0, 0, 0]])
    wider = torch.cat([words, torch.zeros(2, 11, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(model(words), model(wider), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(model(words[:1, :5]), model(words[:1]), atol=1e-6, rtol=1e-6)


def test_it_is_the_papers_formula(model: TextCNN) -> None:
    """c_i = f(w . x_{i:i+h-1} + b), then max over i (equations 2 and 3), by plain arithmetic."""
    words = [4, 9, 2, 17]
    table = model.embedding.weight.detach().double()
    vectors = torch.stack([table[word] for word in words] + [torch.zeros(8, dtype=torch.float64)] * 2)
    found = []
    for width, layer in zip((2, 3), model.convolutions, strict=True):
        weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
        for channel in range(40):
            answers = [
                sum(float(weight[channel, :, k] @ vectors[i + k]) for k in range(width)) + float(bias[channel])
                for i in range(len(words))
            ]
            found.append(max(0.0, *answers))
    expected = model.output.double()(torch.tensor(found, dtype=torch.float64))
    model.float()
    torch.testing.assert_close(model(torch.tensor([[*words, 0, 0]]))[0].double(), expected, atol=1e-5, rtol=1e-5)


def test_the_padding_is_never_learned() -> None:
    torch.manual_seed(0)
    model = TextCNN(8, [2], channels=50, vocab_size=20, out_features=3)
    model(torch.tensor([[4, 9, 0, 0]])).sum().backward()
    assert model.embedding.weight[0].abs().max() == 0
    assert model.embedding.weight.grad is not None
    assert model.embedding.weight.grad[0].abs().max() == 0
    assert model.embedding.weight.grad[4].abs().max() > 0


def test_kernels_are_widths() -> None:
    with pytest.raises(RecipeError, match=r"TextCNN\.kernels: read \[\]"):
        TextCNN(kernels=[], vocab_size=3, out_features=2)
