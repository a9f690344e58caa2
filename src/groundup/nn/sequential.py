"""Structures of layers in which nobody types an input width: each layer is made for the shape that reaches it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from groundup.core.errors import GroundupError, RecipeError
from groundup.core.use import Use, make, resolve
from groundup.nn.kinds import IMAGE, ROW, SERIES, VOLUME

Shape = tuple[int, ...]
Path = list[tuple[str, Shape]]
Join = Literal["concatenate", "add", "multiply", "mean"]
JOINS: tuple[str, ...] = get_args(Join)


class LayerError(RecipeError):
    """A layer that cannot stand where it stands; the message begins with its place."""


class Sequential(nn.Module):
    """Each layer's output is the next one's input: [B, *input_shape] -> [B, out_features], or as the layers have it.

    A layer is offered what it may need of the shape that reaches it: ``in_features`` (the last size),
    ``in_channels`` (the first) and ``input_shape``. The last layer whose size is open takes ``out_features``.
    ``tied`` makes one parameter of two: its name -> the one whose values it shares. ``lengths`` [B] of padded series
    go to every layer that takes them. Raises RecipeError that names the layer's place and the shapes so far when one
    does not fit.

    >>> Sequential([Use("Flatten"), Use("Dense", features=32), Use("ReLU"), Use("Dense")], (1, 8, 8), 10)
    """

    def __init__(
        self,
        layers: Sequence[Use],
        input_shape: Sequence[int],
        out_features: int | None = None,
        tied: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        open_place = _last_open(layers) if out_features is not None else None
        self.path: Path = [("input", tuple(input_shape))]
        path = self.path
        for place, use in enumerate(layers):
            where = f"layers[{place}]"
            layer = _make(use, where, path, out_features if place == open_place else None)
            if place and takes_ids(layer):
                kind = type(layer).__name__
                raise LayerError(f"{where} ({kind}) takes whole numbers, and must stand first. So far: {_show(path)}.")
            path.append((use.target.rpartition(":")[2], _shape_after(layer, where, path, use.arguments)))
            self.layers.append(layer)
        self.input_shape, self.output_shape = path[0][1], path[-1][1]
        self.takes_ids = bool(len(self.layers)) and takes_ids(self.layers[0])
        self.own_shape = bool(len(self.layers)) and getattr(self.layers[-1], "own_shape", False)
        self.lengths_at = tuple(place for place, layer in enumerate(self.layers) if takes_lengths(layer))
        if out_features is not None and not self.own_shape and self.output_shape != (out_features,):
            raise LayerError(_wrong_end(path, out_features))
        for name, source in (tied or {}).items():
            _tie(self, name, source)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, *input_shape] -> the last layer's output."""
        for place, layer in enumerate(self.layers):
            inputs = layer(inputs, lengths=lengths) if place in self.lengths_at else layer(inputs)
        return inputs


class Residual(nn.Module):
    """inputs + layers(inputs), for layers that give back the shape they take. He et al. 2016, equation 1.

    The last layer whose size is open takes the input's. ``scale`` multiplies what the layers give.
    """

    def __init__(self, layers: Sequence[Use], scale: float = 1.0, *, input_shape: Sequence[int]) -> None:
        super().__init__()
        self.scale = scale
        shape = tuple(input_shape)
        series_or_row = shape[-1] if len(shape) <= 2 else None
        width = series_or_row if shape and _last_open(layers) is not None else None
        self.inner = Sequential(_closed(layers, width), shape)
        if self.inner.output_shape != shape:
            mend = f"Give the last layer {shape[0]} channels, and none a stride."
            if len(shape) <= 2:
                mend = f"Leave the size of the last Dense open, or make it {shape[-1]}."
            path = _show(self.inner.path)
            raise LayerError(f"the layers of a Residual must give back the shape they take: {path}. {mend}")
        self.output_shape = shape

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, *shape] -> [B, *shape]."""
        added: Tensor = self.inner(inputs, lengths)
        return inputs + (added if self.scale == 1.0 else self.scale * added)


class Parallel(nn.Module):
    """Several lists of layers side by side on the same input, whose outputs are joined. Szegedy et al. 2015, figure 2.

    ``join`` "concatenate" along the features of rows and series and the channels of images, "add", "multiply" or
    "mean" for outputs of one shape.
    """

    def __init__(
        self,
        branches: Sequence[Sequence[Use]],
        join: Join = "concatenate",
        *,
        input_shape: Sequence[int],
    ) -> None:
        super().__init__()
        if join not in JOINS:
            raise LayerError(f"join: read {join!r}, expected one of {', '.join(JOINS)}.")
        self.join = join
        self.branches = nn.ModuleList()
        shapes: list[Shape] = []
        for place, layers in enumerate(branches):
            listed = [layers] if isinstance(layers, Use) else layers
            branch = _nested(f"branches[{place}]", listed, input_shape)
            shapes.append(branch.output_shape)
            self.branches.append(branch)
        self.takes_ids = bool(len(self.branches)) and takes_ids(self.branches[0])
        self.axis = 1 if shapes and len(shapes[0]) >= 3 else -1
        self.output_shape = _joined(shapes, join, tuple(input_shape))

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, *input_shape] -> [B, *the joined shape]."""
        outputs = [branch(inputs, lengths) for branch in self.branches]
        if self.join == "concatenate":
            return torch.cat(outputs, dim=self.axis)
        joined = torch.stack(outputs)
        if self.join == "multiply":
            return joined.prod(dim=0)
        return joined.sum(dim=0) if self.join == "add" else joined.mean(dim=0)


