"""Samples of tables and series as training sees them: each changed by steps of its own, then mixed with others.

The generator of a sample is seeded by (seed, epoch, row) and handed through the steps in the recipe's order, so what
becomes of it does not depend on the batch that it stands in, on workers, or on where a run was resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from groundup.core.errors import RecipeError
from groundup.data.augmentation.mixing import as_probabilities, mix_values, mixes, partners, split_mixing

Generators = list[np.random.Generator]
Change = Callable[[npt.NDArray[Any], Sequence[Any], Generators], tuple[Tensor, Tensor | None]]
"""(positions, steps, a generator for each) -> inputs [B, ...] and targets, changed by these steps."""


def augmented(
    change: Change,
    augment: Sequence[Any],
    rows: npt.NDArray[Any],
    positions: npt.NDArray[Any],
    drawn_from: tuple[int, int],
    num_classes: int | None,
) -> tuple[Tensor, Tensor | None]:
    """Inputs and targets of these positions; ``rows`` are those of all samples, ``drawn_from`` is (seed, epoch).

    Targets of mixed samples are probabilities float32 [B, num_classes], or mixed values.
    """
    alone, mixing = split_mixing(augment)

    def generators(at: npt.NDArray[Any]) -> Generators:
        return [np.random.default_rng([*drawn_from, row]) for row in rows[at].tolist()]

    own = generators(positions)
    inputs, targets = change(positions, alone, own)
    if mixing and targets is not None and num_classes is not None:
        targets = as_probabilities(targets, num_classes)
    for step in mixing:
        drawn = np.array([step.draw_mix(rng, len(rows), tuple(inputs.shape[1:])) for rng in own], dtype=np.float64)
        others = partners(drawn)
        their_inputs, their_targets = change(others, alone, generators(others))
        inputs = step.mix(inputs, their_inputs, drawn)
        if targets is not None and their_targets is not None:
            theirs = their_targets if num_classes is None else as_probabilities(their_targets, num_classes)
            targets = mix_values(targets, theirs, drawn[:, 1])
    return inputs, targets


def looks_at_others(step: object) -> bool:
    """Whether a step looks at other samples of train than the one that it changes."""
    return mixes(step) or hasattr(step, "change_row")


def need_method(steps: Sequence[Any], method: str, signature: str) -> None:
    """Raises RecipeError for a step that was made for other samples."""
    for step in steps:
        if not hasattr(step, method):
            raise RecipeError(
                f"augment: {type(step).__name__} has no {method}{signature}, which these samples need. Is it for other "
                "data?"
            )
