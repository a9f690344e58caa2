"""One training step carried out on tensors without memory, to see what it will ask for.

Every operation passes through with its true shapes and types, forward, backward and update, but nothing
is computed and nothing is allocated: a model of any size, on the meta device too, is planned in seconds.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from groundup.core.batch import Batch, Loss
from groundup.core.errors import GroundupError
from groundup.core.misfit import layers_named
from groundup.planning.timeline import Timeline, Watch, peak

Objective = Callable[[nn.Module, Batch], Loss]
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
Precision = Literal["fp32", "bf16"]

ANY_FAULT = (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError)
"""What a model may raise that cannot take a batch, or that looks at values that are not there."""

PARTS = ("weights", "gradients", "optimizer", "activations", "batch")


@dataclasses.dataclass(frozen=True)
class Simulation:
    """What one training step asked for."""

    memory_bytes: Mapping[str, int]
    """Part -> bytes at the fullest moment of a step that has its optimizer's state already."""
    work: Mapping[str, float]
    fullest: str
    """What went on at that moment."""
    measured: str = ""
    """Why the model had to be run on real values, if it had to."""


def simulate(
    model: nn.Module,
    batch: Batch,
    optimizer: torch.optim.Optimizer | MakeOptimizer | None = None,
    objective: Objective | None = None,
    precision: Precision = "fp32",
    accumulate: int = 1,
) -> Simulation:
    """Two training steps without memory; the second counts. The model and the optimizer stay as they are.

    ``batch`` is one micro-batch; ``accumulate`` of them make an update. ``optimizer`` is the one that holds
    the model's parameters, or what makes one from a list of parameters. Raises GroundupError when the
    model cannot take the batch.
    """
    objective = objective or default_objective
    modes = {module: module.training for module in model.modules()}
    model.train()
    run = functools.partial(_two_steps, objective=objective, optimizer=optimizer, precision=precision)
    devices = range(torch.cuda.device_count())
    try:
        with torch.random.fork_rng(devices):
            try:
                shell = shell_of(model)
                with no_values():
                    return run(fake_stage(shell, batch), accumulate=accumulate).read()
            except ANY_FAULT as error:
                return _measured(model, batch, functools.partial(run, accumulate=1), error)
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextlib.contextmanager
def no_values() -> Iterator[None]:
    """Within, operations give tensors that have a shape alone; torch's own report of one that fails is left out."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it prints a traceback, and whoever asked gets the error anyway
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        log.setLevel(level)


def default_objective(model: nn.Module, batch: Batch) -> Loss:
    """A language model's own mean loss, or else the mean square of the output: as much memory as any loss."""
    if "tokens" in batch.inputs and "targets" in batch.targets:
        total = model(**batch.inputs, **batch.targets)
    else:
        outputs = [leaf for leaf in tree_leaves(model(**batch.inputs)) if isinstance(leaf, Tensor)]
        total = torch.stack([output.float().square().mean() for output in outputs]).sum()
    return Loss(total, batch.num_tokens)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A model as a function of stand-ins for its tensors, and a batch of stand-ins."""

    model: nn.Module
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    batch: Batch
    originals: dict[int, nn.Parameter]
    """Identity of the model's own parameter -> its stand-in."""


class Whole(nn.Module):
    """Model and objective as one module, so that all of the model's tensors can be replaced for one call."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> Tensor:
        """The objective's total."""
        return self.objective(self.model, batch).total


def shell_of(model: nn.Module) -> nn.Module:
    """A copy that shares every tensor: what a module keeps for later, such as tables, is kept by the copy."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def fake_stage(model: nn.Module, batch: Batch) -> Stage:
    """A model and a batch with stand-ins for every tensor."""

    def stand_in(tensor: Tensor) -> Tensor:
        device = "cpu" if tensor.device.type == "meta" else tensor.device
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)

    parameters: dict[str, Tensor] = {}
    originals: dict[int, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        originals[id(parameter)] = nn.Parameter(stand_in(parameter), requires_grad=parameter.requires_grad)
        parameters[f"model.{name}"] = originals[id(parameter)]
    buffers = {f"model.{name}": stand_in(buffer) for name, buffer in model.named_buffers()}
    fake_batch = dataclasses.replace(
        batch,
        inputs={name: stand_in(value) for name, value in batch.inputs.items()},
        targets={name: stand_in(value) for name, value in batch.targets.items()},
    )
    return Stage(model, parameters, buffers, fake_batch, originals)


@dataclasses.dataclass(frozen=True)
class _Recording:
    """Two steps as they went by."""

    events: list[tuple[int, float]]
    parts: dict[int, str]
    moments: list[tuple[int, str]]
    work: dict[str, float]

    def read(self, measured: str = "") -> Simulation:
        """The second step's fullest moment and work."""
        found, when = peak(self.events, self.parts, self.moments)
        return Simulation({part: round(found.get(part, 0)) for part in PARTS}, self.work, when, measured)


