"""A constructor call as a value: written down now, checked at once, carried out when its parts exist.

The rule that makes recipes short: a class is constructed; a function is data, so it stays
itself with the given options bound. Nothing is registered; a name is looked up where its slot lives.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any

from groundup.core.coerce import coerce
from groundup.core.errors import RecipeError, nearest

HOMES: Mapping[str, tuple[str, ...]] = {
    "source": ("groundup.data.sources", "groundup.data.shards.source"),
    **dict.fromkeys(("train", "valid", "test"), ("groundup.data.sources", "groundup.data.shards.source")),
    "clean": ("groundup.data.cleaning",),
    "split": ("groundup.data.splitting",),
    "prepare": ("groundup.data.prepare",),
    "samples": ("groundup.data.samples",),
    "augment": ("groundup.data.augmentation",),
    "sampling": ("groundup.data.sampling",),
    "model": ("groundup.models", "groundup.nn"),
    "layers": ("groundup.nn",),
    "branches": ("groundup.nn",),
    "layer": ("groundup.nn",),
    "with": ("groundup.nn", "groundup.models"),
    "init": ("groundup.nn.init",),
    "activation": ("groundup.nn.activations",),
    "norm": ("groundup.nn.norm",),
    "positions": ("groundup.nn.positions",),
    "router": ("groundup.nn.experts",),
    "tokenizer": ("groundup.data.tokenization",),
    "steps": ("groundup.data.series",),
    "detector": ("groundup.data.prepare.detectors",),
    "loss": ("groundup.nn.losses",),
    "objective": ("groundup.training.objectives",),
    "optimizer": ("groundup.optim",),
    "schedule": ("groundup.optim.schedules",),
    "metrics": ("groundup.evaluation.metrics",),
    "baselines": ("groundup.evaluation.baselines",),
    "method": ("groundup.finetune",),
}
"""Slot or argument name -> the modules in which a bare name is looked up, in this order."""

_LAYER_SLOTS = ("model", "layers", "branches", "layer", "with")
_INTO = ("in_features", "in_channels", "input_shape")
_SHAPES = (*_INTO, "out_features")

SUPPLIED: Mapping[str, tuple[str, ...]] = {
    "source": ("folder",),
    "clean": ("folder",),
    "split": ("seed",),
    "prepare": ("exclude", "learned", "target"),
    "samples": ("learned",),
    "augment": ("folder",),
    "tokenizer": ("learned",),
    "model": (
        *_SHAPES,
        "num_classes",
        "image_size",
        "vocab_size",
        "length",
        "horizon",
        "target_input",
        "categories",
        "decoder_start_token_id",
    ),
    **dict.fromkeys(_LAYER_SLOTS[1:], _SHAPES),
    "norm": ("in_features",),
    "positions": ("head_dim", "num_heads"),
    "router": ("num_experts", "num_chosen", "in_features"),
    "optimizer": ("params",),
    "objective": ("class_counts",),
    "init": ("generator",),
}
"""Slot -> arguments that the run offers when the recipe leaves them open; their defaults are never spelled out."""

HANDED: Mapping[str, int] = {
    "source": 0,
    **dict.fromkeys(("clean", "split", "prepare", "sampling", "schedule", "method", "init"), 1),
    **dict.fromkeys(("loss", "objective"), 2),
}
"""Slot -> how many arguments a function named there is called with; whatever else it needs, the recipe gives."""

TRUSTED = ("groundup", "torch.nn", "torch.optim")
"""The only packages that names inside a downloaded checkpoint may resolve in, unless the user lists more."""


@dataclasses.dataclass(frozen=True, init=False)
class Use:
    """A call written down: an import path or bare name, and keyword arguments.

    >>> Use("MLP", hidden=[128, 64])
    Use('MLP', hidden=[128, 64])
    """

    target: str
    arguments: Mapping[str, Any]

    def __init__(self, target: str, /, **arguments: Any) -> None:
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "arguments", arguments)

    def __repr__(self) -> str:
        shown = "".join(f", {name}={value!r}" for name, value in self.arguments.items())
        return f"Use({self.target!r}{shown})"

    def with_arguments(self, **arguments: Any) -> Use:
        """The same call with some arguments set anew."""
        return Use(self.target, **{**self.arguments, **arguments})


def resolve(target: str, slot: str, *, where: str = "", trusted: tuple[str, ...] | None = None) -> Any:
    """The class or function that ``target`` names in ``slot``.

    ``trusted`` limits import paths to those packages (for names read from a checkpoint).
    Raises RecipeError, with the nearest name, when nothing is found.
    """
    where = where or slot
    if ":" in target:
        return _import(target, where, trusted)
    homes = HOMES.get(slot)
    if homes is None:
        raise RecipeError(
            f"{where}: {target!r} is a bare name, but this place has no home to look it up in. "
            f"Write an import path: use = {_as_import_path(target)}."
        )
    modules = [importlib.import_module(home) for home in homes]
    for module in modules:
        found = getattr(module, target, None)
        if callable(found) and not target.startswith("_") and _is_public(module, target):
            return found
    names = [name for module in modules for name in public_names(module)]
    raise RecipeError(
        f"{where}: there is no {target!r} in {' or '.join(homes)}.{nearest(target, names)} "
        f"For a part of your own write an import path: use = {_as_import_path(target)}."
    )


def _as_import_path(target: str) -> str:
    """How ``target`` would be written as an import path: its last dot is often meant to be the colon."""
    module, _, name = target.rpartition(".")
    return f'"{module or "package.module"}:{name}"'


def public_names(module: Any) -> list[str]:
    """The names a module offers to recipes: those in ``__all__``, or its own public callables."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return [name for name in listed if callable(getattr(module, name, None))]
    return [name for name in vars(module) if callable(getattr(module, name)) and _is_public(module, name)]


