from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.core.state import TrainState
from groundup.core.use import Use, check, make
from groundup.optim import SGD, Adam, AdamW, Lion, Muon, parameter_groups
from groundup.optim.muon import orthogonalize


def weights(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def run(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: int = 5, start: int = 0) -> list[Tensor]:
    """The weights after some steps on gradients that depend on step and weights."""
    for step in range(start, start + steps):
        for i, p in enumerate(params):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(97 * step + i)) + 0.1 * p.detach()
        optimizer.step()
    return [p.detach().clone() for p in params]


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (SGD, torch.optim.SGD, {"lr": 0.1}),
        (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (Adam, torch.optim.Adam, {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1}),
        (AdamW, torch.optim.AdamW, {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1}),
    ],
)
def test_as_torch_computes_and_fused_by_itself(ours: Any, theirs: Any, options: dict[str, Any]) -> None:
    first, second = weights((3, 4), (5,)), weights((3, 4), (5,))
    optimizer = ours(first, **options)
    assert optimizer.param_groups[0]["fused"] is True
    expected = run(theirs(second, fused=False, foreach=False, **options), second)
    for got, want in zip(run(optimizer, first), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_where_no_fused_kernel_runs_the_plain_one_does() -> None:
    integer_like = [nn.Parameter(torch.zeros(2, dtype=torch.complex64))]
    assert AdamW(integer_like).param_groups[0]["fused"] is False
    assert AdamW(iter(weights((2, 2))), fused=False).param_groups[0]["fused"] is False
    assert len(AdamW([{"params": iter(weights((2, 2)))}]).param_groups[0]["params"]) == 1


def test_lion_follows_its_formula() -> None:
    (p,) = weights((3, 2))
    value, momentum = p.detach().clone(), torch.zeros(3, 2)
    optimizer = Lion([p], lr=0.1, betas=(0.9, 0.99), weight_decay=0.5)
    for step in range(4):
        p.grad = torch.randn(3, 2, generator=torch.Generator().manual_seed(step))
        direction = (0.9 * momentum + 0.1 * p.grad).sign()
        value = value * (1 - 0.1 * 0.5) - 0.1 * direction
        momentum = 0.99 * momentum + 0.01 * p.grad
        optimizer.step()
    torch.testing.assert_close(p.detach(), value)


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_agrees_with_torch_on_matrices(adjust: str, nesterov: bool) -> None:
    shapes = ((24, 16), (16, 24), (24, 16), (16, 16))
    first, second = weights(*shapes), weights(*shapes)
    theirs = torch.optim.Muon(second, lr=0.05, weight_decay=0.2, momentum=0.9, nesterov=nesterov, adjust_lr_fn=adjust)
    ours = Muon(
        [{"params": first, "role": "hidden"}],
        lr=0.05, weight_decay=0.2, momentum=0.9, nesterov=nesterov, adjust=adjust, dtype="bfloat16",  # type: ignore[arg-type]
    )  # fmt: skip
    expected = run(theirs, second, steps=3)
    for got, want, before in zip(run(ours, first, steps=3), expected, weights(*shapes), strict=True):
        # Both iterate in bfloat16, batched or not, so that only roundings of 2^-8 may differ.
        assert (got - want).norm() < 0.02 * (want - before).norm()


def test_muon_in_fp32_agrees_with_torch_up_to_its_bf16() -> None:
    first, second = weights((24, 16)), weights((24, 16))
    ours = Muon([{"params": first, "role": "hidden"}], lr=0.05, weight_decay=0.0, dtype="float32")
    theirs = torch.optim.Muon(second, lr=0.05, weight_decay=0.0)
    (got,), (want,) = run(ours, first, 1), run(theirs, second, 1)
    (before,) = weights((24, 16))
    assert (got - want).norm() < 0.03 * (want - before).norm()


def test_orthogonalize_brings_singular_values_near_one_and_keeps_the_directions() -> None:
    matrices = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for x in (matrices, matrices.mT):
        u, _, vh = torch.linalg.svd(x, full_matrices=False)
        values = torch.einsum("nij,nik,njl->nkl", orthogonalize(x), u, vh.mT)
        diagonal = values.diagonal(dim1=-2, dim2=-1)
        assert diagonal.min() > 0.6
        assert diagonal.max() < 1.3
        torch.testing.assert_close(values, torch.diag_embed(diagonal), atol=1e-9, rtol=0)


def test_muon_orthogonalises_the_parts_of_a_fused_matrix_each() -> None:
    (whole,) = weights((12, 6))
    halves = [nn.Parameter(half.detach().clone()) for half in whole.split([4, 8])]
    one = Muon([{"params": [whole], "parts": [[4, 8]], "role": "hidden"}], dtype="float32")
    two = Muon([{"params": halves, "role": "hidden"}], dtype="float32")
    gradient = torch.randn(12, 6, generator=torch.Generator().manual_seed(1))
    whole.grad = gradient
    halves[0].grad, halves[1].grad = gradient.split([4, 8])
    one.step()
    two.step()
    torch.testing.assert_close(whole.detach(), torch.cat([half.detach() for half in halves]))


def decoder() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Module()
    model.embedding = nn.Embedding(11, 8)
    model.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
    model.head = nn.Linear(8, 11)
    return model


def test_muon_is_adamw_on_all_that_is_no_hidden_matrix() -> None:
    model, twin = decoder(), decoder()
    ours = Muon(parameter_groups(model, 0.1), adam_lr=0.01, betas=(0.8, 0.9), eps=1e-8)
    theirs = torch.optim.AdamW(parameter_groups(twin, 0.1), lr=0.01, betas=(0.8, 0.9), eps=1e-8)
    run(ours, list(model.parameters()))
    run(theirs, list(twin.parameters()))
    for (name, got), want in zip(model.named_parameters(), twin.parameters(), strict=True):
        same = torch.allclose(got, want, rtol=1e-5, atol=1e-6)
        assert same != (name in ("blocks.0.weight", "blocks.1.weight")), name


def test_muon_takes_each_group_at_its_own_rates() -> None:
    groups = Muon(
        parameter_groups(decoder()), lr=0.02, adam_lr=3e-3, weight_decay=0.3, adam_weight_decay=0.2
    ).param_groups
    assert {(g["role"], g["lr"], g["weight_decay"]) for g in groups} == {
        ("hidden", 0.02, 0.3), ("embedding", 3e-3, 0.0), ("vector", 3e-3, 0.0), ("head", 3e-3, 0.2),
    }  # fmt: skip


def test_muon_refuses_what_it_cannot_tell_apart() -> None:
    with pytest.raises(RecipeError, match="parameter_groups"):
        Muon(weights((2, 2)))
    with pytest.raises(RecipeError, match=r"not for shape \(5,\)"):
        Muon([{"params": weights((5,)), "role": "hidden"}])
    with pytest.raises(RecipeError, match="momentum"):
        Muon([{"params": weights((5, 5)), "role": "hidden"}], momentum=1.0)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Lion", "Muon"])
def test_state_round_trips_bit_for_bit(name: str) -> None:
    """Through TrainState's tensors and JSON, in the middle of a training, as a checkpoint does it."""
    use = check(Use(name, lr=0.01, **({"momentum": 0.9} if name == "SGD" else {})), "optimizer", "recipe")
    model, resumed = decoder(), decoder()
    state = TrainState(model, make(use, "optimizer", params=parameter_groups(model, 0.1)))
    run(state.optimizer, list(model.parameters()), steps=3)
    other = TrainState(resumed, make(use, "optimizer", params=parameter_groups(resumed, 0.1)))
    resumed.load_state_dict({key: value.clone() for key, value in model.state_dict().items()})
    tensors = {key: value.clone() for key, value in state.tensors().items()}
    other.restore(tensors, json.loads(state.to_json()))
    assert json.loads(other.to_json()) == json.loads(state.to_json())
    expected = run(state.optimizer, list(model.parameters()), steps=3, start=3)
    got = run(other.optimizer, list(resumed.parameters()), steps=3, start=3)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert {k: v.tolist() for k, v in other.tensors().items()} == {k: v.tolist() for k, v in state.tensors().items()}
