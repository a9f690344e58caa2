"""Mixture of experts: each token goes through the few feed-forward nets that a router picks for it.

Shapes: N tokens, F features, E experts, K experts for each token, M hidden features of an expert.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from groundup.core.errors import RecipeError
from groundup.core.use import Use, make
from groundup.nn.activations import silu
from groundup.nn.feed_forward import Activation, GatedFeedForward, made_activation

__all__ = ["Router", "SigmoidRouter"]


class Routing(NamedTuple):
    """Where tokens go: K experts for each, [N, K] int64, their shares [N, K], and the router's logits [N, E]."""

    experts: Tensor
    shares: Tensor
    logits: Tensor


class Router(nn.Module):
    """The K most likely experts of each token and their shares: tokens [N, F] -> Routing.

    p = softmax(W x) over all experts; with ``normalise`` the K shares are made to add up to 1 (Mixtral, Jiang et al.
    2024, section 2.1), else they stay as they are (Switch, Fedus et al. 2021).
    """

    def __init__(self, num_experts: int, num_chosen: int, normalise: bool = True, *, in_features: int) -> None:
        super().__init__()
        self.num_chosen = num_chosen
        self.normalise = normalise
        self.weight = nn.Parameter(torch.empty(num_experts, in_features))
        nn.init.normal_(self.weight, 0.0, 0.02)

    def forward(self, tokens: Tensor) -> Routing:
        """[N, F] -> Routing; the softmax in fp32."""
        logits = F.linear(tokens, self.weight)
        p = logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        shares, experts = p.topk(self.num_chosen, dim=-1)
        if self.normalise:
            shares = shares / shares.sum(-1, keepdim=True)
        return Routing(experts, shares, logits)


class SigmoidRouter(nn.Module):
    """The K most likely experts by sigmoid(W x), which need not compete: tokens [N, F] -> Routing.

    ``correction`` [E], not trained by gradients, is added for the choice alone, which keeps loads even without a loss.
    Of ``groups`` of experts the ``groups_chosen`` with the two highest scores together may be chosen from. Shares
    add up to ``scale`` where ``normalise``. DeepSeek-AI 2024 (DeepSeek-V3), section 2.1.2.
    """

    def __init__(
        self,
        num_experts: int,
        num_chosen: int,
        groups: int = 1,
        groups_chosen: int = 1,
        normalise: bool = True,
        scale: float = 1.0,
        *,
        in_features: int,
    ) -> None:
        super().__init__()
        if num_experts % groups or num_experts // groups * groups_chosen < num_chosen:
            raise RecipeError(
                f"SigmoidRouter: {groups_chosen} of {groups} groups of {num_experts} experts do not hold {num_chosen}."
            )
        self.num_chosen = num_chosen
        self.groups = (groups, groups_chosen)
        self.normalise = normalise
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_experts, in_features))
        nn.init.normal_(self.weight, 0.0, 0.02)
        self.register_buffer("correction", torch.zeros(num_experts))
        self.correction: Tensor

    def forward(self, tokens: Tensor) -> Routing:
        """[N, F] -> Routing; the scores in fp32."""
        exact = torch.promote_types(tokens.dtype, torch.float32)
        logits = F.linear(tokens.to(exact), self.weight.to(exact))
        scores = logits.sigmoid()
        wanted = scores + self.correction
        groups, groups_chosen = self.groups
        if groups_chosen < groups:
            by_group = torch.unflatten(wanted, -1, (groups, -1))
            best = by_group.topk(2, dim=-1)[0].sum(-1).topk(groups_chosen, dim=-1)[1]
            closed = torch.ones_like(by_group[..., 0], dtype=torch.bool).scatter_(-1, best, False)
            wanted = by_group.masked_fill(closed[..., None], 0.0).flatten(-2)
        experts = wanted.topk(self.num_chosen, dim=-1)[1]
        shares = scores.gather(-1, experts)
        if self.normalise:
            shares = shares / (shares.sum(-1, keepdim=True) + 1e-20)
        return Routing(experts, shares * self.scale, logits)


class Experts(nn.Module):
    """E gated feed-forward nets side by side: tokens [N, F] and where they go -> [N, F].

    Tokens are sorted by expert, and each product of all experts is one grouped matrix product, where torch has it
    for the type at hand; expert by expert otherwise.
    """

    def __init__(self, num_experts: int, hidden: int, activation: Activation = silu, *, in_features: int) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(num_experts, 2 * hidden, in_features))
        self.down = nn.Parameter(torch.empty(num_experts, in_features, hidden))
        self.activation = made_activation(activation)
        for weight in (self.gate_up, self.down):
            nn.init.normal_(weight, 0.0, weight.shape[-1] ** -0.5)

    def forward(self, tokens: Tensor, experts: Tensor, shares: Tensor) -> Tensor:
        """tokens [N, F], experts and shares [N, K] -> [N, F]."""
        chosen = experts.flatten()
        order = chosen.argsort(stable=True)
        source = order // experts.shape[1]
        counts = torch.zeros(len(self.down), dtype=torch.int64, device=tokens.device)
        counts = counts.scatter_add_(0, chosen, torch.ones_like(chosen))
        ends = counts.cumsum(0).to(torch.int32)
        gate, up = grouped_product(tokens[source], self.gate_up, ends).chunk(2, dim=-1)
        outputs = grouped_product(self.activation(gate) * up, self.down, ends)
        outputs = outputs * shares.flatten()[order, None].to(outputs.dtype)
        return torch.zeros_like(tokens, dtype=outputs.dtype).index_add(0, source, outputs).to(tokens.dtype)


