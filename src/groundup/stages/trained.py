"""A run that has a model, as a value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import nn

from groundup.core.batch import Batch, Loss
from groundup.core.recipe import Training
from groundup.core.report import Report
from groundup.core.run import Run
from groundup.stages.prepared import Prepared

Objective = Callable[[nn.Module, Batch], Loss]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run that has a model: what the later verbs start from."""

    run: Run
    prepared: Prepared
    model: nn.Module
    training: Training
    objective: Objective
    report: Report | None = None
    """What was measured at its end."""
