"""What can be named in a recipe, read from the signatures and docstrings themselves, so that it is stated once."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import json
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from groundup.core.errors import GroundupError, nearest
from groundup.core.use import HANDED, HOMES, SUPPLIED, Use, import_path, public_names, resolve, signature_of

PLACES: Mapping[str, str] = {
    "source": "data.source = {}",
    "clean": "data.clean = [{}]",
    "split": "data.split = {}",
    "prepare": "data.prepare = [{}]",
    "samples": "data.samples = {}",
    "augment": "data.augment = [{}]",
    "sampling": "data.sampling = {}",
    "model": "model = {}",
    "layers": 'model = {{ use = "Sequential", layers = [{}] }}',
    "with": 'swap = [{{ where = "layers.0", with = {} }}]',
    "init": 'init = [{{ where = "*.weight", init = {} }}]',
    "objective": "training.objective = {}",
    "optimizer": "training.optimizer = {}",
    "schedule": "training.schedule = {}",
    "loss": 'training.objective = {{ use = "supervised", loss = {} }}',
    "metrics": "evaluation.metrics = [{}]",
    "baselines": "evaluation.baselines = [{}]",
    "method": "finetune.method = {}",
}
"""Where in a recipe a slot's call is written; slots that are not here are arguments of other calls."""

HANDED_OVER = {**HANDED, "metrics": 2, "baselines": 2}
"""Slot -> how many arguments a function there is called with, which a recipe does not give."""

LINE_LENGTH = 110


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument as its signature states it."""

    name: str
    kind: str
    """The annotation as it is written."""
    default: str | None
    filled_in: bool
    """Whether the run supplies it when the recipe does not."""

    def __str__(self) -> str:
        if self.filled_in:
            return f"{self.kind}, filled in by the run"
        return f"{self.kind}, required" if self.default is None else f"{self.kind} = {self.default}"


@dataclasses.dataclass(frozen=True)
class Part:
    """A class or function that recipes can name: where it lives, what it takes, what it does."""

    name: str
    path: str
    slots: tuple[str, ...]
    arguments: tuple[Argument, ...]
    text: str
    lines: tuple[str, ...]
    """How it is written in a recipe, once for each place that it fits; also overrides on the command line."""

    def __str__(self) -> str:
        width = max((len(argument.name) for argument in self.arguments), default=0)
        arguments = [f"  {argument.name:<{width}}  {argument}" for argument in self.arguments]
        blocks = [f"{self.name}   {self.path}", f"slot: {', '.join(self.slots) or 'any, by its import path'}", ""]
        blocks += [self.text or "(no description)", ""]
        if arguments:
            blocks += ["arguments", *arguments, ""]
        return "\n".join([*blocks, "in a recipe", *(f"  {line}" for line in self.lines)])


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation:
    """Every part of one name; printing it shows them."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return f"\n\n{'-' * 40}\n\n".join(str(part) for part in self.parts)

    __repr__ = __str__  # at a prompt, asking is seeing


@dataclasses.dataclass(frozen=True, repr=False)
class Catalogue:
    """Slot -> name -> one line of what it is."""

    slots: Mapping[str, Mapping[str, str]]
    also: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Slot -> other slots whose names fit it too, which are listed there alone."""

    def __str__(self) -> str:
        lines = []
        for slot, names in self.slots.items():
            lines += [slot, *(f"  {name:<28}{summary}" for name, summary in names.items())]
            lines += [f"  and what is listed under {', '.join(self.also[slot])}"] if slot in self.also else []
            lines.append("")
        return "\n".join(lines)

    __repr__ = __str__


def explain(name: str) -> Explanation:
    """What ``name`` is: its places, its arguments with types and defaults, its formula and source, a recipe line.

    >>> explain("AdamW")  # doctest: +SKIP

    ``name`` is a bare name in any slot, or an import path ``package.module:Name``. Raises GroundupError
    with the nearest names of every slot when there is no such part.
    """
    if ":" in name:
        part = resolve(name, "", where="explain")
        slots = ("layers",) if inspect.isclass(part) and hasattr(part, "forward") else ()
        return Explanation((_describe(part, slots, name),))
    found: dict[int, tuple[Any, list[str]]] = {}
    for slot, part_name, part in _everything():
        if part_name == name:
            found.setdefault(id(part), (part, []))[1].append(slot)
    if not found:
        raise GroundupError(_unknown(name))
    return Explanation(tuple(_describe(part, tuple(slots), name) for part, slots in found.values()))


def list_parts(slot: str | None = None) -> Catalogue:
    """What can be named in a recipe, by slot, with one line on each; or one slot alone."""
    if slot is not None:
        if slot not in HOMES:
            raise GroundupError(f"there is no slot {slot!r}.{nearest(slot, HOMES)}")
        return Catalogue({slot: {name: summary(part) for name, part in _named(slot)}})
    backwards = list(HOMES.items())[::-1]
    owners = {home: at for at, homes in backwards for home in homes}
    owners |= {home: at for at, homes in backwards for home in homes[:1]}  # where it is meant first
    listed: dict[str, dict[str, str]] = {}
    also: dict[str, tuple[str, ...]] = {}
    for at, homes in HOMES.items():
        own = [home for home in homes if owners[home] == at]
        listed[at] = {name: summary(part) for home in own for name, part in _public(home)}
        if len(own) < len(homes):
            also[at] = tuple(owners[home] for home in homes if home not in own)
    return Catalogue(listed, also)


def summary(part: Any) -> str:
    """The first sentence of a part's docstring, on one line."""
    first = re.sub(r":\w+:`([^`]*)`", r"\1", _text(part).partition("\n\n")[0])
    return " ".join(first.replace("``", "").split())