def _two_steps(
    stage: Stage,
    objective: Objective,
    optimizer: torch.optim.Optimizer | MakeOptimizer | None,
    precision: Precision,
    accumulate: int,
) -> _Recording:
    """Run them; the second begins with the optimizer's state in place."""
    timeline = Timeline()
    parts: dict[int, str] = {}

    def assign(part: str, tensors: Iterable[Any]) -> None:
        for tensor in tensors:
            number = timeline.see(tensor) if isinstance(tensor, Tensor) else None
            if number is not None:
                parts.setdefault(number, part)

    assign("weights", [*stage.parameters.values(), *stage.buffers.values()])
    assign("batch", [*stage.batch.inputs.values(), *stage.batch.targets.values()])
    whole = Whole(stage.model, objective)
    trainable = [p for p in stage.originals.values() if p.requires_grad]
    stepper = _stand_in_optimizer(optimizer, trainable, stage.originals)
    moments: list[tuple[int, str]] = []
    with Watch(timeline):
        for _ in range(2):
            moments.clear()
            timeline.work.clear()
            for _ in range(min(accumulate, 2)):
                moments.append((len(timeline.events), "the forward pass"))
                with autocast(stage.batch, precision):
                    total = functional_call(whole, {**stage.parameters, **stage.buffers}, (stage.batch,))
                moments.append((len(timeline.events), "the backward pass"))
                total.backward()
                del total
            moments.append((len(timeline.events), "the update"))
            work = {name: float(amount) * accumulate / min(accumulate, 2) for name, amount in timeline.work.items()}
            assign("gradients", [p.grad for p in trainable])
            if stepper is not None:
                timeline.work.clear()
                stepper.step()
                for name, amount in timeline.work.items():
                    work[name] = work.get(name, 0.0) + amount
                assign("optimizer", tree_leaves([dict(state) for state in stepper.state.values()]))
            for parameter in trainable:
                parameter.grad = None
    return _Recording(list(timeline.events), parts, moments, work)


def autocast(batch: Batch, precision: Precision) -> Any:
    """Mixed precision as the training loop has it: weights stay fp32, products run in bf16."""
    device = next(iter(batch.inputs.values())).device.type
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


def _stand_in_optimizer(
    optimizer: torch.optim.Optimizer | MakeOptimizer | None,
    trainable: list[nn.Parameter],
    originals: Mapping[int, nn.Parameter],
) -> torch.optim.Optimizer | None:
    """The same optimizer over the stand-ins, without what it has gathered so far."""
    if optimizer is None:
        return None
    if not isinstance(optimizer, torch.optim.Optimizer):
        return optimizer(trainable)
    twin = object.__new__(type(optimizer))
    twin.__dict__.update(optimizer.__dict__)
    twin.state = collections.defaultdict(dict)
    twin.param_groups = [
        {**group, "params": [originals[id(p)] for p in group["params"] if id(p) in originals]}
        for group in optimizer.param_groups
    ]
    return twin


def _measured(model: nn.Module, batch: Batch, run: Callable[[Stage], _Recording], error: Exception) -> Simulation:
    """For a model that looks at values: a copy of it is run on two and on three samples and drawn on in a line."""
    told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    if any(p.device.type == "meta" for p in model.parameters()):
        raise GroundupError(
            f"the plan: {type(model).__name__} could not be carried out on tensors without values ({told}). "
            "Either it cannot take this batch, or it looks at values; then plan it with real weights."
        ) from error

    def carried_out(part: Batch) -> _Recording:
        stage = _real_stage(model, part)
        with layers_named(stage.model):
            return run(stage)

    try:
        if batch.num_samples <= 3:
            return carried_out(batch).read(told)
        two, three = (carried_out(next(batch.parts(size))) for size in (2, 3))
        if len(two.events) != len(three.events):  # it did different things, so no line can be drawn
            return carried_out(batch).read(told)
    except ANY_FAULT as second:
        raise GroundupError(
            f"the plan: {type(model).__name__} cannot take this batch: {type(second).__name__}: {second}."
        ) from second
    more = batch.num_samples - 3
    pairs = zip(two.events, three.events, strict=True)
    events = [(number, size + more * (size - smaller)) for (_, smaller), (number, size) in pairs]
    work = {name: amount + more * (amount - two.work.get(name, 0.0)) for name, amount in three.work.items()}
    return dataclasses.replace(three, events=events, work=work).read(told)


def _real_stage(model: nn.Module, batch: Batch) -> Stage:
    """A copy of the model with its own weights."""
    twin = copy.deepcopy(model)
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    return Stage(
        model=twin,
        parameters={f"model.{name}": parameter for name, parameter in twin.named_parameters()},
        buffers={f"model.{name}": buffer for name, buffer in twin.named_buffers()},
        batch=batch,
        originals={id(own): copied for own, copied in pairs},
    )
