"""Losses of values: how far an output lies from its target, or how likely it makes it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.core.errors import RecipeError
from groundup.nn.losses.reading import alike, several


def mse(output: Tensor, targets: Tensor) -> Tensor:
    """Mean of (output - target)^2. Shapes equal, or output with one more dimension of size 1."""
    return F.mse_loss(*alike(output, targets))


def mae(output: Tensor, targets: Tensor) -> Tensor:
    """Mean of |output - target|. Shapes equal, or output with one more dimension of size 1."""
    return F.l1_loss(*alike(output, targets))


def huber(output: Tensor, targets: Tensor, delta: float = 1.0) -> Tensor:
    """Mean of e^2 / 2 where |e| <= delta, of delta * (|e| - delta / 2) beyond, e = output - target. Huber 1964."""
    return F.huber_loss(*alike(output, targets), delta=delta)


def quantile(output: Tensor, targets: Tensor, quantiles: Sequence[float] = (0.5,)) -> Tensor:
    """Mean of max(q * e, (q - 1) * e), e = target - output: what an output that is the q-quantile makes smallest.

    One quantile: shapes as for ``mse``. Several: output [..., Q] for targets [...], as ``ValueHead`` with
    ``per_value = Q`` gives it. Koenker and Bassett 1978, equation 3.1. Raises RecipeError for q outside (0, 1).
    """
    if not quantiles or not all(0 < q < 1 for q in quantiles):
        raise RecipeError(f"loss.quantiles: read {list(quantiles)}, expected numbers between 0 and 1.")
    if len(quantiles) == 1:
        found, wanted = (values[..., None] for values in alike(output, targets))
    else:
        found, wanted = several(output, targets, len(quantiles), f"{len(quantiles)} quantiles")
        wanted = wanted[..., None]
    shares = found.new_tensor(list(quantiles))
    errors = wanted - found
    return torch.maximum(shares * errors, (shares - 1) * errors).mean()


def poisson(output: Tensor, targets: Tensor) -> Tensor:
    """Mean of exp(output) - target * output + log(target!): counts whose rate is exp(output).

    Shapes as for ``mse``. The last term holds no output; with it the loss is the negative log-likelihood itself.
    """
    log_rates, counts = alike(output, targets)
    return (log_rates.exp() - counts * log_rates + torch.lgamma(counts + 1)).mean()


def gaussian(output: Tensor, targets: Tensor, least_variance: float = 1e-6) -> Tensor:
    """Mean of (log(2 pi v) + (target - m)^2 / v) / 2: the negative log-likelihood of a normal m, v for each target.

    output [..., 2] holds m and log v, as ``ValueHead`` with ``per_value = 2`` gives it. ``least_variance`` is added
    to v. Nix and Weigend 1994, equation 5.
    """
    found, wanted = several(output, targets, 2, "a mean and the logarithm of a variance")
    variance = found[..., 1].exp() + least_variance
    return 0.5 * (math.log(2 * math.pi) + variance.log() + (wanted - found[..., 0]).square() / variance).mean()