def _is_public(module: Any, name: str) -> bool:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return name in listed
    return not name.startswith("_") and getattr(vars(module)[name], "__module__", None) == module.__name__


def _import(target: str, where: str, trusted: tuple[str, ...] | None) -> Any:
    module_name, _, qualified = target.partition(":")
    if trusted is not None and not _lies_within(module_name, trusted):
        raise RecipeError(
            f"{where}: {target!r} lies outside {', '.join(trusted)}. A checkpoint may run code of these "
            f"packages only; if you trust this one, list {module_name.partition('.')[0]!r} as trusted."
        )
    try:
        found: Any = importlib.import_module(module_name)
    except (ImportError, ValueError, TypeError) as error:
        raise RecipeError(
            f"{where}: cannot import {module_name!r} for {target!r}: {error}. "
            "A module lies beside the recipe, or in an installed package."
        ) from error
    for name in qualified.split("."):
        if not hasattr(found, name):
            offered = [other for other in vars(found) if not other.startswith("_")] if inspect.ismodule(found) else []
            raise RecipeError(f"{where}: {module_name!r} has no {qualified!r}.{nearest(name, offered)}")
        found = getattr(found, name)
        if trusted is not None and (inspect.ismodule(found) or name.startswith("_")):
            raise RecipeError(f"{where}: {target!r} reaches through {name!r}; a checkpoint names public parts only.")
    if not callable(found):
        raise RecipeError(f"{where}: {target!r} is not a class or function.")
    if trusted is not None:
        _check_owner(found, target, where, trusted)
    return found


def _check_owner(found: Any, target: str, where: str, trusted: tuple[str, ...]) -> None:
    """What a trusted module has merely imported (``module:Popen``) is not a part of it."""
    owner = str(getattr(found, "__module__", None) or "")
    compiled = inspect.isbuiltin(found) and owner in ("torch", "torch._C._nn")  # such as torch.nn.functional.gelu
    if not compiled and not _lies_within(owner, trusted):
        raise RecipeError(
            f"{where}: {target!r} comes from {owner or 'an unknown module'}, outside {', '.join(trusted)}. "
            f"If you trust it, list {owner.partition('.')[0]!r} as trusted."
        )


def _lies_within(module_name: str, packages: tuple[str, ...]) -> bool:
    return any(module_name == package or module_name.startswith(package + ".") for package in packages)


def import_path(found: Any) -> str:
    """The ``module:name`` by which a class or function can be found again."""
    module = "torch.nn.functional" if found.__module__ == "torch._C._nn" else found.__module__
    return f"{module}:{found.__qualname__}"


