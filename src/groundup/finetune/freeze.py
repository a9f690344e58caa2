"""Which parameters train: chosen by name pattern, as a method of fine-tuning or beside one."""

from __future__ import annotations

from torch import nn

from groundup.core.errors import RecipeError
from groundup.core.patterns import matching
from groundup.core.recipe import Group


def full(model: nn.Module) -> nn.Module:
    """Train every parameter."""
    return unfreeze(model)


def freeze(model: nn.Module, where: str = "*") -> nn.Module:
    """Train no parameter whose name matches; the others stay as they are. The model, changed in place.

    Raises RecipeError when nothing matches.
    """
    return _set(model, where, "freeze.where", trains=False)


def unfreeze(model: nn.Module, where: str = "*") -> nn.Module:
    """Train each parameter whose name matches; the others stay as they are. The model, changed in place.

    Raises RecipeError when nothing matches.
    """
    return _set(model, where, "unfreeze.where", trains=True)


def only(model: nn.Module, where: str) -> nn.Module:
    """Train the parameters whose names match and no others, such as a new head. The model, changed in place.

    Raises RecipeError when nothing matches.
    """
    matching(dict(model.named_parameters()), where, "only.where")  # complain before anything is changed
    return _set(freeze(model), where, "only.where", trains=True)


def layerwise(model: nn.Module, decay: float = 0.8, blocks: str = "blocks") -> tuple[Group, ...]:
    """Parameter groups whose learning rate falls by ``decay`` per block from the last to the first.

    What stands before the blocks gets the first block's rate times ``decay``; all else keeps the full rate.
    Howard and Ruder 2018, section 3.2 (there 1 / 2.6).
    """
    names = [name for name, _ in model.named_children()]
    if blocks not in names:
        raise RecipeError(f"layerwise.blocks: the model has no {blocks!r}; it has {', '.join(names)}.")
    count = len(list(model.get_submodule(blocks).children()))
    groups = [Group(where=f"{blocks}.{i}.*", lr_scale=decay ** (count - 1 - i)) for i in range(count)]
    before = [
        name for name in names[: names.index(blocks)] if any(True for _ in model.get_submodule(name).parameters())
    ]
    return (*(Group(where=f"{name}.*", lr_scale=decay**count) for name in before), *groups)


def _set(model: nn.Module, where: str, said: str, *, trains: bool) -> nn.Module:
    parameters = dict(model.named_parameters())
    for name in matching(parameters, where, said):
        parameters[name].requires_grad_(trains)
    return model
