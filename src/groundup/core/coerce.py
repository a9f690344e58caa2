"""Strict reading of plain values (TOML, JSON) against type annotations."""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from groundup.core.errors import RecipeError, nearest


def coerce(value: Any, annotation: Any, where: str) -> Any:
    """``value`` as ``annotation`` asks, or a RecipeError that names ``where``.

    Strict: an int may stand for a float, a list for a tuple, a string for a path, a table for a
    dataclass or a Use, false for None; nothing else is converted. Annotations that say nothing of plain
    values pass.
    """
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, typing.get_args(annotation), where)
    if origin is Literal:
        return _coerce_literal(value, typing.get_args(annotation), where)
    if origin is typing.Annotated:
        return coerce(value, typing.get_args(annotation)[0], where)
    if annotation in (bool, int, float, str) or annotation is type(None):
        return _coerce_scalar(value, annotation, where)
    if annotation is Path and isinstance(value, str):
        return Path(value)
    container = origin or annotation
    if isinstance(container, type):
        if _is_use(container):
            return _coerce_use(value, container, where)
        if dataclasses.is_dataclass(container):
            return read_table(container, value, where)
        if issubclass(container, Mapping):
            return _coerce_mapping(value, annotation, where)
        if issubclass(container, (list, tuple, collections.abc.Sequence)) and container is not str:
            return _coerce_sequence(value, annotation, container, where)
    return value


def read_table(kind: type, value: Any, where: str) -> Any:
    """A dataclass from a table: unknown fields refused with the nearest name, each field coerced."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise _wrong(value, f"a table with {', '.join(f.name for f in dataclasses.fields(kind))}", where)
    hints = typing.get_type_hints(kind)
    fields = {_spoken(f.name): f for f in dataclasses.fields(kind) if f.init}
    prefix = f"{where}." if where else ""
    for name in value:
        if name not in fields:
            raise RecipeError(f"{prefix}{name}: no such field.{nearest(name, fields)}")
    arguments = {
        fields[name].name: coerce(inner, hints[fields[name].name], prefix + name) for name, inner in value.items()
    }
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in arguments:
            raise RecipeError(f"{prefix}{name}: this field is required and is not there.")
    return kind(**arguments)


def _spoken(name: str) -> str:
    """A field's name in a recipe: ``with_`` is written ``with``, which Python reserves."""
    return name.removesuffix("_")


def _is_use(container: type) -> bool:
    return container.__name__ == "Use" and container.__module__ == "groundup.core.use"


def _coerce_use(value: Any, use: type, where: str) -> Any:
    if isinstance(value, use):
        return value
    if isinstance(value, str):
        return use(value)
    if not isinstance(value, Mapping) or not isinstance(value.get("use"), str):
        raise _wrong(value, 'a table such as { use = "Name", argument = 1 }', where)
    return use(value["use"], **{name: inner for name, inner in value.items() if name != "use"})


def _coerce_scalar(value: Any, kind: type, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
        raise _wrong(value, names.get(kind, "nothing"), where)
    return value


def _coerce_union(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if value is False and bool not in choices and type(None) in choices:
        return None  # TOML has no null: `clip_norm = false` switches off what is on by default
    errors: list[RecipeError] = []
    for choice in choices:
        try:
            return coerce(value, choice, where)
        except RecipeError as error:
            if choice is not type(None):
                errors.append(error)
    # The deepest complaint is the one about what the user meant to write.
    raise max(errors, key=lambda error: len(str(error).partition(": ")[0]))


def _coerce_literal(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return value
    shown = " or ".join(repr(choice) for choice in choices)
    raise RecipeError(f"{where}: read {value!r}, expected {shown}.")


def _coerce_mapping(value: Any, annotation: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(value, "a table", where)
    arguments = typing.get_args(annotation)
    if len(arguments) != 2:
        return dict(value)
    return {name: coerce(inner, arguments[1], f"{where}.{name}") for name, inner in value.items()}


def _coerce_sequence(value: Any, annotation: Any, container: type, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _wrong(value, "a list", where)
    arguments = typing.get_args(annotation)
    fixed = issubclass(container, tuple) and arguments and arguments[-1] is not Ellipsis
    if fixed and len(value) != len(arguments):
        raise RecipeError(f"{where}: read {len(value)} values, expected {len(arguments)}.")
    kinds = arguments if fixed else (arguments[:1] or (Any,)) * len(value)
    items = [coerce(item, kind, f"{where}[{i}]") for i, (item, kind) in enumerate(zip(value, kinds, strict=True))]
    return tuple(items) if issubclass(container, tuple) else items


def _wrong(value: Any, expected: str, where: str) -> RecipeError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return RecipeError(f"{where}: read {shown}, expected {expected}.")
