"""Where a signal dies or explodes, the layer is named; nets that are known to be sound raise no warning."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from groundup.core.batch import Batch, Loss
from groundup.core.use import Use
from groundup.models import LSTM, MLP, Llama
from groundup.nn import Sequential
from groundup.nn.init import VARIANCES, he_normal, initialise, normal, started_weights
from groundup.proof import promised_scale, signal

ROWS = Batch({"inputs": torch.randn(64, 32, generator=torch.Generator().manual_seed(0))}, {})


def _objective(model: nn.Module, batch: Batch) -> Loss:
    return Loss(model(**batch.inputs).square().mean(), batch.num_samples)


def _deep(depth: int, init, activation: str = "relu") -> MLP:
    torch.manual_seed(0)
    return MLP([128] * depth, in_features=32, out_features=4, init=init, activation=Use(activation))


def test_a_deep_net_at_a_good_scale_is_sound():
    model = _deep(100, he_normal)
    check, layers = signal(model, _objective, ROWS)
    assert (check.passed, check.warned) == (True, False), check.saw
    assert len(layers) == 201
    assert [layer.name for layer in layers[:3]] == ["layers.0", "layers.1", "layers.2"]
    # He et al. keep E[x^2]; samples come to look alike only slowly, as one over the depth (Hayou et al. 2019).
    assert 0.01 < layers[180].activation / layers[0].activation < 1
    assert all(p.grad is None for p in model.parameters())


def test_one_layer_is_its_formula():
    model = Sequential([Use("Dense", features=5), Use("Dense", features=3)], (32,))
    _, (first, second) = signal(model, _objective, ROWS)
    outputs = model.layers[0](ROWS.inputs["inputs"])
    assert first.activation == pytest.approx((outputs - outputs.mean(0)).square().mean().sqrt().item(), rel=1e-5)
    last = model.layers[1](outputs).detach().requires_grad_()
    last.square().mean().backward()
    assert second.gradient == pytest.approx(last.grad.norm().item() * 8, rel=1e-5)


@pytest.mark.parametrize(
    ("std", "said"), [(0.01, "activations die at layers."), (1.0, "activations explode at layers.")]
)
def test_a_scale_that_does_not_hold_is_named_with_its_layer(std, said):
    check, layers = signal(_deep(12, functools.partial(normal, std=std)), _objective, ROWS)
    assert check.passed
    assert check.warned
    assert said in check.saw
    assert "the gradient" in check.saw
    assert "he_normal" in check.mend
    ratios = [after.activation / before.activation for before, after in zip(layers, layers[2:], strict=False)]
    assert all(ratio < 0.2 for ratio in ratios) if std < 0.1 else all(ratio > 4 for ratio in ratios[:-2])


def test_torchs_default_dies_in_a_deep_relu_net_and_a_planted_layer_is_found():
    assert "die" in signal(_deep(30, None), _objective, ROWS)[0].saw
    model = _deep(8, he_normal)
    initialise(model, [("layers.6.weight", functools.partial(normal, std=1e-7))])
    assert "activations die at layers.6 (Dense)" in signal(model, _objective, ROWS)[0].saw
    model.layers[4].weight.data.fill_(float("inf"))
    check, _ = signal(model, _objective, ROWS)
    assert not check.passed
    assert "layers.4 (Dense) are not finite" in check.saw


def test_blocks_that_add_to_their_input_count_as_one_layer():
    torch.manual_seed(0)
    tokens = torch.randint(0, 50, (4, 16))
    batch = Batch({"tokens": tokens}, {"targets": tokens})
    model = Llama(50, depth=2)

    def objective(model: nn.Module, batch: Batch) -> Loss:
        return Loss(model(**batch.inputs, **batch.targets), 64)

    check, layers = signal(model, objective, batch)
    assert not check.warned, check.saw
    assert [layer.name for layer in layers] == ["embedding", "blocks.0", "blocks.1", "norm"]


@pytest.mark.parametrize("kind", ["conv", "lstm", "residual"])
def test_sound_nets_raise_no_warning(kind):
    torch.manual_seed(0)
    if kind == "lstm":
        model, inputs = LSTM(32, in_features=5, out_features=2), torch.randn(16, 24, 5)
    elif kind == "conv":
        block = [Use("Conv2d", channels=16, init=Use("he_normal")), Use("BatchNorm2d"), Use("ReLU")]
        layers = [*block, Use("MaxPool2d"), *block, Use("GlobalAveragePool2d"), Use("Dense")]
        model, inputs = Sequential(layers, (3, 16, 16), 4), torch.randn(16, 3, 16, 16)
    else:
        inner = [Use("LayerNorm"), Use("Dense", features=64), Use("GELU"), Use("Dense")]
        layers = [Use("Repeat", times=50, layers=[Use("Residual", layers=inner)]), Use("LayerNorm"), Use("Dense")]
        model, inputs = Sequential(layers, (32,), 4), torch.randn(16, 32)
    check, layers = signal(model, _objective, Batch({"inputs": inputs}, {}))
    assert not check.warned, check.saw
    assert len(layers) == {"lstm": 2, "conv": 9, "residual": 52}[kind], [layer.name for layer in layers]


OPTIONS = {"constant": {"value": 0.1}, "mup": {"base_width": 16}, "uniform": {"low": 0.0, "high": 1.0}}


@pytest.mark.parametrize("name", VARIANCES)
@pytest.mark.parametrize("width", [4, 512])
def test_what_an_initialiser_filled_keeps_its_promise(name: str, width: int) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        model = Sequential([Use("Dense", features=width, init=Use(name, **OPTIONS.get(name, {})))], (64,))
        check = promised_scale(started_weights(model))
        assert (check.passed, check.warned) == (True, False), check.saw


def test_a_weight_that_was_scaled_after_it_was_filled_is_found() -> None:
    model = _deep(3, he_normal)
    with torch.no_grad():
        model.layers[2].weight.mul_(1.2)
    check = promised_scale(started_weights(model))
    assert check.warned
    assert "layers.2.weight deviates by 0.15" in check.saw
    assert "he_normal promises 0.125" in check.saw
    assert "no initialiser is named" in promised_scale(started_weights(nn.Linear(3, 3))).saw