class Repeat(nn.Module):
    """The same layers ``times`` over, each time new ones made for the shape that reaches them.

    [B, *input_shape] -> as the layers have it. ``shared`` makes them once and goes through them ``times`` over (Lan et
    al. 2020, section 3.1), for layers that give back the shape they take.
    """

    def __init__(self, layers: Sequence[Use], times: int, shared: bool = False, *, input_shape: Sequence[int]) -> None:
        super().__init__()
        if times < 1:
            raise LayerError(f"times: read {times}, expected at least 1.")
        self.times = times
        self.blocks = nn.ModuleList()
        shape = tuple(input_shape)
        for place in range(1 if shared else times):
            where = "" if shared else f"repetition {place + 1} of {times}, "
            block = _nested(where, layers, shape, joint="")
            self.blocks.append(block)
            if shared and times > 1 and block.output_shape != shape:
                raise LayerError(f"shared layers must give back the shape they take: {_show(block.path)}.")
            shape = block.output_shape
        self.takes_ids = takes_ids(self.blocks[0])
        self.output_shape = shape

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, *input_shape] -> the last block's output."""
        for place in range(self.times):
            inputs = self.blocks[place % len(self.blocks)](inputs, lengths)
        return inputs


class ChannelsLast(nn.Module):
    """The first size put last: [B, C, ...] -> [B, ..., C]. What losses of classes at each place take."""

    own_shape: ClassVar = True

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, ...] -> [B, ..., C]."""
        return inputs.movedim(1, -1)


class Reshape(nn.Module):
    """Each sample in another shape of as many numbers: [B, ...] -> [B, *shape]; one size may be -1."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, ...] -> [B, *shape]."""
        return inputs.reshape(inputs.shape[0], *self.shape)


