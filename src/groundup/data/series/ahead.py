"""Whether a step along a series uses what comes after the step of time that it answers for: declared, so checkable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from groundup.core.errors import RecipeError

Ahead = Literal["never", "always", "unless causal"]

Step = TypeVar("Step", bound=Callable[..., Any])


Reach = Callable[[Mapping[str, Any]], tuple[int, int] | None]


def declares(ahead: Ahead, reach: Reach | None = None) -> Callable[[Step], Step]:
    """Declare it for a function; ``unless causal`` means that its option ``causal`` decides.

    ``reach``, called with the function's options, tells how many steps before and behind decide an answer.
    """

    def declare(step: Step) -> Step:
        step.AHEAD, step.REACH = ahead, reach  # type: ignore[attr-defined]
        return step

    return declare


def reach(step: Any) -> tuple[int, int] | None:
    """How many steps before and behind decide what a step makes of one; None where that is not limited or not known."""
    function = getattr(step, "func", step)
    told: Reach | None = getattr(function, "REACH", None)
    if told is None:
        return None
    parameters = inspect.signature(function).parameters
    options = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    return told({**options, **getattr(step, "keywords", {})})


def within(width: int, causal: bool) -> tuple[int, int]:
    """The reach of a filter that looks at ``width`` steps."""
    return (width - 1, 0) if causal else (width // 2, width // 2)


def looks_ahead(step: Any) -> bool | None:
    """Whether a step, with the options bound to it, uses later values of the series; None where it says nothing.

    A class or function of one's own declares it by an attribute ``looks_ahead``.
    """
    function, options = getattr(step, "func", step), getattr(step, "keywords", {})
    ahead: Ahead | None = getattr(function, "AHEAD", None)
    if ahead == "unless causal":
        return not options.get("causal", inspect.signature(function).parameters["causal"].default)
    if ahead is not None:
        return ahead == "always"
    declared = getattr(step, "looks_ahead", getattr(function, "looks_ahead", None))
    return None if declared is None else bool(declared)


def need(holds: bool, name: str, read: Any, expected: str) -> None:
    """Raises RecipeError unless an option holds what was expected."""
    if not holds:
        raise RecipeError(f"{name}: read {read}, expected {expected}.")
