"""The one verb that changes a built model: LoRA, quantised layers, a new attention or head."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from groundup.core.errors import RecipeError
from groundup.core.patterns import matching
from groundup.core.use import Use, make, resolve


def swap(model: nn.Module, where: str, make_new: Callable[[nn.Module], nn.Module] | Use) -> list[str]:
    """Put ``make_new(old)`` in the place of every module whose dotted name matches; the names that were swapped.

    A module inside one that is swapped is left alone. ``make_new`` may return the module it was given. Named in a
    recipe (``with``), a function is called with the old module; a class is constructed, and what the recipe leaves
    open is taken from the old module's attributes of that name, such as in_features and out_features.
    Raises RecipeError, with the nearest name, when nothing matches. Patterns: ``groundup.core.patterns``.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    >>> swap(model, "1", lambda old: nn.GELU())
    ['1']
    """
    modules = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    if isinstance(make_new, Use):
        make_new = _maker(make_new)
    swapped: list[str] = []
    made: dict[nn.Module, nn.Module] = {}  # a module that stands in two places stays one module
    for name in matching(modules, where, "swap.where"):
        parents = name.split(".")[:-1]
        if any(".".join(parents[: i + 1]) in swapped for i in range(len(parents))):
            continue
        old = modules[name]
        if old not in made:
            made[old] = make_new(old)
        if not isinstance(made[old], nn.Module):
            raise RecipeError(f"swap.with: made {type(made[old]).__name__} for {name!r}, expected a torch.nn.Module.")
        model.set_submodule(name, made[old], strict=True)
        swapped.append(name)
    return swapped


def _maker(use: Use) -> Callable[[nn.Module], nn.Module]:
    if not inspect.isclass(resolve(use.target, "with", where="swap.with")):
        function: Callable[[nn.Module], nn.Module] = make(use, "with", where="swap.with")
        return function

    def construct(old: nn.Module) -> nn.Module:
        numbers: dict[str, Any] = {name: value for name, value in vars(old).items() if isinstance(value, (int, float))}
        new: nn.Module = make(use, "with", where="swap.with", **numbers)
        return new

    return construct
