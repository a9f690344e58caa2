"""Layers one after the other, without anybody typing an input width: each is made for the shape that reaches it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from groundup.core.errors import GroundupError, RecipeError
from groundup.core.use import Use, make, resolve

Shape = tuple[int, ...]


class Sequential(nn.Module):
    """Each layer's output is the next one's input: [B, *input_shape] -> [B, out_features], or as the layers have it.

    A layer is offered what it may need of the shape that reaches it: ``in_features`` (the last size),
    ``in_channels`` (the first) and ``input_shape``. The last layer whose size is open takes ``out_features``.
    Raises RecipeError that names the layer's place and the shapes so far when one does not fit.

    >>> Sequential([Use("Flatten"), Use("Dense", features=32), Use("ReLU"), Use("Dense")], (1, 8, 8), 10)
    """

    def __init__(self, layers: Sequence[Use], input_shape: Sequence[int], out_features: int | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        open_place = _last_open(layers) if out_features is not None else None
        path: list[tuple[str, Shape]] = [("input", tuple(input_shape))]
        for place, use in enumerate(layers):
            layer = _make(use, place, path, out_features if place == open_place else None)
            path.append((use.target.rpartition(":")[2], _shape_after(layer, place, path, use.arguments)))
            self.layers.append(layer)
        if out_features is not None and path[-1][1] != (out_features,):
            raise RecipeError(
                f"layers: the last one gives {path[-1][1]}, the data needs ({out_features},). So far: {_show(path)}. "
                "Let the last Dense have no features of its own; for images put Flatten or GlobalAveragePool2d before "
                "it, for series LastStep."
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, *input_shape] -> the last layer's output."""
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs


class Residual(nn.Module):
    """inputs + layers(inputs), for layers that give back the shape they take. He et al. 2016, equation 1.

    The last layer whose size is open takes the input's.
    """

    def __init__(self, layers: Sequence[Use], *, input_shape: Sequence[int]) -> None:
        super().__init__()
        flat = input_shape[0] if len(input_shape) == 1 else None
        self.inner = Sequential(layers, input_shape, flat)
        path = [("input", tuple(input_shape))]
        path.append(("layers", _shape_after(self.inner, 0, path)))
        if path[0][1] != path[1][1]:
            raise RecipeError(f"the layers of a Residual must give back the shape they take: {_show(path)}.")

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, *shape] -> [B, *shape]."""
        outputs: Tensor = inputs + self.inner(inputs)
        return outputs


class Function(nn.Module):
    """A function as a layer, so that a list of layers may name one, such as torch.nn.functional:relu6."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        """What the function makes of the inputs."""
        return self.function(inputs)


def _make(use: Use, place: int, path: list[tuple[str, Shape]], out_features: int | None) -> nn.Module:
    if not isinstance(use, Use):
        raise RecipeError(f"layers[{place}]: read {use!r}, expected a call such as Use('Dense', features=64).")
    shape = path[-1][1]
    available: dict[str, Any] = {"input_shape": shape}
    if shape:
        available |= {"in_features": shape[-1], "in_channels": shape[0]}
    if out_features is not None:
        available["out_features"] = out_features
    try:
        layer = make(use, "layers", where=f"layers[{place}]", **available)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(f"layers[{place}] ({use.target}): {error}. So far: {_show(path)}.") from error
    except GroundupError as error:
        if f"layers[{place}]" in str(error):
            raise
        raise RecipeError(f"layers[{place}]: {error} So far: {_show(path)}.") from error
    return layer if isinstance(layer, nn.Module) else Function(layer)


def _shape_after(
    layer: nn.Module, place: int, path: list[tuple[str, Shape]], given: Mapping[str, Any] | None = None
) -> Shape:
    """The shape a layer gives, found by one forward of a single sample in evaluation mode (on the meta device too)."""
    shape = path[-1][1]
    takes = getattr(layer, "takes", None)
    wanted = f" It takes ({', '.join(takes)})." if takes else ""
    if typed := [name for name in ("in_features", "in_channels", "input_shape") if name in (given or {})]:
        wanted += f" Leave {' and '.join(typed)} out: it is filled in."
    where = f"layers[{place}] ({type(layer).__name__}) does not fit the shape {shape}"
    if takes and len(takes) != len(shape):
        raise RecipeError(f"{where}.{wanted} So far: {_show(path)}.")
    dtype = torch.int64 if isinstance(layer, nn.Embedding) else None
    was_training = layer.training
    layer.eval()
    try:
        with torch.no_grad():
            output: Tensor = layer(torch.zeros((1, *shape), dtype=dtype))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise RecipeError(f"{where}: {error}.{wanted} So far: {_show(path)}.") from error
    finally:
        layer.train(was_training)
    return tuple(output.shape[1:])


def _last_open(layers: Sequence[Use]) -> int | None:
    """The place of the last layer that takes ``out_features`` and whose size the recipe leaves open."""
    for place in range(len(layers) - 1, -1, -1):
        if not isinstance(layers[place], Use):
            continue  # refused when its turn comes
        found = resolve(layers[place].target, "layers", where=f"layers[{place}]")
        given = layers[place].arguments
        if "out_features" in inspect.signature(found).parameters:
            return place if given.get("features") is None and given.get("out_features") is None else None
    return None


def _show(path: list[tuple[str, Shape]]) -> str:
    return " -> ".join(f"{name} {shape}" for name, shape in path)
