"""torch's optimizers with the arguments a recipe writes, and its fused kernels wherever they run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


class SGD(torch.optim.SGD):
    """Stochastic gradient descent: ``buffer = momentum * buffer + gradient; weight -= lr * buffer``.

    ``nesterov`` looks one step ahead along the buffer. Weight decay is added to the gradient.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        fused: bool | None = None,
    ) -> None:
        params, fused = _fused(params, fused)
        super().__init__(params, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused)


class Adam(torch.optim.Adam):
    """Adam: the gradient's running mean over the root of its running mean square. Source: Kingma and Ba, 2015.

    ``betas`` are how much of either mean is kept each step. Weight decay is added to the gradient;
    ``AdamW`` keeps them apart and is nearly always the better choice.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        fused: bool | None = None,
    ) -> None:
        params, fused = _fused(params, fused)
        super().__init__(params, lr, betas, eps, weight_decay, fused=fused)


class AdamW(torch.optim.AdamW):
    """Adam with the weight decay apart from the gradient. Source: Loshchilov and Hutter, 2019.

    Each step shrinks the weights by ``lr * weight_decay`` and then moves them as Adam does.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        fused: bool | None = None,
    ) -> None:
        params, fused = _fused(params, fused)
        super().__init__(params, lr, betas, eps, weight_decay, fused=fused)


class Lion(torch.optim.Optimizer):
    """Steps by the sign of a mix of gradient and momentum: half of Adam's memory. Source: Chen et al., 2023.

    Takes a learning rate 3 to 10 times smaller, and a weight decay as much larger, than AdamW.
    """

    def __init__(
        self, params: ParamsT, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = loss_of(closure)
        for group in self.param_groups:
            first, second = group["betas"]
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                self.state[p].setdefault("momentum", torch.zeros_like(p))
            momenta = [self.state[p]["momentum"] for p in params]
            gradients = cast("list[Tensor]", [p.grad for p in params])
            directions = torch._foreach_sign(torch._foreach_lerp(gradients, momenta, first))
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(params, directions, alpha=-group["lr"])
            torch._foreach_lerp_(momenta, gradients, 1 - second)
        return loss


def loss_of(closure: Callable[[], float] | None) -> float | None:
    """What a closure gives, its gradients kept while the step itself has none."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _fused(params: ParamsT, fused: bool | None) -> tuple[ParamsT, bool]:
    """The parameters as a list, and whether to take the fused kernel: as asked, else where there is one."""
    listed: list[Any] = [params] if isinstance(params, Tensor) else list(params)
    return listed, fused_runs(itertools.chain.from_iterable(map(_tensors, listed))) if fused is None else fused


def fused_runs(tensors: Iterable[Tensor]) -> bool:
    """Whether torch has a fused optimizer kernel for all of these."""
    return all(tensor.is_floating_point() and tensor.device.type in FUSED_DEVICES for tensor in tensors)


def _tensors(item: Any) -> list[Tensor]:
    """The tensors of one parameter, one (name, parameter), or one group."""
    if isinstance(item, dict):
        inner = item["params"]
        item["params"] = [inner] if isinstance(inner, Tensor) else list(inner)  # a generator would be used up
        return [tensor for part in item["params"] for tensor in _tensors(part)]
    return [item[1] if isinstance(item, tuple) else item]