def _path_of(found: Any, target: str, slot: str) -> str:
    """The import path by which ``found`` is found again: its own, or that of where it was found."""
    module, name = str(getattr(found, "__module__", "")), str(getattr(found, "__qualname__", ""))
    own: Any = sys.modules.get(module)
    for part in name.split("."):
        own = getattr(own, part, None)
    if own is found:
        return import_path(found)
    if ":" in target:
        return target
    homes = [home for home in HOMES[slot] if getattr(importlib.import_module(home), target, None) is found]
    return f"{homes[0]}:{target}"


def check(use: Use, slot: str, where: str) -> Use:
    """The same call with its full import path and typed arguments, or a RecipeError with path and nearest name."""
    found = resolve(use.target, slot, where=where)
    parameters, hints = signature_of(found)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    checked: dict[str, Any] = {}
    for name, value in use.arguments.items():
        at = f"{where}.{name}"
        parameter = parameters.get(name)
        if parameter is None or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            if not open_ended:
                raise RecipeError(f"{at}: {use.target} takes no argument {name!r}.{nearest(name, named(parameters))}")
            checked[name] = value
            continue
        hint = hints.get(name, Any)
        checked[name] = _check_nested(_as_use(coerce(value, hint, at), name, hint), name, at, slot)
    return Use(_path_of(found, use.target, slot), **checked)


def _check_nested(value: Any, slot: str, where: str, outer: str) -> Any:
    value = _as_use(value, slot, Any)
    if isinstance(value, Use):
        return check(value, _home_slot(slot, outer), where)
    if isinstance(value, (list, tuple)):
        return type(value)(_check_nested(item, slot, f"{where}[{i}]", outer) for i, item in enumerate(value))
    if isinstance(value, Mapping):
        return {name: _check_nested(item, slot, f"{where}.{name}", outer) for name, item in value.items()}
    return value


def _home_slot(slot: str, outer: str) -> str:
    """Where a bare name is looked up: an argument of a layer that has no home of its own takes layers."""
    return "layers" if slot not in HOMES and outer in _LAYER_SLOTS else slot


def _as_use(value: Any, slot: str, hint: Any) -> Any:
    """A table with ``use``, or the name of a function where the annotation asks for one, as the call it stands for."""
    if isinstance(value, Mapping) and isinstance(value.get("use"), str):
        return Use(value["use"], **{name: inner for name, inner in value.items() if name != "use"})
    if isinstance(value, str) and _asks_for(hint, collections.abc.Callable):
        named_by_text = slot in HOMES or ":" in value or not _asks_for(hint, str)
        return Use(value) if named_by_text else value
    return value


