"""Initialisers: each fills a tensor in place and returns it; and one function that applies them by name pattern.

A weight is [out, in, *kernel]: fan_in is in times the kernel's places, fan_out is out times the same. VARIANCES
tells what each promises.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from groundup.core.errors import RecipeError
from groundup.core.patterns import matching
from groundup.core.report import StartedWeight
from groundup.core.use import Use, make

__all__ = [
    "constant",
    "gpt2",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "mup",
    "normal",
    "orthogonal",
    "sparse",
    "truncated_normal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Fan = Literal["in", "out", "average"]


def uniform(tensor: Tensor, low: float = -0.05, high: float = 0.05, generator: Generator | None = None) -> Tensor:
    """Uniform on [low, high): variance (high - low)^2 / 12."""
    return nn.init.uniform_(tensor, low, high, generator=generator)


def normal(tensor: Tensor, std: float = 0.02, mean: float = 0.0, generator: Generator | None = None) -> Tensor:
    """Normal with this mean and standard deviation: variance std^2."""
    return nn.init.normal_(tensor, mean, std, generator=generator)


def truncated_normal(
    tensor: Tensor, std: float = 0.02, mean: float = 0.0, cut: float = 2.0, generator: Generator | None = None
) -> Tensor:
    """Normal without what lies more than ``cut`` standard deviations from the mean (its variance shrinks by that)."""
    return nn.init.trunc_normal_(tensor, mean, std, mean - cut * std, mean + cut * std, generator=generator)


def constant(tensor: Tensor, value: float, generator: Generator | None = None) -> Tensor:
    """Every element the same value: variance 0."""
    return nn.init.constant_(tensor, value)


def zeros(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Every element 0."""
    return nn.init.zeros_(tensor)


