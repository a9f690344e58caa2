"""A model that cannot take what it is given: at which layer, what reached it, and what would fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from groundup.core.errors import GroundupError, RecipeError

SHOWN = 6
"""How many of the layers before the one that failed are told."""

SIZES = ("in_features", "in_channels", "input_size", "num_features", "embed_dim")
"""Attributes by which layers, torch's own too, keep the size that they were made for."""

Shape = tuple[int, ...] | None


@dataclasses.dataclass
class _Trail:
    """Calls that are under way, from the outermost in, and leaves that have ended."""

    names: dict[nn.Module, str]
    under_way: list[tuple[nn.Module, Shape]] = dataclasses.field(default_factory=list)
    ended: list[str] = dataclasses.field(default_factory=list)

    def enter(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.under_way.append((module, _shape((*inputs, *named.values()))))

    def leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        while self.under_way:
            last, given = self.under_way.pop()
            if last is module:
                if not list(module.children()):
                    gives = _shape(output if isinstance(output, (tuple, list)) else (output,))
                    self.ended.append(f"{self.called(module)} {given} -> {gives}")
                return

    def called(self, module: nn.Module) -> str:
        name, kind = self.names[module], type(module).__name__
        return f"{name} ({kind})" if name else f"the {kind} itself"


@contextmanager
def layers_named(model: nn.Module, where: str = "recipe.model") -> Iterator[None]:
    """Within, a layer that cannot take what reaches it makes a RecipeError: its place, the shapes so far, what fits.

    What fails behind the model, in its loss, is told as such. Other errors, and those of memory, pass.
    """
    trail = _Trail({module: name for name, module in model.named_modules()})
    handles = []
    for module in trail.names:
        handles += [
            module.register_forward_pre_hook(trail.enter, with_kwargs=True),
            module.register_forward_hook(trail.leave),
        ]
    try:
        yield
    except (GroundupError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise RecipeError(_told(trail, where, error)) from error
    finally:
        for handle in handles:
            handle.remove()


def _told(trail: _Trail, where: str, error: Exception) -> str:
    kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
    said = f"{kind}{' '.join(str(error).split())}".rstrip(".")
    left_out = len(trail.ended) - SHOWN
    so_far = "; ".join(trail.ended[-SHOWN:])
    so_far = f" So far: {'... ' if left_out > 0 else ''}{so_far}." if so_far else ""
    if not trail.under_way:
        return f"recipe.training.objective: it cannot take what the model gives and the targets: {said}.{so_far}"
    module, given = trail.under_way[-1]
    sizes = [f"{size} = {value}" for size in SIZES if isinstance(value := getattr(module, size, None), int)]
    made_for = f" It was made for {', '.join(sizes)}." if sizes else ""
    return f"{where}: {trail.called(module)} does not fit the shape {given}: {said}.{made_for}{so_far}"


def _shape(values: Sequence[Any]) -> Shape:
    """The first tensor's, without the batch."""
    return next((tuple(value.shape[1:]) for value in values if isinstance(value, Tensor)), None)
