"""The fully connected layer."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use
from groundup.nn.init import start


class Dense(nn.Linear):
    """outputs = inputs @ weight.T + bias, over the last dimension: [..., in_features] -> [..., features].

    ``features`` left open takes ``out_features``, which a Sequential gives to its last layer.
    ``init`` fills the weight and sets the bias to zero; without it torch's default stays.
    """

    def __init__(
        self,
        features: int | None = None,
        *,
        in_features: int,
        out_features: int | None = None,
        bias: bool = True,
        init: Use | Callable[[Tensor], object] | None = None,
    ) -> None:
        width = features if features is not None else out_features
        if width is None:
            raise RecipeError("Dense: the number of outputs is not known; add features, such as features = 64.")
        super().__init__(in_features, width, bias=bias)
        start(self.weight, self.bias, init)
