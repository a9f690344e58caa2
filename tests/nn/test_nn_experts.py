"""Mixture of experts: grouped products against loops, routing and whole layers against transformers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from groundup.core.errors import RecipeError
from groundup.core.use import Use
from groundup.nn import MixtureOfExperts
from groundup.nn.experts import Experts, Router, Routing, SigmoidRouter, balance_loss, grouped_product

ENDS = torch.tensor([3, 3, 7, 10], dtype=torch.int32)  # the second expert has no row


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(16, 24), (5, 7)])
def test_a_grouped_product_is_a_loop_over_experts(dtype, sizes):
    torch.manual_seed(0)
    rows = torch.randn(10, sizes[0], dtype=dtype, requires_grad=True)
    weights = torch.randn(4, sizes[1], sizes[0], dtype=dtype, requires_grad=True)
    bounds = [0, *ENDS.tolist()]
    wanted = torch.cat([rows[bounds[e] : bounds[e + 1]] @ weights[e].T for e in range(4)])
    found = grouped_product(rows, weights, ENDS)
    tolerance = {} if dtype != torch.bfloat16 else {"atol": 0.05, "rtol": 0.02}
    torch.testing.assert_close(found, wanted, **tolerance)
    factors = torch.randn_like(wanted)
    for ours, theirs in zip(
        torch.autograd.grad((found * factors).sum(), (rows, weights)),
        torch.autograd.grad((wanted * factors).sum(), (rows, weights)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, **tolerance)
    expanded = torch.autograd.grad(grouped_product(rows, weights, ENDS).sum(), rows)[0]
    assert expanded.isfinite().all()


def test_the_operation_keeps_its_word_to_torch():
    rows, weights = torch.randn(10, 8, requires_grad=True), torch.randn(4, 12, 8, requires_grad=True)
    torch.library.opcheck(torch.ops.groundup.grouped_product.default, (rows, weights, ENDS))
    with torch.autocast("cpu", torch.bfloat16):
        assert grouped_product(rows, weights, ENDS).dtype == torch.bfloat16


@pytest.mark.parametrize("normalise", [True, False])
def test_a_mixture_equals_transformers(normalise):
    transformers = pytest.importorskip("transformers")
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock, load_balancing_loss_func

    config = transformers.Qwen3MoeConfig(
        hidden_size=16, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=12, norm_topk_prob=normalise
    )
    torch.manual_seed(0)
    theirs = Qwen3MoeSparseMoeBlock(config)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    ours = MixtureOfExperts(6, 2, 12, normalise=normalise, in_features=16)
    state = theirs.state_dict()
    ours.load_state_dict(
        {
            "router.weight": state["gate.weight"],
            "experts.gate_up": state["experts.gate_up_proj"],
            "experts.down": state["experts.down_proj"],
        }
    )
    inputs = torch.randn(2, 7, 16)
    wanted = theirs(inputs)
    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
    torch.testing.assert_close(ours(inputs), wanted, atol=1e-5, rtol=1e-4)
    logits = F.linear(inputs.flatten(0, 1), state["gate.weight"])
    expected = load_balancing_loss_func((logits,), 6, 2)
    torch.testing.assert_close(2 * ours.balance(inputs), expected)  # they count each of the two choices


def test_the_sigmoid_router_equals_transformers():
    transformers = pytest.importorskip("transformers")
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

    config = transformers.DeepseekV3Config(
        hidden_size=16,
        n_routed_experts=8,
        num_experts_per_tok=3,
        n_group=4,
        topk_group=2,
        moe_intermediate_size=12,
        n_shared_experts=2,
        routed_scaling_factor=2.5,
    )
    torch.manual_seed(0)
    theirs = DeepseekV3MoE(config)
    for tensor in (*theirs.parameters(), theirs.gate.e_score_correction_bias):
        torch.nn.init.normal_(tensor, 0.0, 0.3)
    router = Use("SigmoidRouter", groups=4, groups_chosen=2, scale=2.5)
    ours = MixtureOfExperts(8, 3, 12, shared=24, router=router, in_features=16)
    state = theirs.state_dict()
    names = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
    ours.load_state_dict(
        {
            "router.weight": state["gate.weight"],
            "router.correction": state["gate.e_score_correction_bias"],
            "experts.gate_up": state["experts.gate_up_proj"],
            "experts.down": state["experts.down_proj"],
            **{f"shared.{name}.weight": state[f"shared_experts.{there}.weight"] for name, there in names.items()},
        }
    )
    inputs = torch.randn(2, 7, 16)
    torch.testing.assert_close(ours(inputs), theirs(inputs), atol=1e-5, rtol=1e-4)
    with pytest.raises(RecipeError, match="do not hold 3"):
        SigmoidRouter(8, 3, 4, 1, in_features=16)


def test_the_balance_loss_is_one_when_all_are_used_alike_and_as_many_as_there_are_at_most():
    even = Routing(torch.arange(8).view(4, 2) % 4, torch.full((4, 2), 0.5), torch.zeros(4, 4))
    assert balance_loss(even).item() == pytest.approx(1.0)
    alone = Routing(
        torch.zeros(4, 1, dtype=torch.int64), torch.ones(4, 1), torch.tensor([[60.0, 0, 0, 0]]).expand(4, 4)
    )
    assert balance_loss(alone).item() == pytest.approx(4.0)


def test_experts_beyond_autograd():
    torch.manual_seed(0)
    router, experts = Router(4, 2, in_features=8).double(), Experts(4, 6, in_features=8).double()

    def whole(tokens):
        routing = router(tokens)
        return experts(tokens, routing.experts, routing.shares)

    assert torch.autograd.gradcheck(whole, torch.randn(5, 8, dtype=torch.float64, requires_grad=True))
    with torch.device("meta"):
        layer = MixtureOfExperts(4, 2, 6, in_features=8)
        assert layer(torch.randn(2, 3, 8)).shape == (2, 3, 8)
