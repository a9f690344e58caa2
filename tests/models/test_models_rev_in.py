"""RevIN: the paper's equations, and a forecast that moves with its window."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use, check, make
from groundup.models import RevIN

SIZES = {"in_features": 3, "out_features": 4, "input_shape": (12, 3), "length": 12, "horizon": 4, "target_input": 1}


class LastSteps(nn.Module):
    """Repeats the last steps of one series."""

    def __init__(self, out_features: int, target_input: int) -> None:
        super().__init__()
        self.out_features, self.at = out_features, target_input

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, -self.out_features :, self.at]


def built(**options: object) -> RevIN:
    use = check(Use("RevIN", model={"use": f"{__name__}:LastSteps"}, **options), "model", "recipe.model")
    model = make(use, "model", **SIZES)
    assert isinstance(model, RevIN)
    return model


def test_what_goes_in_comes_back() -> None:
    torch.manual_seed(0)
    inputs = 7 + 3 * torch.randn(5, 12, 3)
    for model in (built(), built(affine=False)):
        torch.testing.assert_close(model(inputs), inputs[:, -4:, 1], rtol=1e-5, atol=1e-5)
    model = built()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))  # type: ignore[union-attr]
        model.bias.copy_(torch.tensor([1.0, -3.0, 0.2]))  # type: ignore[union-attr]
    torch.testing.assert_close(model(inputs), inputs[:, -4:, 1], rtol=1e-5, atol=1e-5)


def test_the_inner_model_sees_normal_windows_and_the_forecast_is_brought_back() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(5, 12, 3) * torch.tensor([1.0, 10.0, 0.1]) + 4
    use = check(Use("RevIN", model=Use("MLP", hidden=[8])), "model", "recipe.model")
    model = make(use, "model", **SIZES)
    seen: list[Tensor] = []
    model.model.register_forward_hook(lambda module, given, output: seen.extend((given[0], output)))
    found = model(inputs)
    mean, deviation = inputs.mean(1, keepdim=True), (inputs.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(seen[0], (inputs - mean) / deviation)
    torch.testing.assert_close(found, seen[1] * deviation[:, :, 1] + mean[:, :, 1])
    # A window moved and stretched gets its forecast moved and stretched alike.
    exact, given = (
        copy.deepcopy(model).double(),
        inputs.double() * 1e4,
    )  # beside which the 1e-5 under the root is nothing
    torch.testing.assert_close(exact(given * 5 + 100), exact(given) * 5 + 100, rtol=1e-9, atol=0)
    found.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_without_the_targets_past_it_is_refused() -> None:
    with pytest.raises(RecipeError, match="the target's own past is not among the inputs"):
        make(Use("RevIN", model=Use("LSTM", hidden=4)), "model", **{**SIZES, "target_input": None})
    assert make(Use("RevIN", model=Use("LSTM", hidden=4)), "model", **SIZES)(torch.randn(2, 12, 3)).shape == (2, 4)
