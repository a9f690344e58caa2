"""Muon: momentum whose updates of hidden matrices are made orthogonal, and AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.optimizer import ParamsT

from groundup.core.errors import RecipeError
from groundup.core.processor import has_bf16
from groundup.optim.optimizers import fused_runs, loss_of

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic a x + b x^3 + c x^5, chosen by Keller Jordan for the steepest rise at 0."""


class Muon(torch.optim.Optimizer):
    """One optimizer: Muon with ``lr`` on hidden matrices, AdamW with ``adam_lr`` on all the rest.

    A matrix's momentum is replaced by the nearest orthogonal matrix, so that every direction is learned at
    the same rate. Which matrices are hidden it reads in each group's ``role``: give it the groups of
    ``parameter_groups(model)``. ``adjust`` scales a matrix's step by its shape: "original" by
    sqrt(max(1, rows / columns)), "match_rms_adamw" by 0.2 sqrt(max(rows, columns)), for which AdamW's learning
    rate and decay fit. ``dtype`` of the iteration: "auto" is bfloat16 where the processor is fast at it.
    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; Liu et al., Muon is
    Scalable for LLM Training, 2025, equation 4.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.02,
        adam_lr: float = 3e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        adam_weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-10,
        adjust: Literal["original", "match_rms_adamw"] = "original",
        newton_schulz_steps: int = 5,
        dtype: Literal["auto", "bfloat16", "float32"] = "auto",
    ) -> None:
        for name, value, below in (("lr", lr, 1e9), ("adam_lr", adam_lr, 1e9), ("momentum", momentum, 1.0)):
            if not 0 <= value < below:
                raise RecipeError(f"Muon: {name}: read {value}, expected 0 or more{', below 1' if below == 1 else ''}.")
        self._matrix_options = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "adjust": adjust,
            "newton_schulz_steps": newton_schulz_steps,
            "dtype": dtype,
        }
        self._adam_options = {"lr": adam_lr, "betas": betas, "eps": eps, "weight_decay": adam_weight_decay}
        super().__init__(params, {})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take a group with a ``role``; options that it does not give are those of the constructor."""
        role = param_group.get("role") if isinstance(param_group, dict) else None
        if role is None:
            raise RecipeError(
                "Muon has to know which parameters are hidden matrices and which are embeddings, heads, norms and "
                'biases: give it parameter_groups(model), or groups with a "role" of "hidden" or another one.'
            )
        options = self._matrix_options if role == "hidden" else self._adam_options
        super().add_param_group({**options, **param_group})
        group = self.param_groups[-1]
        if role == "hidden":
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise RecipeError(f"Muon: role hidden is for matrices, not for shape {tuple(parameter.shape)}.")
            if group["dtype"] == "auto":  # written down, so that a resume elsewhere computes the same
                group["dtype"] = "bfloat16" if has_bf16(group["params"][0].device) else "float32"
        else:
            group["fused"] = fused_runs(group["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = loss_of(closure)
        for group in self.param_groups:
            if group["role"] == "hidden":
                self._step_matrices(group)
            else:
                self._step_adam(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        every_parts = group.get("parts") or [None] * len(group["params"])
        chosen = [(p, parts) for p, parts in zip(group["params"], every_parts, strict=True) if p.grad is not None]
        if not chosen:
            return
        weights = [p for p, _ in chosen]
        for p in weights:
            self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
        buffers = [self.state[p]["momentum_buffer"] for p in weights]
        updates = cast("list[Tensor]", [p.grad for p in weights])
        torch._foreach_lerp_(buffers, updates, 1 - group["momentum"])
        updates = list(torch._foreach_lerp(updates, buffers, group["momentum"])) if group["nesterov"] else buffers
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        # Matrices of one shape go through the iteration together: fewer and larger products.
        alike: dict[tuple[Any, ...], list[tuple[Tensor, Tensor]]] = {}
        for (weight, parts), update in zip(chosen, updates, strict=True):
            sizes = parts or [len(weight)]
            for target, piece in zip(torch.split(weight, sizes), torch.split(update, sizes), strict=True):
                alike.setdefault((piece.shape, piece.device), []).append((target, piece))
        for (shape, _), pairs in alike.items():
            made = orthogonalize(
                torch.stack([piece.to(getattr(torch, group["dtype"])) for _, piece in pairs]),
                group["newton_schulz_steps"],
            )
            alpha = -group["lr"] * _adjustment(shape, group["adjust"])
            for (target, _), update in zip(pairs, made, strict=True):
                target.add_(update, alpha=alpha)

    def _step_adam(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        for p in params:
            if not self.state[p]:
                device = p.device if group["fused"] else "cpu"
                self.state[p]["step"] = torch.zeros((), dtype=torch.float32, device=device)
                self.state[p]["exp_avg"] = torch.zeros_like(p)
                self.state[p]["exp_avg_sq"] = torch.zeros_like(p)
        adam(
            params,
            cast("list[Tensor]", [p.grad for p in params]),
            [self.state[p]["exp_avg"] for p in params],
            [self.state[p]["exp_avg_sq"] for p in params],
            [],
            [self.state[p]["step"] for p in params],
            foreach=not group["fused"],
            fused=group["fused"],
            decoupled_weight_decay=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearly the orthogonal factor U V^T of each matrix's singular value decomposition, by Newton-Schulz.

    ``matrices`` [N, rows, columns] in the dtype to compute in; singular values end up between about 0.7 and 1.2.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)).contiguous()  # every singular value at most 1
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _adjustment(shape: torch.Size, adjust: str) -> float:
    rows, columns = shape
    return math.sqrt(max(1, rows / columns)) if adjust == "original" else 0.2 * math.sqrt(max(rows, columns))
