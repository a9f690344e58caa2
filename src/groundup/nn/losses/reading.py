"""How losses read what they are given: exact types, equal shapes, classes by number or as probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from groundup.core.errors import RecipeError

MASKED = -100
"""The target that marks a position as not learned from."""


def exact(values: Tensor) -> Tensor:
    """fp32 for the short float types and whole numbers; fp32 and fp64 stay."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def alike(output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one exact type and of one shape; broadcasting is refused, since [B, 1] - [B] would be [B, B]."""
    if output.shape == (*targets.shape, 1):
        output = output.squeeze(-1)
    elif targets.shape == (*output.shape, 1):
        targets = targets.squeeze(-1)
    if output.shape != targets.shape:
        raise RecipeError(f"loss: output {tuple(output.shape)} and targets {tuple(targets.shape)} differ in shape.")
    output = exact(output)
    return output, targets.to(output.dtype)


def yes_or_no(output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and targets of one shape; of two classes' logits [..., 2] beside class numbers [...] their difference.

    sigmoid(z_1 - z_0) is softmax(z)_1, so that predictions say what was learned. Class numbers of -100 are left out.
    """
    if targets.is_floating_point() or output.shape[:-1] != targets.shape or output.shape[-1] == 1:
        return alike(output, targets)
    if output.shape[-1] != 2:
        raise RecipeError(
            f"loss: yes or no is two classes, and the output {tuple(output.shape)} has {output.shape[-1]}; "
            "take cross_entropy or focal."
        )
    logits, labels = classes(output, targets)
    return logits[:, 1] - logits[:, 0], labels.to(logits.dtype)


def several(output: Tensor, targets: Tensor, count: int, what: str) -> tuple[Tensor, Tensor]:
    """Output [..., count] and targets [...], or [..., 1], in one exact type."""
    wanted = (*targets.shape, count)
    if output.shape != wanted and targets.shape[-1:] == (1,) and output.shape == (*targets.shape[:-1], count):
        targets = targets.squeeze(-1)
    elif output.shape != wanted:
        raise RecipeError(
            f"loss: expected {what} for each target, an output of shape {wanted}; read {tuple(output.shape)}. "
            f"ValueHead with per_value = {count} gives it."
        )
    output = exact(output)
    return output, targets.to(output.dtype)


def classes(output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [N, C] in an exact type, and class numbers [N] or probabilities [N, C]; masked places are left out."""
    if targets.is_floating_point():
        if output.shape != targets.shape:
            raise RecipeError(
                f"loss: expected logits [..., C] and whole-numbered targets [...] or probabilities [..., C], read "
                f"{tuple(output.shape)} and {tuple(targets.shape)} of {targets.dtype}."
            )
        logits = exact(output).flatten(0, -2)
        return logits, targets.flatten(0, -2).to(logits.dtype)
    if output.shape[:-1] != targets.shape:
        raise RecipeError(
            f"loss: expected logits [..., C] and whole-numbered targets [...], read {tuple(output.shape)} "
            f"and {tuple(targets.shape)} of {targets.dtype}."
        )
    logits, labels = output.flatten(0, -2), targets.flatten().long()
    counted = labels != MASKED
    if not bool(counted.all()):  # before they are made exact, which costs as much as the rest where few count
        logits, labels = logits[counted], labels[counted]
    return exact(logits), labels


def weights_by_class(class_weights: Sequence[float], logits: Tensor) -> Tensor:
    """The weights as a tensor [C]. Raises RecipeError when there are more or fewer than classes."""
    if len(class_weights) != logits.shape[-1]:
        raise RecipeError(f"loss.class_weights: read {len(class_weights)} numbers for {logits.shape[-1]} classes.")
    return logits.new_tensor(list(class_weights))
