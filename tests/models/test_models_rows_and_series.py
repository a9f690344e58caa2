"""The dense and recurrent models: shapes, options, and that they learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use, check, make
from groundup.models import LSTM, MLP
from groundup.nn.losses import mse


def test_mlp_from_a_recipe():
    use = check(
        Use("MLP", hidden=[64, 32], dropout=0.2, norm="batch", activation="gelu", init="he_normal"),
        "model",
        "recipe.model",
    )
    model = make(use, "model", in_features=9, out_features=2, input_shape=(9,), num_classes=2)
    assert [type(layer).__name__ for layer in model.layers] == [
        *["Dense", "BatchNorm1d", "Function", "Dropout"] * 2,
        "Dense",
    ]
    assert model(torch.randn(5, 9)).shape == (5, 2)
    assert model.layers[0].weight.var().item() == pytest.approx(2 / 9, rel=0.3)
    assert set(model.layers[-1].bias.tolist()) == {0.0}


def test_mlp_is_its_layers():
    model = MLP([4], in_features=6, out_features=3, activation=torch.tanh)
    inputs = torch.randn(2, 3, 2)
    first, last = model.layers[0], model.layers[-1]
    expected = torch.tanh(inputs.flatten(1) @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(model(inputs), expected)
    assert MLP([], in_features=6, out_features=3)(inputs).shape == (2, 3)
    assert isinstance(MLP([4], in_features=6, out_features=3, activation=nn.ELU()).layers[1], nn.ELU)


def test_mlp_takes_images_and_windows_too():
    model = make(Use("MLP", hidden=[8]), "model", in_features=5, input_shape=(24, 5), out_features=3)
    assert model(torch.randn(2, 24, 5)).shape == (2, 3)
    with pytest.raises(RecipeError, match="give in_features or input_shape"):
        MLP([8], out_features=3)


def test_mlp_refuses_what_it_does_not_know():
    with pytest.raises(RecipeError, match=r"recipe\.model\.norm: read 'bach'"):
        check(Use("MLP", hidden=[3], norm="bach"), "model", "recipe.model")
    with pytest.raises(RecipeError, match="expected one of batch, layer, rms"):
        MLP([3], in_features=2, out_features=1, norm="bach")  # type: ignore[arg-type]


def test_lstm_reads_the_whole_series_and_gives_the_horizon():
    torch.manual_seed(0)
    use = check(Use("LSTM", hidden=16, layers=2, dropout=0.1), "model", "recipe.model")
    model = make(use, "model", in_features=3, out_features=24, length=72, horizon=24).eval()
    inputs = torch.randn(2, 72, 3)
    assert model(inputs).shape == (2, 24)
    changed = inputs.clone()
    changed[:, 60] += 5  # what is further back fades below fp32 in an untrained net
    assert not torch.equal(model(inputs), model(changed))


@pytest.mark.parametrize("kind", ["mlp", "lstm"])
def test_they_learn(kind):
    torch.manual_seed(0)
    inputs = torch.randn(256, 5, 2)
    targets = (inputs[:, :, 0].sum(1) - inputs[:, -1, 1])[:, None]
    model: nn.Module
    model = MLP([32], in_features=10, out_features=1) if kind == "mlp" else LSTM(16, in_features=2, out_features=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = mse(model(inputs), targets)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 * targets.var().item()
