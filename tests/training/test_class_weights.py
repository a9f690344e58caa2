"""Class weights of an objective: made from train's counts, exact under accumulation, refused where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional

from groundup.core.batch import Batch
from groundup.core.errors import RecipeError
from groundup.core.use import Use, check, make, with_defaults
from groundup.training.gradients import compute_gradients
from groundup.training.objectives import balanced_weights
from groundup.training.precision import Precision


def batch(size: int = 30) -> Batch:
    draw = torch.Generator().manual_seed(0)
    targets = (torch.rand(size, generator=draw) ** 3 * 3).long()
    return Batch({"input": torch.randn(size, 4, generator=draw)}, {"targets": targets})


def objective(loss: str = "cross_entropy", weights: object = "balanced", counts: list[int] | None = None) -> object:
    use = check(Use("supervised", loss=loss, class_weights=weights), "objective", "recipe.training.objective")
    assert "class_counts" not in with_defaults(use, "objective").arguments, "the run supplies them"
    return make(use, "objective", class_counts=counts)


def test_balanced_is_scikit_learns() -> None:
    labels = np.repeat([0, 1, 2], [50, 7, 3])
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(balanced_weights([50, 7, 3]), wanted)
    for counts in (None, [], [3, 0]):
        with pytest.raises(RecipeError, match="is made from how many rows of each class"):
            balanced_weights(counts)


def test_the_loss_is_weighted() -> None:
    model, data = nn.Linear(4, 3), batch()
    found = objective(counts=[20, 8, 2])(model, data)  # type: ignore[operator]
    weights = torch.tensor(balanced_weights([20, 8, 2]))
    wanted = functional.cross_entropy(model(data.inputs["input"]), data.targets["targets"], weights)
    torch.testing.assert_close(found.total, wanted)
    assert found.count == pytest.approx(float(weights[data.targets["targets"]].sum()))
    typed = objective(weights=[1.0, 2.0, 4.0])(model, data)  # type: ignore[operator]
    wanted = functional.cross_entropy(model(data.inputs["input"]), data.targets["targets"], torch.tensor([1.0, 2, 4]))
    torch.testing.assert_close(typed.total, wanted)
    assert objective("focal", counts=[20, 8, 2])(model, data).count == 30  # type: ignore[operator]


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
@pytest.mark.parametrize("mixed", [False, True])
def test_accumulation_gives_the_gradient_of_the_whole(loss: str, mixed: bool) -> None:
    data = batch(31)
    if mixed:
        soft = torch.randn(31, 3, generator=torch.Generator().manual_seed(1)).softmax(1)
        data = Batch(data.inputs, {"targets": soft})
    made = objective(loss, counts=[20, 8, 3])
    gradients, losses = [], []
    for parts in (1, 2, 5):
        torch.manual_seed(0)
        model = nn.Linear(4, 3).double()
        cast = Batch({"input": data.inputs["input"].double()}, data.targets)
        losses.append(compute_gradients(model, made, cast, Precision("fp32", "cpu"), parts).loss)  # type: ignore[arg-type]
        gradients.append(model.weight.grad)
    for gradient, value in zip(gradients, losses, strict=True):
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-6, atol=1e-8)
        assert value == pytest.approx(losses[0], rel=1e-6)


def test_what_takes_no_weights_is_refused() -> None:
    model = nn.Linear(4, 1)
    with pytest.raises(RecipeError, match="the loss mse takes no class_weights"):
        objective("mse", counts=[1, 2])(model, Batch(batch().inputs, {"targets": torch.zeros(30, 1)}))  # type: ignore[operator]
    with pytest.raises(RecipeError, match="class_weights: read 'balance'"):
        objective(weights="balance")
