"""What a step descends on: functions ``(model, batch) -> Loss``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from groundup.core.batch import Batch, Loss
from groundup.core.errors import ProofError, RecipeError
from groundup.core.use import resolve

__all__ = ["language_modelling", "supervised"]

IGNORED = -100
"""The class of a target that is no target."""

LossFunction = Callable[..., Tensor]


class NoTargetsError(ProofError):
    """A batch, or a part of one, in which there is nothing to learn."""


def supervised(model: nn.Module, batch: Batch, loss: LossFunction | None = None) -> Loss:
    """``loss(model(**inputs), **targets)``, a mean over the targets; without ``loss``, the cross entropy.

    Class targets of -100 do not count. Raises NoTargetsError when none counts, RecipeError when the loss
    is not one number.
    """
    count = count_targets(batch)
    loss = loss or _cross_entropy()
    output = model(**batch.inputs)
    if len(batch.targets) == 1:  # by place, since torch's own losses name it otherwise
        return Loss(_scalar(loss(output, *batch.targets.values()), loss), count)
    return Loss(_scalar(loss(output, **batch.targets), loss), count)


def language_modelling(model: nn.Module, batch: Batch) -> Loss:
    """The mean cross entropy of each next token, which the model computes itself: ``model(**inputs, **targets)``.

    ``count`` is the number of tokens that are predicted: targets other than -100.
    Raises NoTargetsError when there are none.
    """
    count = count_targets(batch)
    return Loss(_scalar(model(**batch.inputs, **batch.targets), model), count)


def count_targets(batch: Batch) -> int:
    """How many targets count. Raises NoTargetsError, which names the rows, when none does."""
    targets: Mapping[str, Tensor] = batch.targets
    if "targets" not in targets:
        raise RecipeError(f"the objective needs targets; the batch has {', '.join(targets) or 'none'}.")
    values = targets["targets"]
    masked = not (values.is_floating_point() or values.is_complex())
    count = int((values != IGNORED).sum()) if masked else values.numel()
    if count == 0:
        raise NoTargetsError(
            f"every target of this batch is masked ({describe_rows(batch)}), so there is nothing to learn from it: "
            "look at how the mask is made, and at samples cut off before their answer begins."
        )
    return count


def describe_rows(batch: Batch, positions: list[int] | None = None) -> str:
    """Where samples of a batch came from, for messages: at most eight rows."""
    if batch.rows is None:
        return "rows unknown" if positions is None else f"samples {_listed(positions)} of the batch"
    rows = batch.rows.tolist() if positions is None else [batch.rows[position] for position in positions]
    return f"row{'s' if len(rows) > 1 else ''} {_listed(rows)}"


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values[:8])) + (f" and {len(values) - 8} more" if len(values) > 8 else "")


def _scalar(total: Any, source: Any) -> Tensor:
    if not isinstance(total, Tensor) or total.ndim:
        name = getattr(source, "__name__", None) or type(source).__name__
        seen = f"shape {tuple(total.shape)}" if isinstance(total, Tensor) else type(total).__name__
        raise RecipeError(f"{name}: a loss is one number, the mean over the targets; this one gave {seen}.")
    return total


@functools.cache
def _cross_entropy() -> LossFunction:
    return cast("LossFunction", resolve("cross_entropy", "loss"))
