"""LoRA: each chosen matrix gets a trained product of two thin ones beside it, and is itself left as it was.

Hu et al. 2021, section 4.1. The thin matrices can be multiplied out and added at the end, at no cost in use.
"""

from __future__ import annotations

import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.core.patterns import matching
from groundup.finetune.freeze import freeze
from groundup.nn.swap import swap


class LoRALinear(nn.Module):
    """base(x) + alpha / rank * (x A^T) B^T: [..., in] -> [..., out], with A [rank, in] and B [out, rank] trained.

    B starts at zero, so that the outputs start as they were.
    """

    def __init__(self, base: nn.Linear, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 < rank <= min(base.in_features, base.out_features):
            raise RecipeError(
                f"lora.rank: read {rank}; for a matrix of {base.out_features} x {base.in_features} it lies "
                f"between 1 and {min(base.in_features, base.out_features)}."
            )
        self.base = base.requires_grad_(False)
        self.rank = rank
        self.alpha = alpha
        self.dropout = nn.Dropout(dropout)
        weight = base.weight
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features, device=weight.device, dtype=weight.dtype))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank, device=weight.device, dtype=weight.dtype))
        nn.init.kaiming_uniform_(
            self.lora_a, a=math.sqrt(5)
        )  # uniform with bound 1 / sqrt(in), as published adapters start

    @classmethod
    def from_linear(cls, linear: nn.Linear, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0) -> Self:
        """Wrap a linear layer, whose own parameters stop training."""
        return cls(linear, rank, alpha, dropout)

    @property
    def scale(self) -> float:
        """What the product of the thin matrices is multiplied by."""
        return self.alpha / self.rank

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        thin = F.linear(self.dropout(inputs), self.lora_a)
        outputs: Tensor = self.base(inputs) + F.linear(thin * self.scale, self.lora_b)
        return outputs

    @property
    def weight(self) -> Tensor:
        """base weight + alpha / rank * B A, for what multiplies by the matrix itself, such as a loss with its head."""
        exact = torch.promote_types(self.lora_b.dtype, torch.float32)
        added = self.scale * (self.lora_b.to(exact) @ self.lora_a.to(exact))
        return (self.base.weight.to(exact) + added).to(self.base.weight.dtype)

    def fuse(self) -> nn.Linear:
        """The base layer, its weight replaced by ``weight``."""
        with torch.no_grad():
            self.base.weight.copy_(self.weight)
        return self.base

    def extra_repr(self) -> str:
        """What the module's printed form shows."""
        return f"rank={self.rank}, alpha={self.alpha}"


def lora(
    model: nn.Module, rank: int = 8, alpha: float = 16.0, where: str = "blocks.*.attention.*", dropout: float = 0.0
) -> nn.Module:
    """Freeze the model and put a LoRALinear around each linear layer whose name matches. The model, changed in place.

    Raises RecipeError when no linear layer matches, or one that has LoRA already.
    """
    modules = dict(model.named_modules())
    names = matching((name for name in modules if name), where, "lora.where")
    inside = [name for name in names if any(isinstance(m, LoRALinear) for m in _around(modules, name))]
    if inside:
        raise RecipeError(f"lora.where: {inside[0]!r} has LoRA already; merge it first.")
    linear = [name for name in names if isinstance(modules[name], nn.Linear)]
    if not linear:
        kinds = sorted({type(modules[name]).__name__ for name in names})
        raise RecipeError(f"lora.where: {where!r} matches no linear layer, only {', '.join(kinds)}.")
    freeze(model)
    for name in linear:
        swap(model, name, lambda old: _wrapped(old, rank, alpha, dropout))
    return model


def merge(model: nn.Module) -> nn.Module:
    """Add each LoRA product into its layer and take the wrapper away. The model, changed in place.

    The parameters stay frozen; ``unfreeze`` lets them train. Raises RecipeError when the model has no LoRA.
    """
    names = lora_layers(model)
    if not names:
        raise RecipeError("merge: the model has no LoRA layers.")
    for name in names:
        swap(model, name, _fused)
    return model


def lora_layers(model: nn.Module) -> list[str]:
    """The names of the model's LoRA layers."""
    return [name for name, module in model.named_modules() if isinstance(module, LoRALinear)]


def _around(modules: dict[str, nn.Module], name: str) -> list[nn.Module]:
    parts = name.split(".")
    return [modules[".".join(parts[: i + 1])] for i in range(len(parts))]


def _wrapped(old: nn.Module, rank: int, alpha: float, dropout: float) -> nn.Module:
    assert isinstance(old, nn.Linear)
    return LoRALinear.from_linear(old, rank, alpha, dropout)


def _fused(old: nn.Module) -> nn.Module:
    assert isinstance(old, LoRALinear)
    return old.fuse()