def _asks_for(hint: Any, kind: Any) -> bool:
    """Whether an annotation is ``kind`` or a choice with it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_asks_for(choice, kind) for choice in typing.get_args(hint))
    return hint is kind or typing.get_origin(hint) is kind


def named(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """The names that can be given by keyword."""
    return [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def configuration_of(found: Any) -> Any:
    """The dataclass that a class takes as its one argument ``config``, if it does; its fields are then the options."""
    if not inspect.isclass(found) or dataclasses.is_dataclass(found):
        return None
    taken = list(inspect.signature(found.__init__).parameters)[1:]
    if taken != ["config"]:
        return None
    kind: Any = typing.get_type_hints(found.__init__).get("config")
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None


def signature_of(found: Any) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """Parameters and resolved annotations of a class's constructor or a function.

    A class that takes one ``config`` takes the fields of that dataclass instead.
    """
    found = configuration_of(found) or found
    try:
        parameters = dict(inspect.signature(found).parameters)
    except ValueError:  # a compiled function, such as torch.nn.functional.gelu, does not tell
        return {"options": inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)}, {}
    source = found.__init__ if inspect.isclass(found) and not dataclasses.is_dataclass(found) else found
    try:
        hints = typing.get_type_hints(source)
    except (NameError, TypeError, AttributeError):  # an annotation that exists for type checkers only
        hints = {}
    return parameters, hints


def with_defaults(use: Use, slot: str) -> Use:
    """The same call with every default that can be written down spelled out; what was given wins.

    What the run supplies is left open, or a saved recipe would override it.
    """
    found = resolve(use.target, slot)
    parameters, hints = signature_of(found)
    spelled: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in use.arguments:
            if use.arguments[name] is not None or parameter.default is not None:
                spelled[name] = _spell(use.arguments[name], name)
        elif name not in SUPPLIED.get(slot, ()):
            default = _writable(parameter.default, hints.get(name, Any))
            if default is not None:
                spelled[name] = _spell(default, name)
    for name, value in use.arguments.items():
        if name not in parameters:
            spelled[name] = _spell(value, name)
    return Use(_path_of(found, use.target, slot), **spelled)


def _writable(default: Any, hint: Any) -> Any:
    """A default as a recipe would give it, or None when there is none that can be written down."""
    if inspect.isfunction(default):
        return None if "<" in default.__qualname__ else Use(import_path(default))  # a lambda has no name
    if not isinstance(default, (bool, int, float, str, list, tuple, Use)):
        return None
    try:
        return coerce(default, hint, "default")
    except RecipeError:  # a default that its own annotation does not allow
        return default


def _spell(value: Any, slot: str) -> Any:
    if isinstance(value, Use):
        return with_defaults(value, slot)
    if isinstance(value, (list, tuple)):
        return [_spell(item, slot) for item in value]
    return value


def make(use: Use, slot: str, *, where: str = "", trusted: tuple[str, ...] | None = None, **available: Any) -> Any:
    """Carry the call out: construct a class, or bind a function's options.

    ``available`` offers values for parameters that the call leaves open; those it does not
    have are ignored. Raises RecipeError when a class still lacks an argument.
    """
    where = where or slot
    found = resolve(use.target, slot, where=where, trusted=trusted)
    parameters, hints = signature_of(found)
    around = {name: value for name, value in available.items() if name in _INTO}
    arguments = {
        name: _make_nested(value, (name, slot), hints.get(name), f"{where}.{name}", trusted, around)
        for name, value in use.arguments.items()
    }
    configuration = configuration_of(found)
    renamed = getattr(configuration, "OFFERED", {})  # what is offered, under the names that a published config has
    for name, value in {**available, **{ours: available[n] for ours, n in renamed.items() if n in available}}.items():
        if name in parameters and name not in arguments:
            arguments[name] = value
    missing = [
        name
        for name in named(parameters)
        if parameters[name].default is inspect.Parameter.empty and name not in arguments
    ]
    if not inspect.isclass(found):
        missing = missing[HANDED.get(slot, len(missing)) :]
    if missing:
        raise RecipeError(f"{where}: {use.target} needs {', '.join(map(repr, missing))}; add it to the recipe.")
    if not inspect.isclass(found):
        return functools.partial(found, **arguments) if arguments else found
    constructor: Any = found
    try:
        return constructor(configuration(**arguments)) if configuration is not None else constructor(**arguments)
    except ValueError as error:
        raise RecipeError(f"{where}: {use.target}: {error}") from error


def _make_nested(
    value: Any,
    slots: tuple[str, str],
    hint: Any,
    where: str,
    trusted: tuple[str, ...] | None,
    around: Mapping[str, Any],
) -> Any:
    """An argument's calls carried out. ``slots``: the argument's own name, and the slot of the call around it.

    ``around`` are the shapes that call is made for: a module inside a module sees what that one sees.
    """
    value = _as_use(value, slots[0], hint)
    if isinstance(value, Use):
        return value if _wants_use(hint) else make(value, _home_slot(*slots), where=where, trusted=trusted, **around)
    if isinstance(value, (list, tuple)):
        items = [_make_nested(v, slots, hint, f"{where}[{i}]", trusted, around) for i, v in enumerate(value)]
        return type(value)(items)
    if isinstance(value, Mapping):
        return {n: _make_nested(v, slots, hint, f"{where}.{n}", trusted, around) for n, v in value.items()}
    return value


def _wants_use(hint: Any) -> bool:
    """Whether an annotation asks for the call itself, to be carried out later (``layers: Sequence[Use]``)."""
    return hint is Use or any(_wants_use(argument) for argument in typing.get_args(hint))