class MixtureOfExperts(nn.Module):
    """A router, its experts, and ``shared`` hidden features that every token goes through: [..., F] -> [..., F].

    ``num_chosen`` of ``num_experts`` experts with ``hidden`` features each. The balance loss is added by the objective
    (``supervised`` and ``language_modelling`` with ``balance = 0.01``). Shazeer et al. 2017; Dai et al. 2024.
    """

    def __init__(
        self,
        num_experts: int,
        num_chosen: int,
        hidden: int,
        shared: int = 0,
        activation: Activation = silu,
        normalise: bool = True,
        *,
        in_features: int,
        router: Use | nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= num_chosen <= num_experts:
            raise RecipeError(f"MixtureOfExperts: cannot choose {num_chosen} of {num_experts} experts.")
        made = router
        if isinstance(router, Use):
            made = make(router, "router", num_experts=num_experts, num_chosen=num_chosen, in_features=in_features)
        self.router: Any = made or Router(num_experts, num_chosen, normalise, in_features=in_features)
        self.experts = Experts(num_experts, hidden, activation, in_features=in_features)
        self.shared = GatedFeedForward(shared, activation, in_features=in_features) if shared else None

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., F] -> [..., F]."""
        tokens = inputs.reshape(-1, inputs.shape[-1])
        routing: Routing = self.router(tokens)
        outputs: Tensor = self.experts(tokens, routing.experts, routing.shares).view(inputs.shape)
        return outputs if self.shared is None else outputs + self.shared(inputs)

    def balance(self, inputs: Tensor) -> Tensor:
        """The balance loss for these inputs, as ``balance_loss`` has it."""
        return balance_loss(self.router(inputs.reshape(-1, inputs.shape[-1])))


def balance_loss(routing: Routing) -> Tensor:
    """E * sum over experts of (share of choices) * (mean probability): 1 where all are used alike, E at most.

    Fedus et al. 2021 (Switch), equations 4 to 6, with K choices for each token as transformers counts them, over K.
    """
    num_experts = routing.logits.shape[-1]
    p = routing.logits.softmax(-1, dtype=torch.promote_types(routing.logits.dtype, torch.float32))
    used = F.one_hot(routing.experts, num_experts).to(p.dtype).mean((0, 1))
    return num_experts * (used * p.mean(0)).sum()


def grouped_product(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """rows[ends[e - 1] : ends[e]] @ weights[e].T for each expert e: [N, I] and [E, O, I] -> [N, O].

    ``ends`` [E] int32 rise to N; an expert may have no row. Follows autocast.
    """
    device = rows.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        rows, weights = rows.to(dtype), weights.to(dtype)
    product: Tensor = _product(rows, weights, ends)
    return product


@torch.library.custom_op("groundup::grouped_product", mutates_args=())
def _product(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    if _grouped_kernel(rows, weights):
        return F.grouped_mm(rows.contiguous(), weights.contiguous().transpose(1, 2), offs=ends)
    pieces = [rows[start:end] @ weight.T for (start, end), weight in zip(_bounds(ends), weights.unbind(), strict=True)]
    return torch.cat(pieces)


@torch.library.custom_op("groundup::grouped_outer", mutates_args=())
def _outer(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    """left[group].T @ right[group] for each expert: [N, O] and [N, I] -> [E, O, I]."""
    if _grouped_kernel(left, right):
        return F.grouped_mm(left.contiguous().T, right.contiguous(), offs=ends)
    return torch.stack([left[start:end].T @ right[start:end] for start, end in _bounds(ends)])


def _product_shape(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weights.shape[1])


def _outer_shape(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    return left.new_empty(ends.shape[0], left.shape[1], right.shape[1])


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _product_backward(ctx: Any, by_output: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    rows, weights, ends = ctx.saved_tensors
    by_output = by_output.contiguous()
    by_rows = _product(by_output, weights.transpose(1, 2), ends) if ctx.needs_input_grad[0] else None
    by_weights = _outer(by_output, rows, ends) if ctx.needs_input_grad[1] else None
    return by_rows, by_weights, None


# One opaque operation each, so that compiling, exporting and planning see its shape and not how it is made.
_product.register_fake(_product_shape)
_outer.register_fake(_outer_shape)
_product.register_autograd(_product_backward, setup_context=_keep)


@register_flop_formula([torch.ops.groundup.grouped_product, torch.ops.groundup.grouped_outer])
def _flops(left: Any, right: Any, ends: Any, *args: Any, out_shape: Any = None, **options: Any) -> int:
    """Two for each multiply-add: every row meets one expert's matrix."""
    return 2 * int(left[0]) * int(left[1]) * int(right[-2] if len(right) == 3 else right[1])


def _grouped_kernel(left: Tensor, right: Tensor) -> bool:
    """Whether torch's grouped product takes them: its types, and rows that are whole multiples of 16 bytes."""
    kinds = (torch.bfloat16,) if left.device.type == "cuda" else (torch.float32, torch.bfloat16)
    sizes = (left.shape[-1], right.shape[-1], right.shape[-2] if right.ndim == 3 else right.shape[-1])
    even = all(size * left.element_size() % 16 == 0 for size in sizes)
    return left.dtype in kinds and even and left.numel() > 0


def _bounds(ends: Tensor) -> list[tuple[int, int]]:
    return list(itertools.pairwise([0, *ends.tolist()]))