class Function(nn.Module):
    """A function as a layer, so that a list of layers may name one, such as torch.nn.functional:relu6."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        """What the function makes of the inputs."""
        return self.function(inputs)


def takes_ids(layer: nn.Module) -> bool:
    """Whether a layer takes whole numbers, as an embedding does."""
    return isinstance(layer, nn.Embedding) or bool(getattr(layer, "takes_ids", False))


def takes_lengths(layer: nn.Module) -> bool:
    """Whether a layer wants the lengths of padded series."""
    if isinstance(layer, Sequential):
        return bool(layer.lengths_at)
    return "lengths" in inspect.signature(layer.forward).parameters


def _make(use: Use, where: str, path: Path, out_features: int | None) -> nn.Module:
    if not isinstance(use, Use):
        raise LayerError(f"{where}: read {use!r}, expected a call such as Use('Dense', features=64).")
    shape = path[-1][1]
    available: dict[str, Any] = {"input_shape": shape}
    if shape:
        available |= {"in_features": shape[-1], "in_channels": shape[0]}
    if out_features is not None:
        available["out_features"] = out_features
    try:
        layer = make(use, "layers", where=where, **available)
    except LayerError as error:
        joint = "." if str(error).startswith(("layers", "branches")) else ": "
        before = f" Before it: {_show(path)}." if len(path) > 1 else ""
        raise LayerError(f"{where}{joint}{error}{before}") from error
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise LayerError(f"{where} ({use.target}): {error}. So far: {_show(path)}.") from error
    except GroundupError as error:
        said = str(error)
        raise LayerError(said if said.startswith(where) else f"{where}: {said} So far: {_show(path)}.") from error
    return layer if isinstance(layer, nn.Module) else Function(layer)


def _nested(where: str, layers: Sequence[Use], shape: Sequence[int], joint: str = ".") -> Sequential:
    """A Sequential inside another structure, whose errors begin with the place it has there."""
    try:
        return Sequential(layers, shape)
    except LayerError as error:
        raise LayerError(f"{where}{joint}{error}") from error


def _shape_after(layer: nn.Module, where: str, path: Path, given: Mapping[str, Any] | None = None) -> Shape:
    """The shape a layer gives, found by one forward of a single sample in evaluation mode (on the meta device too)."""
    shape = path[-1][1]
    known = getattr(layer, "output_shape", None)
    if isinstance(known, tuple):
        return known
    takes = getattr(layer, "takes", None)
    wanted = f" It takes ({', '.join(takes)}).{_what_fits(takes, shape)}" if takes else ""
    if typed := [name for name in ("in_features", "in_channels", "input_shape") if name in (given or {})]:
        wanted += f" Leave {' and '.join(typed)} out: it is filled in."
    said = f"{where} ({type(layer).__name__}) does not fit the shape {shape}"
    if takes and len(takes) != len(shape):
        raise LayerError(f"{said}.{wanted} So far: {_show(path)}.")
    dtype = torch.int64 if takes_ids(layer) else None
    was_training = layer.training
    layer.eval()
    try:
        with torch.no_grad():
            output = layer(torch.zeros((1, *shape), dtype=dtype))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise LayerError(f"{said}: {error}.{wanted} So far: {_show(path)}.") from error
    finally:
        layer.train(was_training)
    if not isinstance(output, Tensor):
        raise LayerError(
            f"{where} ({type(layer).__name__}) gives {type(output).__name__}, and the next layer takes one tensor. "
            f"Wrap it in a class whose forward gives the tensor alone. So far: {_show(path)}."
        )
    found = tuple(output.shape[1:])
    if 0 in found:
        raise LayerError(f"{where} ({type(layer).__name__}) gives {found}: nothing is left. So far: {_show(path)}.")
    return found


def _what_fits(takes: Sequence[str], shape: Shape) -> str:
    """What to put before a layer that takes another kind of sample than reaches it."""
    kinds = {1: ROW, 2: SERIES, 3: IMAGE, 4: VOLUME}
    here, there = kinds.get(len(shape)), tuple(takes)
    if here is None or len(here) == len(there):
        return ""
    fitting = {
        (SERIES, ROW): "LastStep, GlobalAveragePool1d or Flatten makes a row of a series.",
        (IMAGE, ROW): "Flatten or GlobalAveragePool2d makes a row of an image.",
        (VOLUME, ROW): "Flatten or GlobalAveragePool3d makes a row of a volume.",
        (IMAGE, SERIES): "Patches makes a series of an image.",
        (ROW, SERIES): "Reshape with shape = [-1, 1] makes a series of a row.",
        (ROW, IMAGE): "Reshape with shape = [channels, height, width] makes an image of a row.",
        (SERIES, IMAGE): "Reshape with shape = [1, steps, features] makes an image of a series.",
    }
    found = fitting.get((here, there))
    return f" {found}" if found else ""


def _wrong_end(path: Path, out_features: int) -> str:
    """What is said of a last layer whose shape the data does not ask for."""
    shape = path[-1][1]
    mend = "Let the last Dense have no features of its own"
    before = {
        2: "; for series put LastStep or GlobalAveragePool1d before it",
        3: "; for images put Flatten or GlobalAveragePool2d before it",
        4: "; for volumes put Flatten or GlobalAveragePool3d before it",
    }
    return (
        f"layers: the last one gives {shape}, the data needs ({out_features},). So far: {_show(path)}. "
        f"{mend}{before.get(len(shape), '')}, or end with ClassHead or ValueHead."
    )


def _joined(shapes: Sequence[Shape], join: str, input_shape: Shape) -> Shape:
    """The shape of several outputs joined. Raises LayerError, with each branch's, when they do not fit together."""
    if not shapes:
        raise LayerError("branches: there are none; give at least one list of layers.")
    told = "; ".join(f"branches[{place}] gives {shape}" for place, shape in enumerate(shapes))
    if join != "concatenate":
        if len(set(shapes)) > 1:
            raise LayerError(f"branches: to {join} them their shapes must be equal: {told}. Input: {input_shape}.")
        return shapes[0]
    axis = 0 if len(shapes[0]) >= 3 else -1
    rests = {(len(shape), *(shape[1:] if axis == 0 else shape[:-1])) for shape in shapes}
    if len(rests) > 1:
        free = "channels" if axis == 0 else "features"
        raise LayerError(
            f"branches: to concatenate them their shapes must be equal but for the {free}: {told}. "
            f"Input: {input_shape}."
        )
    width = sum(shape[axis] for shape in shapes)
    return (width, *shapes[0][1:]) if axis == 0 else (*shapes[0][:-1], width)


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


def _closed(layers: Sequence[Use], width: int | None) -> Sequence[Use]:
    """The layers, the last open one given ``width`` outputs."""
    place = _last_open(layers) if width is not None else None
    if place is None:
        return layers
    closed = layers[place].with_arguments(out_features=width)
    return [*layers[:place], closed, *layers[place + 1 :]]


def _tie(model: nn.Module, name: str, source: str) -> None:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for wanted in (name, source):
        if wanted not in parameters:
            raise LayerError(f"tied: there is no parameter {wanted!r}; there are {', '.join(parameters)}.")
    if parameters[name].shape != parameters[source].shape:
        shapes = f"{tuple(parameters[name].shape)} and {tuple(parameters[source].shape)}"
        raise LayerError(f"tied: {name!r} and {source!r} differ in shape: {shapes}.")
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, parameters[source])


def _show(path: Path) -> str:
    return " -> ".join(f"{name} {shape}" for name, shape in path)
