"""What augmentation does to some samples, step by step, for a person to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from groundup.core.errors import DataError
from groundup.core.preprocessing import step_name


@dataclasses.dataclass(frozen=True)
class BeforeAndAfter:
    """One sample on its way through the steps: a pair (name, value) for "before", and for what each step has added.

    A value is an image as uint8 [H, W, C] (``data.pixels.to_png`` makes a file of it), a text as a string, or
    numbers [...].
    """

    row: int
    name: str
    """What a person finds the row by."""
    stages: tuple[tuple[str, Any], ...]


def before_and_after(
    encoded: Any, augment: Sequence[Any], count: int = 4, seed: int = 0, epoch: int = 0
) -> list[BeforeAndAfter]:
    """``count`` samples of an encoded split, drawn by ``seed``, before and after each step, as training sees them.

    ``encoded`` is what a builder of samples makes of a split, ``augment`` the made steps. It has a method
    ``augmented(positions, augment, seed, epoch)`` that gives values as a person sees them. Raises DataError where
    there is none.
    """
    if not hasattr(encoded, "augmented"):
        raise DataError(f"augment: {type(encoded).__name__} has no augmentation that can be shown.")
    positions = np.sort(np.random.default_rng(seed).permutation(len(encoded))[:count])
    names = ["before", *(step_name(step) for step in augment)]
    # Each step draws behind those before it, so the first steps alone draw what they draw among all.
    stages = [encoded.augmented(positions, augment[:upto], seed, epoch) for upto in range(len(augment) + 1)]
    dataset = getattr(encoded, "dataset", None)
    titles = (
        dataset.take(positions).row_names() if dataset is not None else [f"row {r}" for r in encoded.rows[positions]]
    )
    return [
        BeforeAndAfter(
            int(encoded.rows[position]),
            titles[i],
            tuple((name, stage[i]) for name, stage in zip(names, stages, strict=True)),
        )
        for i, position in enumerate(positions.tolist())
    ]
