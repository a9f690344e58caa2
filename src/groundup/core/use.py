"""A constructor call as a value: written down now, checked at once, carried out when its parts exist.

The rule that makes recipes short: a class is constructed; a function is data, so it stays
itself with the given options bound. Nothing is registered; a name is looked up where its slot lives.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import typing
from collections.abc import Mapping
from typing import Any

from groundup.core.coerce import coerce
from groundup.core.errors import RecipeError, nearest

HOMES: Mapping[str, tuple[str, ...]] = {
    "source": ("groundup.data.sources",),
    "clean": ("groundup.data.cleaning",),
    "split": ("groundup.data.splitting",),
    "prepare": ("groundup.data.prepare",),
    "samples": ("groundup.data.samples",),
    "augment": ("groundup.data.augmentation",),
    "model": ("groundup.models", "groundup.nn"),
    "layers": ("groundup.nn",),
    "layer": ("groundup.nn",),
    "with": ("groundup.nn", "groundup.models"),
    "init": ("groundup.nn.init",),
    "activation": ("groundup.nn.activations",),
    "tokenizer": ("groundup.data.tokenization",),
    "steps": ("groundup.data.series",),
    "loss": ("groundup.nn.losses",),
    "objective": ("groundup.training.objectives",),
    "optimizer": ("groundup.optim",),
    "schedule": ("groundup.optim.schedules",),
    "metrics": ("groundup.evaluation.metrics",),
    "baselines": ("groundup.evaluation.baselines",),
    "method": ("groundup.finetune",),
}
"""Slot or argument name -> the modules in which a bare name is looked up, in this order."""

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
            f'Write an import path: use = "package.module:{target}".'
        )
    modules = [importlib.import_module(home) for home in homes]
    for module in modules:
        found = getattr(module, target, None)
        if callable(found) and not target.startswith("_") and _is_public(module, target):
            return found
    names = [name for module in modules for name in public_names(module)]
    raise RecipeError(
        f"{where}: there is no {target!r} in {' or '.join(homes)}.{nearest(target, names)} "
        f'For a part of your own write an import path: use = "package.module:{target}".'
    )


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
    if trusted is not None and not any(
        module_name == package or module_name.startswith(package + ".") for package in trusted
    ):
        raise RecipeError(
            f"{where}: {target!r} lies outside {', '.join(trusted)}. A checkpoint may run code of these "
            f"packages only; if you trust this one, list {module_name.partition('.')[0]!r} as trusted."
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise RecipeError(f"{where}: cannot import {module_name!r} for {target!r}: {error}.") from error
    for name in qualified.split("."):
        if not hasattr(found, name):
            raise RecipeError(
                f"{where}: {module_name!r} has no {qualified!r}.{nearest(name, public_names(found))}"
                if inspect.ismodule(found)
                else f"{where}: {target!r} does not exist."
            )
        found = getattr(found, name)
    if not callable(found):
        raise RecipeError(f"{where}: {target!r} is not a class or function.")
    return found


def import_path(found: Any) -> str:
    """The ``module:name`` by which a class or function can be found again."""
    return f"{found.__module__}:{found.__qualname__}"


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
        checked[name] = _check_nested(coerce(value, hints.get(name, Any), at), name, at)
    return Use(import_path(found), **checked)


def _check_nested(value: Any, slot: str, where: str) -> Any:
    if isinstance(value, Mapping) and "use" in value:
        arguments = {name: inner for name, inner in value.items() if name != "use"}
        value = Use(value["use"], **arguments)
    if isinstance(value, Use):
        return check(value, slot, where)
    if isinstance(value, (list, tuple)):
        return type(value)(_check_nested(item, slot, f"{where}[{i}]") for i, item in enumerate(value))
    return value


def named(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """The names that can be given by keyword."""
    return [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def signature_of(found: Any) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """Parameters and resolved annotations of a class's constructor or a function."""
    parameters = dict(inspect.signature(found).parameters)
    source = found.__init__ if inspect.isclass(found) and not dataclasses.is_dataclass(found) else found
    try:
        hints = typing.get_type_hints(source)
    except (NameError, TypeError, AttributeError):  # an annotation that exists for type checkers only
        hints = {}
    return parameters, hints


def with_defaults(use: Use, slot: str) -> Use:
    """The same call with every default that can be written down spelled out; what was given wins."""
    found = resolve(use.target, slot)
    parameters, _ = signature_of(found)
    spelled: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in use.arguments:
            spelled[name] = _spell(use.arguments[name], name)
        elif parameter.default is not parameter.empty and parameter.default is not None:
            default = parameter.default
            if isinstance(default, (bool, int, float, str, list, tuple, Use)):
                spelled[name] = _spell(default, name)
            elif inspect.isfunction(default):
                spelled[name] = Use(import_path(default))
    for name, value in use.arguments.items():
        spelled.setdefault(name, _spell(value, name))
    return Use(import_path(found), **spelled)


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
    arguments = {
        name: _make_nested(value, name, hints.get(name), f"{where}.{name}", trusted)
        for name, value in use.arguments.items()
    }
    for name, value in available.items():
        if name in parameters and name not in arguments:
            arguments[name] = value
    if not inspect.isclass(found):
        return functools.partial(found, **arguments) if arguments else found
    missing = [
        name
        for name in named(parameters)
        if parameters[name].default is inspect.Parameter.empty and name not in arguments
    ]
    if missing:
        raise RecipeError(f"{where}: {use.target} needs {', '.join(map(repr, missing))}; add it to the recipe.")
    return found(**arguments)


def _make_nested(value: Any, slot: str, hint: Any, where: str, trusted: tuple[str, ...] | None) -> Any:
    if isinstance(value, Mapping) and "use" in value:
        value = Use(value["use"], **{name: inner for name, inner in value.items() if name != "use"})
    if isinstance(value, Use):
        return value if _wants_use(hint) else make(value, slot, where=where, trusted=trusted)
    if isinstance(value, (list, tuple)):
        items = [_make_nested(v, slot, hint, f"{where}[{i}]", trusted) for i, v in enumerate(value)]
        return type(value)(items)
    return value


def _wants_use(hint: Any) -> bool:
    """Whether an annotation asks for the call itself, to be carried out later (``layers: Sequence[Use]``)."""
    return hint is Use or any(_wants_use(argument) for argument in typing.get_args(hint))
