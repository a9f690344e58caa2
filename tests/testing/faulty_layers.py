"""Layers that break one promise each, and one that keeps all."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Sound(nn.Module):
    """A causal running mean with a learned gate: [B, T, F] -> [B, T, F]."""

    causal = True

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.gate = nn.Linear(in_features, in_features)

    def forward(self, inputs: Tensor) -> Tensor:
        counts = torch.arange(1, inputs.shape[1] + 1, dtype=inputs.dtype, device=inputs.device)
        return inputs.cumsum(1) / counts[:, None] * self.gate(inputs).sigmoid()


class LooksAhead(Sound):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + inputs.mean(1, keepdim=True)


class MixesSamples(Sound):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) - inputs.mean(0)


class Remembers(Sound):
    def forward(self, inputs: Tensor) -> Tensor:
        before = getattr(self, "before", 0.0)
        self.before = float(inputs.abs().mean()) if inputs.device.type != "meta" else 0.0
        return super().forward(inputs) + before


class WritesIntoItsInputs(Sound):
    def forward(self, inputs: Tensor) -> Tensor:
        outputs = super().forward(inputs)
        with torch.no_grad():
            inputs.mul_(1.5)
        return outputs


class AlwaysRandom(Sound):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + torch.rand_like(inputs)


class CutsItsGradient(Sound):
    def __init__(self, in_features: int) -> None:
        super().__init__(in_features)
        self.unused = nn.Parameter(torch.zeros(in_features))


class WrongGradient(Sound):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) * inputs.detach().abs().mean((1, 2), keepdim=True)


class KeepsWeightsOutside(Sound):
    def __init__(self, in_features: int) -> None:
        super().__init__(in_features)
        self.drawn = torch.randn(in_features)

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + self.drawn.to(inputs)


class AlwaysFloat32(Sound):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + torch.ones(inputs.shape[-1], device=inputs.device).double()


class BranchesOnValues(Sound):
    def forward(self, inputs: Tensor) -> Tensor:
        outputs = super().forward(inputs)
        if inputs.device.type != "meta" and float(inputs.sum()) > 1e9:
            return outputs * 2
        return outputs


class FlattensTheBatch(Sound):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs).flatten(0, 1)


class Holds(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
