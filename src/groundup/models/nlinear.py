"""NLinear: a window seen from its last value, mapped to the forecast by one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from groundup.models.dlinear import need_target, window_map


class NLinear(nn.Module):
    """The window less its last step through a dense layer, plus the target's last value: [B, T, F] -> [B, outputs].

    Zeng et al., AAAI 2023, section 4. ``individual`` gives each input series a map of its own, and what they say of the
    target is added; without it the target is forecast from its own past alone, as by the paper's shared map, which
    sees no other series. With one input both are the paper's. It begins by answering the window's mean.
    """

    ANSWERS_FROM_INPUTS: ClassVar = True

    def __init__(
        self,
        individual: bool = True,
        *,
        input_shape: Sequence[int],
        out_features: int,
        target_input: int | None = None,
    ) -> None:
        super().__init__()
        self.individual = individual
        self.target_input = need_target(target_input, "NLinear")
        self.map = window_map(input_shape, out_features, target_input, individual)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, out_features]."""
        at = self.target_input
        last = inputs[:, -1, at, None]
        if not self.individual:
            inputs = inputs[:, :, at, None]
        outputs: Tensor = self.map((inputs - inputs[:, -1:]).flatten(1)) + last
        return outputs
