from __future__ import annotations

import pytest
import torch
from torch import nn

from groundup.core.errors import DataError, RecipeError
from groundup.core.misfit import layers_named


class Net(nn.Module):
    def __init__(self, between: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(3, between)
        self.inner = nn.Sequential(nn.ReLU(), nn.Linear(4, 2))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.inner(self.first(inputs))


def test_a_layer_that_does_not_fit_is_named_with_what_reached_it_and_what_would_fit() -> None:
    model = Net(between=5)
    with pytest.raises(RecipeError) as caught, layers_named(model):
        model(torch.randn(7, 3))
    said = str(caught.value)
    assert said.startswith("recipe.model: inner.1 (Linear) does not fit the shape (5,): mat1 and mat2")
    assert "It was made for in_features = 4." in said
    assert said.endswith("So far: first (Linear) (3,) -> (5,); inner.0 (ReLU) (5,) -> (5,).")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_of_many_layers_the_last_are_told() -> None:
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(20)), nn.Linear(4, 4))
    with pytest.raises(RecipeError, match=r"20 \(Linear\).*So far: \.\.\. 14 \(Linear\)"), layers_named(model):
        model(torch.randn(2, 3))


def test_an_error_that_a_layer_caught_by_itself_leaves_the_trail_right() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow, self.wide = nn.Linear(2, 2), nn.Linear(3, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            try:
                return self.narrow(inputs)
            except RuntimeError:
                return self.wide(inputs)

    model = Careful()
    said = r"objective: .*So far: wide \(Linear\) \(3,\) -> \(3,\)\."
    with pytest.raises(RecipeError, match=said), layers_named(model):
        nn.functional.cross_entropy(model(torch.randn(2, 3)), torch.zeros(5, dtype=torch.int64))


def test_what_fails_behind_the_model_is_the_objective_and_other_errors_pass() -> None:
    model = Net()
    said = r"recipe\.training\.objective: .*targets.*inner\.1 \(Linear\) \(4,\)"
    with pytest.raises(RecipeError, match=said), layers_named(model):
        nn.functional.cross_entropy(model(torch.randn(7, 3)), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(DataError), layers_named(model):
        raise DataError("as it is")
    with pytest.raises(NameError), layers_named(model):
        raise NameError("a fault in the code")
