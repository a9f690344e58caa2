from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from groundup.core.batch import Batch, Bookmark, Loss
from groundup.core.errors import DataError, ProofError, RecipeError
from groundup.core.state import TrainState
from groundup.models import MLP, Llama
from groundup.nn.losses import cross_entropy, mse
from groundup.optim import SGD, AdamW, Muon, parameter_groups
from groundup.training import Precision, fit, language_modelling, supervised
from groundup.training.gradients import compute_gradients


def regression(model: nn.Module, batch: Batch) -> Loss:
    return supervised(model, batch, mse)


def rows(number: int, size: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(number)
    inputs = torch.randn(size, 3, generator=generator)
    return Batch({"inputs": inputs}, {"targets": inputs.sum(1, keepdim=True)}, Bookmark(0, (number + 1) * size))


def begin(total_steps: int = 5, lr: float = 0.1) -> TrainState:
    torch.manual_seed(0)
    model = MLP([4], in_features=3, out_features=1)
    return TrainState(model, SGD(parameter_groups(model), lr=lr), total_steps=total_steps)


def test_a_step_says_what_it_was_and_the_state_stands_behind_it() -> None:
    state = begin(total_steps=5)
    stream = (rows(i) for i in range(100))
    steps = []
    for step in fit(state, stream, regression):
        assert (state.step, state.samples, state.tokens) == (step.number, step.samples, step.tokens)
        assert state.bookmark == Bookmark(0, 4 * step.number)
        steps.append(step)
    assert [step.number for step in steps] == [1, 2, 3, 4, 5]
    assert [step.last for step in steps] == [False] * 4 + [True]
    assert (steps[-1].samples, steps[-1].total) == (20, 5)
    assert all(step.time_s > 0 for step in steps)
    next(stream)
    assert torch.equal(next(stream).inputs["inputs"], rows(6).inputs["inputs"])  # no batch was taken for nothing


def test_it_learns() -> None:
    losses = [step.loss for step in fit(begin(50), [rows(0)] * 50, regression)]
    assert losses[-1] < 0.05 * losses[0]


def test_two_loops_over_one_state_are_one_training() -> None:
    one, two = begin(4), begin(4)
    losses = [step.loss for step in fit(one, map(rows, range(4)), regression)]
    first = [step.loss for step in fit(two, map(rows, range(2)), regression)]
    assert first + [step.loss for step in fit(two, map(rows, range(2, 4)), regression)] == losses


def test_what_cannot_be_trained_is_refused_at_once() -> None:
    with pytest.raises(DataError, match="no batches"):
        list(fit(begin(), [], regression))
    for state, options, message in (
        (begin(total_steps=0), {}, "total_steps is 0"),
        (begin(), {"accumulate": 0}, "accumulate"),
        (begin(), {"clip_norm": 0.0}, "clip_norm"),
    ):
        with pytest.raises(RecipeError, match=message):
            fit(state, [], regression, **options)  # type: ignore[arg-type]


def test_the_learning_rate_is_the_groups_own_times_scale_and_schedule() -> None:
    state = begin(total_steps=4, lr=0.1)
    state.optimizer.param_groups[1]["lr_scale"] = 0.5
    state.schedule = lambda progress: progress
    seen = []
    for step in fit(state, map(rows, range(4)), regression):
        assert step.learning_rate == state.optimizer.param_groups[0]["lr"]
        seen.append(tuple(group["lr"] for group in state.optimizer.param_groups[:2]))
    expected = [(0.1 * x, 0.05 * x) for x in (0.125, 0.375, 0.625, 0.875)]  # the middle of each step
    assert np.allclose(seen, expected)


def test_gradients_are_clipped_to_the_norm_and_the_norm_is_reported() -> None:
    free, clipped = begin(1, lr=1.0), begin(1, lr=1.0)
    before = [p.detach().clone() for p in free.model.parameters()]
    (step,) = fit(free, [rows(0)], regression, clip_norm=None)
    (again,) = fit(clipped, [rows(0)], regression, clip_norm=0.25)

    def moved(state: TrainState) -> Tensor:
        pairs = zip(state.model.parameters(), before, strict=True)
        return torch.cat([(p.detach() - old).flatten() for p, old in pairs])

    assert step.gradient_norm == again.gradient_norm > 0.25
    assert moved(free).norm().item() == pytest.approx(step.gradient_norm, rel=1e-4)
    assert moved(clipped).norm().item() == pytest.approx(0.25, rel=1e-3)
    torch.testing.assert_close(moved(clipped) / 0.25, moved(free) / step.gradient_norm, rtol=1e-3, atol=1e-5)


# ------------------------------------------------------------------------------------ micro-batches


def masked_language(size: int = 6) -> Batch:
    """Targets of which every row masks a different number, one row all of them."""
    generator = torch.Generator().manual_seed(0)
    tokens, targets = (torch.randint(0, 19, (size, 8), generator=generator) for _ in range(2))
    for row in range(size):
        targets[row, : (row * 3) % 9] = -100
    targets[2] = -100
    return Batch({"tokens": tokens}, {"targets": targets}, rows=np.arange(size) + 100)


def classified() -> Batch:
    generator = torch.Generator().manual_seed(0)
    targets = torch.tensor([0, -100, 2, 1, -100, -100, 1])
    return Batch({"inputs": torch.randn(7, 3, generator=generator)}, {"targets": targets})


@pytest.mark.parametrize("kind", ["language", "classes"])
def test_the_gradient_is_the_same_for_any_split_into_micro_batches(kind: str) -> None:
    torch.manual_seed(0)
    model: nn.Module
    if kind == "language":
        model = Llama(19, hidden_size=16, num_hidden_layers=2, num_attention_heads=2).double()
        batch, objective = masked_language(), language_modelling
    else:
        model = MLP([5], in_features=3, out_features=4).double()
        batch = classified()
        batch = Batch({"inputs": batch.inputs["inputs"].double()}, batch.targets)
        objective = supervised

    def gradients(accumulate: int) -> tuple[float, int, list[Tensor]]:
        model.zero_grad()
        computed = compute_gradients(model, objective, batch, Precision(), accumulate)
        return computed.loss, computed.count, [p.grad.clone() for p in model.parameters() if p.grad is not None]

    loss, count, expected = gradients(1)
    for accumulate in range(2, batch.num_samples + 2):
        got_loss, got_count, got = gradients(accumulate)
        assert got_count == count
        assert got_loss == pytest.approx(loss, rel=1e-12)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_a_batch_in_which_nothing_counts_is_refused_with_its_rows() -> None:
    batch = masked_language()
    empty = Batch(batch.inputs, {"targets": torch.full((6, 8), -100)}, rows=batch.rows)
    model = Llama(19, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    for accumulate in (1, 3):
        state = TrainState(model, AdamW(model.parameters()), total_steps=1)
        with pytest.raises(ProofError, match=r"every target of this batch is masked \(rows 10"):
            list(fit(state, [empty], language_modelling, accumulate=accumulate))
        assert state.step == 0


# ------------------------------------------------------------------------------------ nothing leaks


def context() -> tuple[bool, ...]:
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("grad", [True, False])
def test_nothing_leaks_into_the_callers_loop(grad: bool) -> None:
    state = begin(total_steps=3)
    state.decisions["precision"] = Precision("bf16").to_dict()
    with torch.set_grad_enabled(grad):
        before = context()
        for step in fit(state, map(rows, range(3)), regression, accumulate=2):
            assert context() == before
            assert step.gradient_norm > 0
        assert context() == before


def test_a_loop_that_is_left_early_leaves_nothing_behind() -> None:
    before = context()
    for _ in fit(begin(), map(rows, range(3)), regression):
        break
    assert context() == before


def test_the_step_trains_whatever_mode_the_caller_left_the_model_in() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    model[1].eval()  # frozen statistics, on purpose
    seen: list[tuple[bool, bool]] = []

    def objective(model: nn.Module, batch: Batch) -> Loss:
        seen.append((model[1].training, model[2].training))  # type: ignore[index]
        return Loss(mse(model(batch.inputs["inputs"]), batch.targets["targets"]), batch.num_samples)

    state = TrainState(model, SGD(model.parameters()), total_steps=3)
    for _ in fit(state, map(rows, range(3)), objective):
        assert model.training
        model.eval()
    assert seen == [(False, True)] * 3
    model.eval()
    state.total_steps, seen[:] = 4, []
    list(fit(state, [rows(4)], objective))
    assert seen == [(True, True)]


def test_bf16_computes_in_bf16_and_keeps_fp32_weights() -> None:
    model = Llama(19, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    state = TrainState(model, Muon(parameter_groups(model)), total_steps=2)
    state.decisions["precision"] = Precision("bf16").to_dict()
    seen: list[torch.dtype] = []
    model.blocks[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    list(fit(state, [masked_language()] * 2, language_modelling))
    assert seen == [torch.bfloat16] * 2
    assert all(p.dtype == torch.float32 for p in model.parameters())


# ------------------------------------------------------------------------------------ objectives


def test_supervised_counts_targets_and_defaults_to_cross_entropy() -> None:
    model = MLP([], in_features=3, out_features=4)
    loss = supervised(model, classified())
    assert loss.count == 4
    kept = classified().targets["targets"] != -100
    inputs, targets = classified().inputs["inputs"][kept], classified().targets["targets"][kept]
    torch.testing.assert_close(loss.total, nn.functional.cross_entropy(model(inputs), targets))
    for same in (cross_entropy, nn.CrossEntropyLoss()):
        torch.testing.assert_close(loss.total, supervised(model, classified(), same).total)


def test_a_loss_that_is_not_one_number_is_refused() -> None:
    def per_sample(output: Tensor, targets: Tensor) -> Tensor:
        return (output - targets).square().mean(1)

    with pytest.raises(RecipeError, match=r"per_sample: a loss is one number.*\(4,\)"):
        supervised(MLP([], in_features=3, out_features=1), rows(0), per_sample)


def test_language_modelling_counts_unmasked_tokens() -> None:
    model = Llama(19, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    batch = masked_language()
    loss = language_modelling(model, batch)
    assert loss.count == int((batch.targets["targets"] != -100).sum())
    logits = model(**batch.inputs)
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets["targets"].flatten())
    torch.testing.assert_close(loss.total, expected)


def test_batches_are_pulled_one_at_a_time() -> None:
    pulled = []

    def stream() -> Iterator[Batch]:
        for number in range(10):
            pulled.append(number)
            yield rows(number)

    for step in fit(begin(3), stream(), regression):
        assert len(pulled) == step.number
