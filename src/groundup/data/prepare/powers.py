"""The power transforms of Box, Cox, Yeo and Johnson, their inverses, and the power that makes values most normal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from groundup.core.statistics import Quantiles

Values = npt.NDArray[np.float64]
Method = Literal["yeo_johnson", "box_cox"]
Transform = Callable[[Values, float], Values]

LARGEST = 50.0
"""Powers further from 0 than this are not considered: only values that hardly differ from one another ask for them."""

LOGS = 300.0
"""The largest exponent that a power may lead to, so that squares of what it gives stay finite."""

DIGITS = 1e-9
"""A power under which the values differ by less than this share of their size loses them: it is not considered."""


def box_cox(values: Values, power: float) -> Values:
    """(x^p - 1) / p, or ln x for p = 0; x > 0. Box and Cox, J. Royal Stat. Soc. B 26, 1964, equation 3."""
    return _power(np.log(values), power)


def inverse_box_cox(values: Values, power: float) -> Values:
    """(p y + 1)^(1 / p), or e^y for p = 0; what p y + 1 <= 0 leaves without an answer is NaN."""
    return np.exp(_root(values, power))


def yeo_johnson(values: Values, power: float) -> Values:
    """From 0 up ((x + 1)^p - 1) / p, or ln(x + 1) for p = 0; below -((1 - x)^(2 - p) - 1) / (2 - p), or -ln(1 - x).

    Yeo and Johnson, Biometrika 87, 2000, equation 2.1.
    """
    above = _power(np.log1p(np.maximum(values, 0.0)), power)
    below = -_power(np.log1p(np.maximum(-values, 0.0)), 2 - power)
    return np.where(values >= 0, above, below)


def inverse_yeo_johnson(values: Values, power: float) -> Values:
    """What ``yeo_johnson`` makes these values of; NaN for those that nothing becomes."""
    above = np.expm1(_root(np.maximum(values, 0.0), power))
    below = -np.expm1(_root(np.maximum(-values, 0.0), 2 - power))
    return np.where(values >= 0, above, below)


TRANSFORMS: Mapping[str, tuple[Transform, Transform]] = {
    "box_cox": (box_cox, inverse_box_cox),
    "yeo_johnson": (yeo_johnson, inverse_yeo_johnson),
}
"""Method -> (transform, inverse)."""


def best_power(sketch: Quantiles, method: Method) -> tuple[float, float, float]:
    """(power, mean, deviation): the power of most likelihood, and moments of the values that it gives.

    The profile log-likelihood of a normal distribution is (p - 1) sum(j) - n / 2 ln(variance of the transformed), with
    j = ln x for Box-Cox and sign(x) ln(1 + |x|) for Yeo-Johnson; its maximum is found as Brent does (1973), among
    powers that lose no digits. A power of 1, which only moves values, where all are equal.

    A sketch of at most ``CAPACITY`` values is exact, and the power is scipy's; of more, each item stands for several.
    """
    from scipy import optimize  # type: ignore[import-untyped]

    values, weights = sketch.items
    transform = TRANSFORMS[method][0]
    logs = np.log(values) if method == "box_cox" else np.sign(values) * np.log1p(np.abs(values))
    if values.min() == values.max():
        return 1.0, float(transform(values[:1], 1.0)[0]), 0.0
    count, jacobian = weights.sum(), float(weights @ logs)

    def unlikely(power: float) -> float:
        deviation = _moments(transform(values, power), weights)[1]
        if not deviation > 0:
            return np.inf
        return float(count * np.log(deviation) - (power - 1) * jacobian)

    reach = min(LARGEST, LOGS / float(np.max(np.abs(logs))))
    ends = (-reach, reach) if method == "box_cox" else (max(-reach, 2 - LARGEST), min(reach + 2, LARGEST))
    with np.errstate(over="ignore", invalid="ignore"):
        found = float(optimize.fminbound(unlikely, *ends, xtol=1.48e-8))
        power = found if np.isfinite(unlikely(found)) else 1.0
    return power, *_moments(transform(values, power), weights)


def _moments(values: Values, weights: npt.NDArray[Any]) -> tuple[float, float]:
    """Mean and deviation; a deviation too small, or too large, to keep the values apart is given as 0."""
    mean = float(np.average(values, weights=weights))
    deviation = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    size = float(np.max(np.abs(values)))
    return mean, deviation if np.isfinite(deviation) and deviation > DIGITS * size else 0.0


def _power(logs: Values, power: float) -> Values:
    """(e^(p l) - 1) / p, or l for p = 0."""
    return logs if abs(power) < np.finfo(np.float64).eps else np.expm1(power * logs) / power


def _root(values: Values, power: float) -> Values:
    """ln(p y + 1) / p, or y for p = 0."""
    if abs(power) < np.finfo(np.float64).eps:
        return values
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log1p(power * values) / power
