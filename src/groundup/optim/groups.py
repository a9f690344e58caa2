"""Which parameters an optimizer treats alike: by what they are, and by a recipe's rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import nn

from groundup.core.errors import RecipeError
from groundup.core.patterns import matching
from groundup.core.recipe import Group

Role = Literal["hidden", "other", "head", "embedding", "vector"]
"""hidden: a matrix inside the network. head: the last layer's matrix. embedding: one row per token or
category. vector: a bias or a norm's scale. other: what has more than two dimensions, such as convolutions."""

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)


@dataclasses.dataclass(frozen=True)
class _Place:
    """A parameter and the modules that own it; tied ones have several."""

    name: str
    parameter: nn.Parameter
    owners: tuple[nn.Module, ...]


def parameter_groups(
    model: nn.Module, weight_decay: float | None = None, rules: Sequence[Group] = ()
) -> list[dict[str, Any]]:
    """Groups for any torch optimizer, with names kept under ``param_names``, frozen parameters left out.

    Biases, norms and embeddings get no weight decay, everything else ``weight_decay``; where that is None
    the optimizer's own holds. Of ``rules`` the first that matches a parameter wins, and what it says of
    decay holds for all that it matches, biases included. Each group also says its ``role`` (which ``Muon``
    goes by), ``lr_scale`` where a rule gives one, and ``parts``: how a matrix that holds several side by side
    falls apart by rows (a module's ``row_parts``, the gates of a recurrent layer).
    Raises RecipeError when a rule's pattern matches nothing that is trained, or nothing earlier rules left.
    """
    everything = _places(model)
    head = _head(everything, model)
    places = [place for place in everything if place.parameter.requires_grad]
    ruled = _assign(everything, rules)
    groups: dict[tuple[int, Role], dict[str, Any]] = {}
    for place in places:
        number = ruled.get(place.name, -1)
        role = _role(place, place.name in head)
        group = groups.setdefault((number, role), {"params": [], "parts": [], "role": role})
        group["params"].append((place.name, place.parameter))
        group["parts"].append(_row_parts(place))
    if not groups:
        raise RecipeError("parameter groups: every parameter is frozen; there is nothing to train.")
    order = get_args(Role)  # hidden matrices first: their learning rate is the one to report
    numbered = sorted(groups.items(), key=lambda item: (item[0][0], order.index(item[0][1])))
    return [_options(group, weight_decay, None if number < 0 else rules[number]) for (number, _), group in numbered]


def _options(group: dict[str, Any], weight_decay: float | None, rule: Group | None) -> dict[str, Any]:
    if not any(group["parts"]):
        del group["parts"]
    if group["role"] in ("vector", "embedding"):
        group["weight_decay"] = 0.0
    elif weight_decay is not None:
        group["weight_decay"] = weight_decay
    if rule is not None:
        group["where"] = rule.where
        if rule.weight_decay is not None:
            group["weight_decay"] = rule.weight_decay
        if rule.lr is not None:
            group["lr"] = rule.lr
        if rule.lr_scale != 1.0:
            group["lr_scale"] = rule.lr_scale
    return group


def _places(model: nn.Module) -> list[_Place]:
    """Every parameter once, in order of registration."""
    owners: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(module)
    return [_Place(name, parameter, tuple(owners[id(parameter)])) for name, parameter in model.named_parameters()]


def _assign(places: list[_Place], rules: Sequence[Group]) -> dict[str, int]:
    """Name -> the number of the first rule that matches it."""
    trained = {place.name for place in places if place.parameter.requires_grad}
    found: dict[str, int] = {}
    for number, rule in enumerate(rules):
        where = f"recipe.training.groups[{number}].where"
        matched = [name for name in matching((p.name for p in places), rule.where, where) if name in trained]
        if not matched:
            raise RecipeError(f"{where}: all that {rule.where!r} matches is frozen; leave the rule out or unfreeze it.")
        new = [name for name in matched if name not in found]
        if not new:
            raise RecipeError(f"{where}: earlier rules already take all that {rule.where!r} matches; put it first.")
        found.update(dict.fromkeys(new, number))
    return found


def _head(places: list[_Place], model: nn.Module) -> set[str]:
    """Matrices that are not inside the network: outside ``blocks`` where there are any, else the last one."""
    matrices = [place for place in places if place.parameter.ndim >= 2 and not _is_embedding(place)]
    blocks = getattr(model, "blocks", None)
    if isinstance(blocks, nn.Module):
        inside = {id(parameter) for parameter in blocks.parameters()}
        return {place.name for place in matrices if id(place.parameter) not in inside}
    return {place.name for place in matrices if place.owners[0] is matrices[-1].owners[0]}


def _role(place: _Place, is_head: bool) -> Role:
    if place.parameter.ndim < 2 or isinstance(place.owners[0], NORMS):
        return "vector"
    if _is_embedding(place):
        return "embedding"
    if is_head:
        return "head"
    return "hidden" if place.parameter.ndim == 2 else "other"


def _is_embedding(place: _Place) -> bool:
    return any(hasattr(owner, "num_embeddings") for owner in place.owners)


def _row_parts(place: _Place) -> list[int] | None:
    """Numbers of rows that make up a matrix of several side by side, or None where it is one."""
    owner, rows = place.owners[0], len(place.parameter) if place.parameter.ndim else 0
    if place.parameter.ndim != 2:
        return None
    if isinstance(owner, nn.RNNBase) and place.name.rpartition(".")[2].startswith(("weight_ih", "weight_hh")):
        return [owner.hidden_size] * (rows // owner.hidden_size)
    parts = getattr(owner, "row_parts", None)
    if parts is None:
        return None
    if sum(parts) != rows:
        raise RecipeError(f"{place.name}: its module says row_parts = {tuple(parts)}, but the matrix has {rows} rows.")
    return list(parts)
