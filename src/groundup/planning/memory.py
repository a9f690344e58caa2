"""How much memory a training run will hold at its fullest moment, by part."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from groundup.core.batch import Batch
from groundup.core.plan import Plan
from groundup.core.use import resolve
from groundup.planning.simulation import MakeOptimizer, Objective, Precision, simulate


def plan_memory(
    model: nn.Module,
    batch: Batch,
    optimizer: torch.optim.Optimizer | MakeOptimizer | str | None = None,
    objective: Objective | None = None,
    precision: Precision = "fp32",
    accumulate: int = 1,
) -> Plan:
    """The memory of one training step at its peak, and its work; nothing is computed, nothing allocated.

    ``model`` may be on the meta device. ``batch`` is one micro-batch, of which ``accumulate`` make an
    update. ``optimizer`` is the one that holds the model's parameters, a function from a list of
    parameters to one, or a name in ``groundup.optim``. Without ``objective`` a language model's own loss
    is taken, or the mean square of the output. Raises GroundupError when the model cannot take the batch.
    """
    if isinstance(optimizer, str):
        make: Any = resolve(optimizer, "optimizer", where="the plan's optimizer")
        made: torch.optim.Optimizer | MakeOptimizer | None = make(resolve("parameter_groups", "optimizer")(model))
    else:
        made = optimizer
    found = simulate(model, batch, made, objective, precision, accumulate)
    parameters = list(model.parameters())
    assumptions = [
        f"the fullest moment is {found.fullest}; parts are given as they stand then",
        "gradients are dropped after each update",
        "what kernels borrow inside one operation is not counted, nor gaps in the allocator's heap",
    ]
    if "targets" in batch.targets and "tokens" in batch.inputs:
        assumptions.append("every token is trained on; masked ones make it less")
    if accumulate > 1:
        assumptions.append(f"{accumulate} micro-batches of {batch.num_samples} make one update")
    if optimizer is None:
        assumptions.append("no optimizer was given, so its state is not counted")
    if found.measured:
        assumptions.append(
            f"the model looks at values, so a copy was run on one and two samples and drawn on in a line: "
            f"{found.measured}"
        )
    return Plan(
        memory_bytes=found.memory_bytes,
        work=found.work,
        assumptions=tuple(assumptions),
        num_parameters=sum(p.numel() for p in parameters),
        num_trainable=sum(p.numel() for p in parameters if p.requires_grad),
    )
