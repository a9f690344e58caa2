"""Learning-rate schedules: the fraction of the budget that is done -> a factor on the learning rate."""

from __future__ import annotations

import math
from typing import Literal

from groundup.core.errors import RecipeError

__all__ = ["constant", "cosine", "linear", "trapezoid"]

Shape = Literal["linear", "cosine", "sqrt"]


def constant(progress: float, warmup: float = 0.0) -> float:
    """1 throughout, after a linear rise from 0 over the first ``warmup`` of the budget."""
    return _rise(progress, _fractions(warmup=warmup))


def cosine(progress: float, warmup: float = 0.0, floor: float = 0.0) -> float:
    """A linear rise over ``warmup`` of the budget, then half a cosine from 1 down to ``floor``.

    Source: Loshchilov and Hutter, SGDR, 2017, equation 5, one period.
    """
    return _rise_and_fall(progress, _fractions(warmup=warmup), 1 - warmup, floor, "cosine")


def linear(progress: float, warmup: float = 0.0, floor: float = 0.0) -> float:
    """A linear rise over ``warmup`` of the budget, then a straight line from 1 down to ``floor``."""
    return _rise_and_fall(progress, _fractions(warmup=warmup), 1 - warmup, floor, "linear")


def trapezoid(
    progress: float, warmup: float = 0.0, cooldown: float = 0.2, floor: float = 0.0, shape: Shape = "linear"
) -> float:
    """Up over ``warmup`` of the budget, level at 1, and down to ``floor`` over the last ``cooldown``.

    Also called warmup-stable-decay. ``shape`` is how it comes down: "sqrt" is 1 - sqrt(fraction of the
    cooldown). Source: Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations, 2024, sections 3 and 4.
    """
    return _rise_and_fall(progress, _fractions(warmup=warmup, cooldown=cooldown), cooldown, floor, shape)


def _rise_and_fall(progress: float, warmup: float, cooldown: float, floor: float, shape: Shape) -> float:
    if not 0 <= floor <= 1:
        raise RecipeError(f"schedule.floor: read {floor}, expected a factor from 0 to 1.")
    return _rise(progress, warmup) * (floor + (1 - floor) * _fall(progress, cooldown, shape))


def _rise(progress: float, warmup: float) -> float:
    return min(1.0, progress / warmup) if warmup else 1.0


def _fall(progress: float, cooldown: float, shape: Shape) -> float:
    """From 1 where the last ``cooldown`` of the budget begins to 0 at its end."""
    done = min(1.0, max(0.0, (progress - (1 - cooldown)) / cooldown)) if cooldown else 0.0
    if shape == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - math.sqrt(done) if shape == "sqrt" else 1 - done


def _fractions(warmup: float, cooldown: float = 0.0) -> float:
    """``warmup`` itself, once both are known to be fractions of the budget that fit into it."""
    for name, value in (("warmup", warmup), ("cooldown", cooldown)):
        if not 0 <= value <= 1:
            raise RecipeError(
                f"schedule.{name}: read {value}, expected a fraction of the budget from 0 to 1, not a number of steps."
            )
    if warmup + cooldown > 1:
        raise RecipeError(f"schedule: warmup {warmup} and cooldown {cooldown} are more than the whole budget together.")
    return warmup
