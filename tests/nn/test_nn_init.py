"""Initialisers have the variances that their papers give; rules by pattern are strict."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use, make, public_names
from groundup.nn import Conv2d, Dense, init

DENSE = (300, 200)  # fan_in 200, fan_out 300
KERNEL = (64, 32, 5, 5)  # fan_in 800, fan_out 1600


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize(
    ("function", "variance"),
    [
        (init.he_normal, lambda i, o: 2 / i),
        (init.he_uniform, lambda i, o: 2 / i),
        (init.xavier_normal, lambda i, o: 2 / (i + o)),
        (init.xavier_uniform, lambda i, o: 2 / (i + o)),
        (init.lecun_normal, lambda i, o: 1 / i),
    ],
)
@pytest.mark.parametrize(("shape", "fans"), [(DENSE, (200, 300)), (KERNEL, (800, 1600))])
def test_variance_by_fan(function, variance, shape, fans):
    tensor = function(torch.empty(shape), generator=_generator())
    # The variance of n normal samples has a relative error of sqrt(2 / n), below 0.6% here; 4 of them.
    assert tensor.var().item() == pytest.approx(variance(*fans), rel=0.024)
    assert abs(tensor.mean().item()) < 4 * math.sqrt(variance(*fans) / tensor.numel())
    if "uniform" in function.__name__:
        assert tensor.abs().max().item() <= math.sqrt(3 * variance(*fans))
    else:
        assert tensor.abs().max().item() > math.sqrt(9 * variance(*fans))
    with pytest.raises(RecipeError, match="no fan_in"):
        function(torch.empty(10))


def test_plain_distributions():
    tensor = torch.empty(100_000)
    assert init.normal(tensor, 0.5, 2.0, _generator()).std().item() == pytest.approx(0.5, rel=0.01)
    assert tensor.mean().item() == pytest.approx(2.0, rel=0.01)
    init.uniform(tensor, -1.0, 3.0, _generator())
    assert (tensor.min() >= -1, tensor.max() < 3) == (True, True)
    assert tensor.mean().item() == pytest.approx(1.0, abs=0.02)
    init.truncated_normal(tensor, 0.5, 1.0, 2.0, _generator())
    assert (tensor - 1).abs().max().item() <= 1.0
    assert init.gpt2(tensor, num_layers=8, generator=_generator()).std().item() == pytest.approx(0.02 / 4, rel=0.01)
    assert init.gpt2(tensor, generator=_generator()).std().item() == pytest.approx(0.02, rel=0.01)
    assert set(init.constant(tensor, 2.5).tolist()) == {2.5}
    assert set(init.zeros(tensor).tolist()) == {0.0}


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_orthogonal(shape):
    tensor = init.orthogonal(torch.empty(shape), gain=2.0, generator=_generator())
    product = tensor @ tensor.T if shape[0] < shape[1] else tensor.T @ tensor
    torch.testing.assert_close(product, 4 * torch.eye(20), atol=1e-5, rtol=0)


def test_each_takes_a_generator_and_is_repeatable():
    for name in init.__all__:
        options = {"value": 1.0} if name == "constant" else {}
        first, second = (
            make(Use(name, **options), "init")(torch.empty(8, 8), generator=_generator()) for _ in range(2)
        )
        assert torch.equal(first, second), name
    assert set(public_names(init)) == set(init.__all__)


def test_initialise_by_pattern():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    filled = init.initialise(model, [("*.weight", init.zeros), ("2.*", lambda t: init.constant(t, 3.0))])
    assert filled == ["0.weight", "2.weight", "2.bias"]
    assert (model[0].weight.abs().max().item(), set(model[2].bias.tolist())) == (0.0, {3.0})
    with pytest.raises(RecipeError, match=r"init\[1\].where: the pattern 'O.weight' matches nothing"):
        init.initialise(model, [("0.weight", init.zeros), ("O.weight", init.zeros)])


@pytest.mark.parametrize("given", [Use("he_normal"), init.he_normal])
def test_a_layer_takes_an_initialiser_by_name_or_as_it_is(given):
    torch.manual_seed(0)
    dense = Dense(300, in_features=200, init=given)
    assert dense.weight.var().item() == pytest.approx(2 / 200, rel=0.05)
    assert set(dense.bias.tolist()) == {0.0}
    conv = Conv2d(64, in_channels=32, init=given)
    assert conv.weight.var().item() == pytest.approx(2 / 288, rel=0.05)
    with pytest.raises(RecipeError, match="expected an initialiser"):
        Dense(3, in_features=2, init=0.1)