def orthogonal(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Orthonormal rows or columns, whichever are fewer, times ``gain``: variance gain^2 / max(out, fan_in).

    Saxe et al. 2014.
    """
    fans(tensor)
    return nn.init.orthogonal_(tensor, gain, generator=generator)


def sparse(tensor: Tensor, sparsity: float = 0.9, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Normal(0, std) with a share ``sparsity`` of each unit's inputs 0. Martens 2010, section 5."""
    fans(tensor)
    if not 0 <= sparsity < 1:
        raise RecipeError(f"init sparse.sparsity: read {sparsity}, expected at least 0 and less than 1.")
    with torch.no_grad():
        tensor.normal_(0.0, std, generator=generator)
        rows = tensor.view(len(tensor), -1)
        silent = math.ceil(sparsity * rows.shape[1])
        order = torch.rand(rows.shape, generator=generator, device=rows.device).argsort(dim=1)
        rows.masked_fill_(order < silent, 0.0)
    return tensor


def identity(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """What comes in goes out, times ``gain``: 1 on the diagonal, and in a kernel's middle alone (a delta); else 0.

    Outputs beyond the inputs, and inputs beyond the outputs, stay 0. Le et al. 2015; Xiao et al. 2018, section 3.
    """
    fans(tensor)
    with torch.no_grad():
        tensor.zero_()
        middle = tuple(size // 2 for size in tensor.shape[2:])
        for unit in range(min(tensor.shape[:2])):
            tensor[(unit, unit, *middle)] = gain
    return tensor


def he_normal(tensor: Tensor, fan: Fan = "in", slope: float = 0.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance 2 / ((1 + slope^2) * fan), for relu, or leaky relu of that slope. He et al. 2015, eq. 10.

    ``fan`` "in" keeps the variance on the way forward, "out" on the way back, "average" in between.
    """
    return nn.init.normal_(tensor, 0.0, math.sqrt(2.0 / (1 + slope**2) / _fan(tensor, fan)), generator=generator)


def he_uniform(tensor: Tensor, fan: Fan = "in", slope: float = 0.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance 2 / ((1 + slope^2) * fan), for relu, or leaky relu of that slope. He et al. 2015.

    The bound is sqrt(3) times the standard deviation.
    """
    bound = math.sqrt(6.0 / (1 + slope**2) / _fan(tensor, fan))
    return nn.init.uniform_(tensor, -bound, bound, generator=generator)


def xavier_normal(
    tensor: Tensor, gain: float = 1.0, fan: Fan = "average", generator: Generator | None = None
) -> Tensor:
    """Normal with variance gain^2 / fan, the average of fan_in and fan_out. Glorot and Bengio 2010, equation 12."""
    return nn.init.normal_(tensor, 0.0, gain / math.sqrt(_fan(tensor, fan)), generator=generator)


def xavier_uniform(
    tensor: Tensor, gain: float = 1.0, fan: Fan = "average", generator: Generator | None = None
) -> Tensor:
    """Uniform with variance gain^2 / fan, the average of fan_in and fan_out. Glorot and Bengio 2010, equation 16."""
    bound = gain * math.sqrt(3.0 / _fan(tensor, fan))
    return nn.init.uniform_(tensor, -bound, bound, generator=generator)


def lecun_normal(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Normal with variance 1 / fan_in, for tanh and selu. LeCun et al. 1998, section 4.6."""
    return nn.init.normal_(tensor, 0.0, math.sqrt(1.0 / fans(tensor)[0]), generator=generator)


def lecun_uniform(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Uniform with variance 1 / fan_in: bound sqrt(3 / fan_in). LeCun et al. 1998, section 4.6."""
    bound = math.sqrt(3.0 / fans(tensor)[0])
    return nn.init.uniform_(tensor, -bound, bound, generator=generator)


def gpt2(tensor: Tensor, num_layers: int = 0, std: float = 0.02, generator: Generator | None = None) -> Tensor:
    """Normal(0, std), divided by sqrt(2 * num_layers) for weights that write into the residual stream.

    ``num_layers=0`` is for all other weights. Radford et al. 2019, section 2.3.
    """
    return nn.init.normal_(tensor, 0.0, std / math.sqrt(max(1, 2 * num_layers)), generator=generator)


def mup(
    tensor: Tensor,
    base_width: int,
    role: Literal["hidden", "input", "output"] = "hidden",
    std: float = 0.02,
    generator: Generator | None = None,
) -> Tensor:
    """Normal whose scale carries over from a net of ``base_width`` to wider ones (maximal update parametrisation).

    Variance std^2 * base_width / fan_in for hidden weights, std^2 for input weights, std^2 * (base_width / fan_in)^2
    for the output's. With Adam, learning rates of hidden and output weights are then to be scaled by base_width /
    fan_in: ``training.groups`` with ``lr_scale``. Yang et al. 2022 (Tensor Programs V), table 8.
    """
    return nn.init.normal_(tensor, 0.0, std * _mup_share(role, base_width, fans(tensor)[0]), generator=generator)


def _mup_share(role: str, base_width: int, fan_in: int) -> float:
    return {"hidden": math.sqrt(base_width / fan_in), "input": 1.0, "output": base_width / fan_in}[role]


def _truncation(cut: float) -> float:
    """The variance that is left of a normal's 1 when what lies beyond +-cut is drawn anew."""
    density = math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi)
    return 1 - 2 * cut * density / math.erf(cut / math.sqrt(2))


Formula = Callable[[int, int, Mapping[str, Any]], float]

VARIANCES: Mapping[str, Formula] = {
    "constant": lambda i, o, given: 0.0,
    "zeros": lambda i, o, given: 0.0,
    "uniform": lambda i, o, given: (given["high"] - given["low"]) ** 2 / 12,
    "normal": lambda i, o, given: given["std"] ** 2,
    "truncated_normal": lambda i, o, given: given["std"] ** 2 * _truncation(given["cut"]),
    "orthogonal": lambda i, o, given: given["gain"] ** 2 / max(i, given["rows"]),
    "sparse": lambda i, o, given: given["std"] ** 2 * (1 - math.ceil(given["sparsity"] * i) / i),
    "he_normal": lambda i, o, given: 2 / (1 + given["slope"] ** 2) / _of(i, o, given["fan"]),
    "he_uniform": lambda i, o, given: 2 / (1 + given["slope"] ** 2) / _of(i, o, given["fan"]),
    "xavier_normal": lambda i, o, given: given["gain"] ** 2 / _of(i, o, given["fan"]),
    "xavier_uniform": lambda i, o, given: given["gain"] ** 2 / _of(i, o, given["fan"]),
    "lecun_normal": lambda i, o, given: 1 / i,
    "lecun_uniform": lambda i, o, given: 1 / i,
    "gpt2": lambda i, o, given: given["std"] ** 2 / max(1, 2 * given["num_layers"]),
    "mup": lambda i, o, given: (given["std"] * _mup_share(given["role"], given["base_width"], i)) ** 2,
}
"""Initialiser -> the variance it promises, from fan_in, fan_out and its options. ``identity`` is not drawn."""


def promised_variance(initialiser: Callable[..., object], tensor: Tensor) -> float | None:
    """The variance that an initialiser, with its options bound, promises for this tensor; None where it is not ours."""
    options: dict[str, Any] = {}
    if isinstance(initialiser, functools.partial):
        options, initialiser = dict(initialiser.keywords), initialiser.func
    name = getattr(initialiser, "__name__", "")
    if name not in VARIANCES or globals().get(name) is not initialiser:
        return None
    defaults = {n: p.default for n, p in inspect.signature(initialiser).parameters.items()}
    fan_in, fan_out = fans(tensor) if tensor.ndim >= 2 else (0, 0)
    return VARIANCES[name](fan_in, fan_out, {**defaults, **options, "rows": len(tensor)})


def _fan(tensor: Tensor, fan: Fan) -> float:
    return _of(*fans(tensor), fan)


def _of(fan_in: int, fan_out: int, fan: str) -> float:
    found = {"in": fan_in, "out": fan_out, "average": (fan_in + fan_out) / 2}
    if fan not in found:
        raise RecipeError(f"init.fan: read {fan!r}, expected 'in', 'out' or 'average'.")
    return found[fan]


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight [out, in, *kernel]; a tensor with fewer than two dimensions has none."""
    if tensor.ndim < 2:
        raise RecipeError(
            f"init: a tensor of shape {tuple(tensor.shape)} has no fan_in; choose a pattern that matches matrices "
            "alone, such as '*.weight', or zeros, constant, normal or uniform for it."
        )
    places = math.prod(tensor.shape[2:])
    return tensor.shape[1] * places, tensor.shape[0] * places


def initialise(model: nn.Module, rules: Sequence[tuple[str, Callable[[Tensor], object]]]) -> list[str]:
    """Fill each parameter whose name matches a rule's pattern by its function, rule by rule; the names filled.

    Raises RecipeError for a pattern that matches no parameter, or one that its function cannot fill.
    """
    parameters = dict(model.named_parameters())
    filled: dict[str, None] = {}
    for index, (pattern, function) in enumerate(rules):
        for name in matching(parameters, pattern, f"init[{index}].where"):
            try:
                _fill(parameters[name], function)
            except (RecipeError, ValueError, RuntimeError) as error:
                said = str(error).removeprefix("init: ")
                raise RecipeError(f"init[{index}].where: {pattern!r} matches {name!r}: {said}") from error
            filled[name] = None
    return list(filled)


def started_weights(model: nn.Module) -> tuple[StartedWeight, ...]:
    """Every parameter that an initialiser filled: the deviation that it promises, and the one that is there.

    Those that torch filled by its own defaults are not among them, nor the gates of recurrent layers.
    """
    found = []
    for name, parameter in model.named_parameters():
        function = getattr(parameter, FILLED_BY, None)
        if function is None or parameter.is_meta:
            continue
        promised = promised_variance(function, parameter)
        plain = function.func if isinstance(function, functools.partial) else function
        called = getattr(plain, "__name__", type(plain).__name__)
        deviation = None if promised is None else math.sqrt(promised)
        actual = float(parameter.detach().float().std(correction=0))
        found.append(StartedWeight(name, called, deviation, actual, parameter.numel()))
    return tuple(found)


FILLED_BY = "filled_by"
"""The attribute of a parameter that holds the initialiser which filled it last."""


def _fill(parameter: Tensor, function: Callable[[Tensor], object]) -> None:
    with torch.no_grad():
        function(parameter)
    setattr(parameter, FILLED_BY, function)


def start(weight: Tensor, bias: Tensor | None, init: Use | Callable[[Tensor], object] | None) -> None:
    """What a layer's ``init`` argument does: fill the weight, set the bias to zero; None leaves torch's own values."""
    if init is None:
        return
    function = make(init, "init") if isinstance(init, Use) else init
    if not callable(function):
        raise RecipeError(f"init: read {init!r}, expected an initialiser such as {{ use = 'he_normal' }}.")
    _fill(weight, function)
    if bias is not None:
        nn.init.zeros_(bias)