def _everything() -> Iterator[tuple[str, str, Any]]:
    """(slot, name, part) of everything that a bare name can mean."""
    for slot in HOMES:
        for name, part in _named(slot):
            yield slot, name, part


def _named(slot: str) -> list[tuple[str, Any]]:
    """What bare names mean in one slot; of two homes that have the same name, the first counts."""
    found: dict[str, Any] = {}
    for home in HOMES[slot]:
        for name, part in _public(home):
            found.setdefault(name, part)
    return list(found.items())


def _public(home: str) -> list[tuple[str, Any]]:
    module = importlib.import_module(home)
    return [(name, getattr(module, name)) for name in public_names(module)]


def _unknown(name: str) -> str:
    if name in HOMES:
        return f"{name!r} is a place in a recipe. What fits there: groundup list {name}"
    slots: dict[str, list[str]] = {}
    for slot, part_name, _ in _everything():
        slots.setdefault(part_name, []).append(slot)
    lowered = {part_name.lower(): part_name for part_name in slots}
    close = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)]
    hint = ", ".join(f"{match!r} ({slots[match][0]})" for match in close)
    return f"there is no part named {name!r}." + (f" Did you mean {hint}?" if close else " See: groundup list")


def _describe(part: Any, slots: tuple[str, ...], name: str) -> Part:
    parameters, _ = signature_of(part)
    supplied = {argument for slot in slots for argument in _supplied(part, slot, parameters)}
    arguments = []
    for argument, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = None if parameter.default is parameter.empty else _shown(parameter.default)
        arguments.append(Argument(argument, _annotation(parameter), default, argument in supplied))
    lines = tuple(_line(slot, name, part) for slot in _written(slots))
    return Part(name, import_path(part), slots, tuple(arguments), _text(part), lines)


def _written(slots: tuple[str, ...]) -> tuple[str, ...]:
    """Of the slots that a part fits, those to show a line for: where it is meant first, not where it could go too."""
    if "layers" in slots:
        return ("layers",)
    nested = ("with", "train", "valid", "test")
    return tuple(slot for slot in slots if slot not in nested or len(slots) == 1) or ("",)


def _supplied(part: Any, slot: str, parameters: Mapping[str, inspect.Parameter]) -> tuple[str, ...]:
    """The arguments that the run gives: by name, and to a function also the first ones."""
    first = () if inspect.isclass(part) else tuple(parameters)[: HANDED_OVER.get(slot, 0)]
    return (*SUPPLIED.get(slot, ()), *first)


def _line(slot: str, name: str, part: Any) -> str:
    """The call as TOML: what must be given with a value to be replaced, then options while they fit on the line."""
    parameters, hints = signature_of(part)
    supplied = _supplied(part, slot, parameters)
    given, options = [], []
    for argument, parameter in parameters.items():
        if argument in supplied or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            given.append(f"{argument} = {_placeholder(hints.get(argument, str))}")
        elif isinstance(parameter.default, (bool, int, float, str)) and parameter.default != "":
            options.append(f"{argument} = {_toml(parameter.default)}")
    place = PLACES.get(slot, f"{slot or 'slot'} = {{}}")
    words = [f'use = "{name}"', *given]
    for option in options:
        if len(place.format(f"{{ {', '.join([*words, option])} }}")) <= LINE_LENGTH:
            words.append(option)
    return place.format(f"{{ {', '.join(words)} }}")


def _placeholder(hint: Any) -> str:
    """A value of the right type, to be replaced."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return _toml(arguments[0])
    if hint is Use:
        return '{ use = "..." }'
    for kind, text in ((bool, "true"), (int, "1"), (float, "1.0"), (str, '"..."'), (Path, '"..."')):
        if hint is kind:
            return text
    container = origin or hint
    if isinstance(container, type) and issubclass(container, Mapping):
        return "{}"
    if isinstance(container, type) and (issubclass(container, (list, tuple)) or container.__name__ == "Sequence"):
        return f"[{_placeholder(arguments[0]) if arguments else ''}]"
    return _placeholder(arguments[0]) if arguments else '"..."'


def _toml(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _shown(default: Any) -> str:
    return default.__name__ if inspect.isfunction(default) or inspect.isclass(default) else repr(default)


def _annotation(parameter: inspect.Parameter) -> str:
    kind = parameter.annotation
    if kind is parameter.empty:
        return "any"
    return kind if isinstance(kind, str) else inspect.formatannotation(kind)


def _text(part: Any) -> str:
    """The docstring that the part itself carries, not one that it inherits or that a dataclass invents."""
    written = vars(part).get("__doc__") if inspect.isclass(part) else part.__doc__
    if not written or written.startswith(f"{part.__name__}("):
        return ""
    return inspect.cleandoc(written)
