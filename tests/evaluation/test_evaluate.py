from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from groundup.core.batch import Batch, Loss
from groundup.core.errors import DataError
from groundup.evaluation import evaluate, mean_loss, measure, metrics


@dataclasses.dataclass
class Builder:
    """Stands for fitted samples: logits to probabilities, or standardised values to the user's units."""

    task: str
    length: int = 1
    horizon: int = 0

    def decode(self, output: Tensor) -> np.ndarray[Any, Any]:
        if self.task == "classify":
            return output.double().softmax(1).numpy()
        return output.double().numpy() * 10 + 100

    def decode_targets(self, targets: Mapping[str, Tensor]) -> np.ndarray[Any, Any]:
        values = targets["targets"]
        return values.numpy() if self.task == "classify" else values.double().numpy() * 10 + 100


class Language(nn.Module):
    """Mean cross entropy over what is not masked, as a language model gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 7)
        self.drop = nn.Dropout(0.9)

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        logits = self.drop(self.table(tokens))
        return logits if targets is None else nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def text_batches(masked: bool = True) -> list[Batch]:
    draw = torch.Generator().manual_seed(0)
    found = []
    for size in (3, 3, 1):
        tokens = torch.randint(0, 7, (size, 5), generator=draw)
        targets = torch.randint(0, 7, (size, 5), generator=draw)
        if masked:
            targets[:, :2] = -100
            targets[0, 3] = -100
        found.append(Batch({"tokens": tokens}, {"targets": targets}, rows=np.arange(size)))
    return found


def test_text_is_summed_over_tokens_not_batches() -> None:
    model, batches = Language(), text_batches()
    found = evaluate(model, batches, num_bytes=50)
    tokens = torch.cat([b.inputs["tokens"].flatten() for b in batches])
    targets = torch.cat([b.targets["targets"].flatten() for b in batches])
    exact = nn.functional.cross_entropy(model.table(tokens), targets, reduction="sum").detach()
    count = int((targets != -100).sum())
    assert metrics.loss(found.decoded, found.targets) == pytest.approx(float(exact) / count, rel=1e-6)
    assert metrics.bits_per_byte(found.decoded, found.targets) == pytest.approx(
        float(exact) / math.log(2) / 50, rel=1e-6
    )
    assert found.loss == pytest.approx(float(exact) / count, rel=1e-6)
    assert found.targets[:, 0].sum() == count
    assert found.targets[:, 1].sum() == pytest.approx(50)
    assert len(found.rows) == 7


def test_batches_of_padding_alone_are_passed_over() -> None:
    padding = Batch({"tokens": torch.zeros(1, 5, dtype=torch.int64)}, {"targets": torch.full((1, 5), -100)})
    assert evaluate(Language(), [*text_batches(), padding]).loss is not None
    with pytest.raises(DataError, match="not masked"):
        evaluate(Language(), [padding])


def test_batches_are_streamed() -> None:
    """No more than one batch is alive at a time."""
    import weakref

    alive: list[weakref.ref[Tensor]] = []

    def stream() -> Iterator[Batch]:
        for batch in text_batches():
            assert not any(ref() is not None for ref in alive[:-1])
            tokens = batch.inputs["tokens"].clone()
            alive.append(weakref.ref(tokens))
            yield Batch({"tokens": tokens}, batch.targets)

    evaluate(Language(), stream())


def class_batches() -> list[Batch]:
    draw = torch.Generator().manual_seed(1)
    return [
        Batch(
            {"inputs": torch.randn(n, 4, generator=draw)}, {"targets": torch.arange(n) % 3}, rows=np.arange(n) + 10 * i
        )
        for i, n in enumerate((5, 5, 2))
    ]


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return self.norm(self.linear(inputs))


def objective(model: nn.Module, batch: Batch) -> Loss:
    return Loss(nn.functional.cross_entropy(model(**batch.inputs), batch.targets["targets"]), batch.num_samples)


def test_classes_are_decoded_and_gathered() -> None:
    model = Classifier()
    batches = class_batches()
    found = evaluate(model, batches, Builder("classify"), objective)
    model.eval()
    logits = model(torch.cat([b.inputs["inputs"] for b in batches]))
    targets = torch.cat([b.targets["targets"] for b in batches])
    np.testing.assert_allclose(found.decoded, logits.detach().double().softmax(1).numpy(), atol=1e-6)
    np.testing.assert_array_equal(found.targets, targets.numpy())
    np.testing.assert_array_equal(found.rows, [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 20, 21])
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, targets).detach()), rel=1e-6)
    assert model.calls == 4, "the objective and the answers share one forward pass a batch"


def test_an_objective_that_does_not_call_the_model_directly() -> None:
    def roundabout(model: nn.Module, batch: Batch) -> Loss:
        return Loss(model.linear(batch.inputs["inputs"]).square().mean(), batch.num_samples)

    assert len(evaluate(Classifier(), class_batches(), Builder("classify"), roundabout)) == 12


def test_values_come_in_the_users_units() -> None:
    model = nn.Linear(4, 2)
    batches = [Batch({"input": b.inputs["inputs"]}, {"targets": b.inputs["inputs"][:, :2]}) for b in class_batches()]
    found = evaluate(model, batches, Builder("regress"))
    assert found.loss is None
    np.testing.assert_allclose(found.targets, torch.cat([b.inputs["input"] for b in batches]).numpy()[:, :2] * 10 + 100)
    assert metrics.mae(found.decoded, found.targets) > 0


def test_modes_and_gradients_are_restored() -> None:
    model = Classifier()
    model.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def explode(model: nn.Module, batch: Batch) -> Loss:
        assert not torch.is_grad_enabled()
        assert not model.training
        raise RuntimeError("planted")

    evaluate(model, class_batches(), Builder("classify"))
    with pytest.raises(RuntimeError, match="planted"):
        evaluate(model, class_batches(), Builder("classify"), explode)
    assert torch.is_grad_enabled()
    assert (model.training, model.norm.training) == (True, False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model._forward_hooks


def test_the_model_can_be_trained_afterwards() -> None:
    """What a model keeps from an evaluation must not be tied to it."""

    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)
            self.table: Tensor | None = None

        def forward(self, inputs: Tensor) -> Tensor:
            if self.table is None:
                self.table = torch.arange(3.0).sin()
            return self.linear(inputs) * self.table

    model = Keeping()
    evaluate(model, class_batches(), Builder("classify"))
    objective(model, class_batches()[0]).total.backward()


def test_mean_loss_weighs_by_targets() -> None:
    model = Classifier()
    found = mean_loss(model, class_batches(), objective)
    assert found == pytest.approx(evaluate(model, class_batches(), Builder("classify"), objective).loss, rel=1e-9)
    assert model.training
    with pytest.raises(DataError, match="no targets"):
        mean_loss(model, [], objective)


def test_measure_asks_the_samples() -> None:
    class Bytes:
        num_bytes = 40

    found = measure(Language(), text_batches(), Builder("generate"), Bytes())
    assert found.targets[:, 1].sum() == pytest.approx(40)
    assert found.block == 1
    windows = [Batch({"input": torch.randn(4, 3)}, {"targets": torch.randn(4, 2)})]
    assert measure(nn.Linear(3, 2), windows, Builder("forecast", 72, 24), object()).block == 96


def test_nothing_to_evaluate_on() -> None:
    with pytest.raises(DataError, match="there are no batches"):
        evaluate(nn.Linear(1, 1), [], Builder("regress"))
