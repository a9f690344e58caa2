"""What flows into and out of a training step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:  # what only cleans data needs no torch, which costs 200 MB
    import torch
    from torch import Tensor


class Bookmark(NamedTuple):
    """Where a stream stands: samples of ``epoch`` that were handed out so far. Resuming goes on from here."""

    epoch: int = 0
    position: int = 0


@dataclasses.dataclass(frozen=True)
class Batch:
    """``model(**inputs)``, then ``loss(output, **targets)``; the bookmark stands behind this batch."""

    inputs: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    bookmark: Bookmark = Bookmark()
    rows: np.ndarray[Any, Any] | None = None
    """The rows the samples came from, for messages."""

    @property
    def num_samples(self) -> int:
        """Sequences, images, rows or windows in this batch."""
        return len(next(iter(self.inputs.values())))

    @property
    def num_tokens(self) -> int:
        """Tokens, where the input is ``tokens``; else samples."""
        tokens = self.inputs.get("tokens")
        return self.num_samples if tokens is None else tokens.numel()

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        here = all(value.device.type == "cpu" for value in (*self.inputs.values(), *self.targets.values()))
        if here and str(device).partition(":")[0] == "cpu":
            return self
        return dataclasses.replace(
            self,
            inputs={name: value.to(device, non_blocking=True) for name, value in self.inputs.items()},
            targets={name: value.to(device, non_blocking=True) for name, value in self.targets.items()},
        )

    def parts(self, size: int) -> Iterator[Batch]:
        """The batch cut into parts of at most ``size`` samples."""
        for start in range(0, self.num_samples, size):
            cut = slice(start, start + size)
            yield dataclasses.replace(
                self,
                inputs={name: value[cut] for name, value in self.inputs.items()},
                targets={name: value[cut] for name, value in self.targets.items()},
                rows=None if self.rows is None else self.rows[cut],
            )


@dataclasses.dataclass(frozen=True)
class Loss:
    """What an objective gives: the mean to descend on, over how many targets, and its named parts.

    ``count`` lets micro-batches with different numbers of targets add up to the exact gradient of the
    whole batch; where targets have weights, it is the sum of these.
    """

    total: Tensor
    count: float
    parts: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Step:
    """What one update was: yielded by ``fit`` after the optimizer has stepped."""

    number: int
    """Updates made so far, this one included; the first is 1."""
    total: int
    """Updates that the budget allows in all."""
    loss: float
    parts: Mapping[str, float]
    learning_rate: float
    gradient_norm: float
    samples: int
    """Samples seen so far, this step's included."""
    tokens: int
    """Tokens seen so far, this step's included."""
    time_s: float
    """Wall time of this step alone."""

    def every(self, period: int | None) -> bool:
        """Whether this is a step for something done each ``period`` steps; None is never."""
        return period is not None and self.number % period == 0

    @property
    def last(self) -> bool:
        """Whether the budget ends with this step."""
        return self.number >= self.total
