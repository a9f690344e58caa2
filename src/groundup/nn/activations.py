"""Activations as functions, for an argument, and as layers of the same name in capitals, for a list of layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import ELU, GELU, LeakyReLU, Mish, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh

__all__ = [
    "ELU",
    "GELU",
    "LeakyReLU",
    "Mish",
    "ReLU",
    "ReLUSquared",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "elu",
    "geglu",
    "gelu",
    "gelu_tanh",
    "hardswish",
    "leaky_relu",
    "mish",
    "quick_gelu",
    "relu",
    "relu6",
    "relu_squared",
    "sigmoid",
    "silu",
    "softplus",
    "swiglu",
    "tanh",
]


def relu(inputs: Tensor) -> Tensor:
    """max(0, x). Nair and Hinton 2010."""
    return F.relu(inputs)


def relu_squared(inputs: Tensor) -> Tensor:
    """max(0, x) squared. So et al. 2021 (Primer), section 3."""
    return F.relu(inputs).square()


def leaky_relu(inputs: Tensor, slope: float = 0.01) -> Tensor:
    """x where positive, slope * x elsewhere. Maas et al. 2013."""
    return F.leaky_relu(inputs, slope)


def elu(inputs: Tensor, alpha: float = 1.0) -> Tensor:
    """x where positive, alpha * (exp(x) - 1) elsewhere. Clevert et al. 2016."""
    return F.elu(inputs, alpha)


def gelu(inputs: Tensor) -> Tensor:
    """x * P(Z <= x) for a standard normal Z. Hendrycks and Gimpel 2016."""
    return F.gelu(inputs)


def gelu_tanh(inputs: Tensor) -> Tensor:
    """gelu by tanh(sqrt(2 / pi) (x + 0.044715 x^3)), as GPT-2 and Gemma have it. Hendrycks and Gimpel 2016."""
    return F.gelu(inputs, approximate="tanh")


def quick_gelu(inputs: Tensor) -> Tensor:
    """x * sigmoid(1.702 x). Hendrycks and Gimpel 2016, section 2."""
    return inputs * torch.sigmoid(1.702 * inputs)


def relu6(inputs: Tensor) -> Tensor:
    """min(max(0, x), 6). Krizhevsky 2010."""
    return F.relu6(inputs)


def hardswish(inputs: Tensor) -> Tensor:
    """x * relu6(x + 3) / 6. Howard et al. 2019, section 5.2."""
    return F.hardswish(inputs)


def silu(inputs: Tensor) -> Tensor:
    """x * sigmoid(x), also called swish. Elfwing et al. 2017."""
    return F.silu(inputs)


def mish(inputs: Tensor) -> Tensor:
    """x * tanh(softplus(x)). Misra 2019."""
    return F.mish(inputs)


def softplus(inputs: Tensor) -> Tensor:
    """log(1 + exp(x)), a smooth relu."""
    return F.softplus(inputs)


def sigmoid(inputs: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid(inputs)


def tanh(inputs: Tensor) -> Tensor:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return torch.tanh(inputs)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, element by element. Shazeer 2020 (GLU variants), equation 6."""
    return F.silu(gate) * up


def geglu(gate: Tensor, up: Tensor) -> Tensor:
    """gelu(gate) * up, element by element. Shazeer 2020 (GLU variants), equation 6."""
    return F.gelu(gate) * up


class ReLUSquared(nn.Module):
    """max(0, x) squared. So et al. 2021 (Primer), section 3."""

    def forward(self, inputs: Tensor) -> Tensor:
        """[...] -> [...]."""
        return relu_squared(inputs)
