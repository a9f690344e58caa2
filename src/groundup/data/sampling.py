"""How often each sample of train is drawn: functions ``(encoded) -> weights [N]``; recipes name one as ``sampling``.

Without one, an epoch hands out every sample once. With weights, it draws as many samples with replacement, each with a
probability in proportion to its weight, from (seed, epoch) alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.core.errors import DataError, nearest
from groundup.data.samples.targets import class_names

__all__ = ["balanced", "by_class"]

Weights = npt.NDArray[np.float64]


def balanced(encoded: Any, strength: float = 1.0) -> Weights:
    """Each class equally often: a sample of a class with n rows weighs n^-``strength``.

    A ``strength`` of 0.5 goes half the way, by the square root (Mahajan et al. 2018, section 2.2); 0 changes nothing.
    Raises DataError where there are no classes.
    """
    if strength < 0:
        raise DataError(f"recipe.data.sampling: balanced: read strength = {strength}, expected 0 or more.")
    targets = _classes(encoded, "balanced")
    counts = np.bincount(targets)
    of_class = np.maximum(counts, 1).astype(np.float64) ** -strength
    weights: Weights = of_class[targets]
    return weights


def by_class(encoded: Any, weights: Mapping[str, float]) -> Weights:
    """Samples of a class named in ``weights`` weigh so much, all others 1. Raises DataError for an unknown class."""
    targets = _classes(encoded, "by_class")
    names = class_names(encoded.samples.learned["target"])
    factors = np.ones(len(names))
    for name, weight in weights.items():
        if name not in names:
            raise DataError(f"recipe.data.sampling: by_class: there is no class {name!r}.{nearest(name, names)}")
        if not 0 <= weight < float("inf"):
            raise DataError(f"recipe.data.sampling: by_class: read weight {weight} for {name!r}, expected 0 or more.")
        factors[names.index(name)] = weight
    return factors[targets]


def _classes(encoded: Any, by: str) -> npt.NDArray[np.int64]:
    targets = getattr(encoded, "targets", None)
    if targets is None or np.asarray(targets).dtype.kind not in "iu" or np.ndim(targets) != 1:
        raise DataError(
            f"recipe.data.sampling: {by} draws by the class of a sample, and these samples have no classes. Name a "
            "category as their target, or leave sampling out."
        )
    return np.asarray(targets, dtype=np.int64)
