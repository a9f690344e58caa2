"""Initialisers have the variances that their papers give; rules by pattern are strict."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use, make, public_names
from groundup.nn import Conv2d, Dense, Sequential, init

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


@pytest.mark.parametrize("shape", [DENSE, KERNEL, (40, 300), (700, 50)])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("uniform", {"low": -1.0, "high": 3.0}),
        ("normal", {"std": 0.3, "mean": 5.0}),
        ("truncated_normal", {"std": 0.3, "cut": 1.2}),
        ("constant", {"value": 3.0}),
        ("zeros", {}),
        ("orthogonal", {"gain": 1.7}),
        ("sparse", {"sparsity": 0.8, "std": 0.5}),
        ("he_normal", {"fan": "out"}),
        ("he_normal", {"fan": "average", "slope": 0.5}),
        ("he_uniform", {"slope": 0.2}),
        ("xavier_normal", {"gain": 2.0}),
        ("xavier_uniform", {"fan": "in"}),
        ("lecun_normal", {}),
        ("lecun_uniform", {}),
        ("gpt2", {"num_layers": 6}),
        ("mup", {"base_width": 64}),
        ("mup", {"base_width": 64, "role": "output"}),
        ("mup", {"base_width": 64, "role": "input"}),
    ],
)
def test_each_keeps_the_variance_it_promises(name, options, shape):
    function = functools.partial(getattr(init, name), **options)
    tensor = function(torch.empty(shape), generator=_generator()).double()
    promised = init.promised_variance(function, tensor)
    # n samples of kurtosis k have a variance off by sqrt((k - 1) / n) of it; sparse ones have a kurtosis of 15.
    spread = math.sqrt((14 if name == "sparse" else 2) / tensor.numel())
    assert tensor.var(correction=0).item() == pytest.approx(promised, rel=4.5 * spread, abs=1e-12)


def test_every_initialiser_that_draws_has_its_row_in_the_table():
    assert set(init.VARIANCES) == set(init.__all__) - {"identity"}
    assert init.promised_variance(torch.nn.init.normal_, torch.empty(2, 2)) is None


def test_sparse_silences_the_same_number_of_inputs_of_each_unit():
    silent = (init.sparse(torch.empty(30, 50), 0.9, generator=_generator()) == 0).sum(1)
    assert set(silent.tolist()) == {45}


def test_identity_hands_through():
    dense = torch.nn.Linear(5, 5, bias=False)
    inputs = torch.randn(3, 5)
    init.identity(dense.weight)
    assert torch.equal(dense(inputs), inputs)
    conv = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
    init.identity(conv.weight, gain=2.0)
    images = torch.randn(2, 3, 6, 6)
    assert torch.equal(conv(images)[:, :3], 2 * images)
    assert conv(images)[:, 3:].abs().max().item() == 0


def test_signals_keep_their_scale_under_mup_as_width_grows():
    scales, generator = [], _generator()
    for width in (64, 256, 1024):
        weight = init.mup(torch.empty(width, width), base_width=64, std=1 / 8, generator=generator)
        scales.append((torch.randn(500, width, generator=generator) @ weight.T).std().item())
    assert scales == pytest.approx([1.0] * 3, rel=0.05)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_orthogonal(shape):
    tensor = init.orthogonal(torch.empty(shape), gain=2.0, generator=_generator())
    product = tensor @ tensor.T if shape[0] < shape[1] else tensor.T @ tensor
    torch.testing.assert_close(product, 4 * torch.eye(20), atol=1e-5, rtol=0)


def test_each_takes_a_generator_and_is_repeatable():
    for name in init.__all__:
        options = {"constant": {"value": 1.0}, "mup": {"base_width": 4}}.get(name, {})
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
    with pytest.raises(RecipeError, match=r"init\[0\].where: '2\.\*' matches '2\.bias': .*shape \(2,\) has no fan_in"):
        init.initialise(model, [("2.*", init.he_normal)])
    with pytest.raises(RecipeError, match=r"init\[0\].where: '\*bias' matches '0\.bias': "):
        init.initialise(model, [("*bias", nn.init.xavier_uniform_)])


def test_what_filled_a_weight_is_known_beside_what_it_promises():
    torch.manual_seed(0)
    layers = [
        Use("Dense", features=300, init=Use("he_normal", slope=1.0)),
        Use("Dense", features=200),
        Use("Dense", features=2, init=Use("torch.nn.init:xavier_uniform_")),
    ]
    model = Sequential(layers, (100,))
    init.initialise(model, [("layers.0.bias", init.zeros), ("layers.1.weight", init.orthogonal)])
    found = {weight.name: weight for weight in init.started_weights(model)}
    assert list(found) == ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.2.weight"]
    he, zeros, orthogonal, foreign = found.values()
    assert (he.initialiser, he.size, he.promised) == ("he_normal", 30_000, pytest.approx(0.1))
    assert he.found == pytest.approx(model.layers[0].weight.std().item(), rel=1e-3)
    assert (zeros.promised, zeros.found) == (0.0, 0.0)
    assert (orthogonal.initialiser, orthogonal.promised) == ("orthogonal", pytest.approx(300**-0.5))
    assert (foreign.initialiser, foreign.promised) == ("xavier_uniform_", None)
    init.initialise(model, [("layers.0.weight", init.lecun_normal)])
    assert init.started_weights(model)[0].initialiser == "lecun_normal"


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
