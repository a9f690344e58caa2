"""Initialisers: each fills a tensor in place and returns it; and one function that applies them by name pattern.

A weight is [out, in, *kernel]: fan_in is in times the kernel's places, fan_out is out times the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from groundup.core.errors import RecipeError
from groundup.core.patterns import matching
from groundup.core.use import Use, make

__all__ = [
    "constant",
    "gpt2",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "normal",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]


def uniform(tensor: Tensor, low: float = -0.05, high: float = 0.05, generator: Generator | None = None) -> Tensor:
    """Uniform on [low, high)."""
    return nn.init.uniform_(tensor, low, high, generator=generator)


def normal(tensor: Tensor, std: float = 0.02, mean: float = 0.0, generator: Generator | None = None) -> Tensor:
    """Normal with this mean and standard deviation."""
    return nn.init.normal_(tensor, mean, std, generator=generator)


def truncated_normal(
    tensor: Tensor, std: float = 0.02, mean: float = 0.0, cut: float = 2.0, generator: Generator | None = None
) -> Tensor:
    """Normal without what lies more than ``cut`` standard deviations from the mean (its variance shrinks by that)."""
    return nn.init.trunc_normal_(tensor, mean, std, mean - cut * std, mean + cut * std, generator=generator)


def constant(tensor: Tensor, value: float, generator: Generator | None = None) -> Tensor:
    """Every element the same value."""
    return nn.init.constant_(tensor, value)


def zeros(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Every element 0."""
    return nn.init.zeros_(tensor)


def orthogonal(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Orthonormal rows or columns, whichever are fewer, times ``gain``. Saxe et al. 2014."""
    fans(tensor)
    return nn.init.orthogonal_(tensor, gain, generator=generator)


def he_normal(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Normal with variance 2 / fan_in, for relu. He et al. 2015, equation 10."""
    return nn.init.normal_(tensor, 0.0, math.sqrt(2.0 / fans(tensor)[0]), generator=generator)


def he_uniform(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Uniform with variance 2 / fan_in, for relu: bound sqrt(6 / fan_in). He et al. 2015."""
    bound = math.sqrt(6.0 / fans(tensor)[0])
    return nn.init.uniform_(tensor, -bound, bound, generator=generator)


def xavier_normal(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance gain^2 * 2 / (fan_in + fan_out). Glorot and Bengio 2010, equation 12."""
    return nn.init.normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(fans(tensor))), generator=generator)


def xavier_uniform(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance gain^2 * 2 / (fan_in + fan_out). Glorot and Bengio 2010, equation 16."""
    bound = gain * math.sqrt(6.0 / sum(fans(tensor)))
    return nn.init.uniform_(tensor, -bound, bound, generator=generator)


def lecun_normal(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Normal with variance 1 / fan_in, for tanh and selu. LeCun et al. 1998, section 4.6."""
    return nn.init.normal_(tensor, 0.0, math.sqrt(1.0 / fans(tensor)[0]), generator=generator)


def gpt2(tensor: Tensor, num_layers: int = 0, std: float = 0.02, generator: Generator | None = None) -> Tensor:
    """Normal(0, std), divided by sqrt(2 * num_layers) for weights that write into the residual stream.

    ``num_layers=0`` is for all other weights. Radford et al. 2019, section 2.3.
    """
    return nn.init.normal_(tensor, 0.0, std / math.sqrt(max(1, 2 * num_layers)), generator=generator)


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight [out, in, *kernel]; a tensor with fewer than two dimensions has none."""
    if tensor.ndim < 2:
        raise RecipeError(
            f"init: a tensor of shape {tuple(tensor.shape)} has no fan_in; "
            "choose a pattern that matches weights alone, or zeros, constant, normal or uniform for it."
        )
    places = math.prod(tensor.shape[2:])
    return tensor.shape[1] * places, tensor.shape[0] * places


def initialise(model: nn.Module, rules: Sequence[tuple[str, Callable[[Tensor], object]]]) -> list[str]:
    """Fill each parameter whose name matches a rule's pattern by its function, rule by rule; the names filled.

    Raises RecipeError for a pattern that matches no parameter.
    """
    parameters = dict(model.named_parameters())
    filled: dict[str, None] = {}
    for index, (pattern, function) in enumerate(rules):
        for name in matching(parameters, pattern, f"init[{index}].where"):
            with torch.no_grad():
                function(parameters[name])
            filled[name] = None
    return list(filled)


def start(weight: Tensor, bias: Tensor | None, init: Use | Callable[[Tensor], object] | None) -> None:
    """What a layer's ``init`` argument does: fill the weight, set the bias to zero; None leaves torch's own values."""
    if init is None:
        return
    function = make(init, "init") if isinstance(init, Use) else init
    if not callable(function):
        raise RecipeError(f"init: read {init!r}, expected an initialiser such as {{ use = 'he_normal' }}.")
    with torch.no_grad():
        function(weight)
        if bias is not None:
            nn.init.zeros_(bias)
