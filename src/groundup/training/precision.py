"""In which number format a model computes, decided once with a stated reason."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, Literal

import torch

from groundup.core.errors import RecipeError
from groundup.core.processor import bf16_support, has_bf16

__all__ = ["FEW_PARAMETERS", "Precision", "choose_precision", "has_bf16"]

FEW_PARAMETERS = 1_000_000
"""Below this many, converting costs more than the faster products save."""


@dataclasses.dataclass(frozen=True)
class Precision:
    """fp32 throughout, or fp32 weights with bf16 products (autocast). fp16 is not offered: it is slow on CPUs."""

    name: Literal["fp32", "bf16"] = "fp32"
    reason: str = "nothing else was asked for"
    device: str = "cpu"
    """The kind of device: cpu, cuda, mps."""

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context to compute outputs and losses in; gradients are computed outside it."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``Precision(**values)`` reads them back."""
        return dataclasses.asdict(self)


def choose_precision(
    name: Literal["auto", "fp32", "bf16"], device: torch.device | str, num_parameters: int
) -> Precision:
    """The precision that was asked for; "auto" is bf16 where it is fast and the model is worth it."""
    kind = torch.device(device).type
    fast, why = bf16_support(kind)
    if name == "fp32":
        return Precision("fp32", "asked for", kind)
    if name == "bf16":
        return Precision("bf16", "asked for" if fast else f"asked for, but it will be slow: {why}", kind)
    if name != "auto":
        raise RecipeError(f"recipe.training.precision: read {name!r}, expected 'auto', 'fp32' or 'bf16'.")
    if not fast:
        return Precision("fp32", why, kind)
    if num_parameters < FEW_PARAMETERS:
        return Precision("fp32", f"{num_parameters:,} parameters are too few to gain from bf16", kind)
    return Precision("bf16", why, kind)
