"""``torch.compile`` where it pays back its compile time within the budget: measured, decided, said so."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import nn

from groundup.core.batch import Batch
from groundup.training.gradients import Objective, compute_gradients
from groundup.training.precision import Precision
from groundup.training.timing import as_before, measure_step_time

COMPILE_TIME_S = 25.0
"""About what a cold compile takes on two cores."""
LIKELY_GAIN = 0.25
"""The part of forward and backward that compiling is assumed to save, before it is measured."""
LEAST_GAIN = 0.03
"""Less than this is noise, and not worth a compiled model's ways."""
COMPILE_ERRORS = (
    RuntimeError,
    OSError,
    ImportError,
    AttributeError,
    TypeError,
    AssertionError,
    subprocess.SubprocessError,
)
"""What a broken compiler raises. The model itself has run without compiling by then, so it is not to blame."""

_PROBE = "#include <Python.h>\n#include <cmath>\n{openmp}int main() {{ return 0; }}\n"


@dataclasses.dataclass(frozen=True)
class Decision:
    """Whether a model's steps are compiled, and why."""

    on: bool
    reason: str


class Regions:
    """The compiled parts of a model, each called in place of the plain one only while ``active``.

    So evaluation and generation, whose shapes vary, run as written and are never compiled anew.
    """

    def __init__(self, model: nn.Module) -> None:
        blocks = getattr(model, "blocks", None)
        modules = list(blocks) if isinstance(blocks, nn.ModuleList) and len(blocks) else [model]
        # One kernel for each shape: a general one would depend on which shapes came first, and a resume with it.
        self._compiled = [(module, torch.compile(module._call_impl, dynamic=False)) for module in modules]

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Inside, the model's forward runs compiled."""
        for module, compiled in self._compiled:
            module._compiled_call_impl = compiled
        try:
            yield
        finally:
            for module, _ in self._compiled:
                module._compiled_call_impl = None


@functools.cache
def compiler_problem(device_kind: str = "cpu") -> str | None:
    """Why this machine cannot compile for a kind of device, or None where it can. Takes a fraction of a second."""
    if device_kind == "cuda":
        return None if importlib.util.find_spec("triton") else "triton is not installed"
    if device_kind != "cpu":
        return f"compiling for {device_kind} is not yet dependable"
    name = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    path = shutil.which(name)
    if path is None:
        return f"there is no C++ compiler ({name})"
    if sys.platform == "win32":
        return None
    openmp = "#include <omp.h>\n" if sys.platform == "linux" else ""
    flags = ["-fopenmp"] if openmp else []
    command = [path, *flags, "-I", sysconfig.get_paths()["include"], "-fsyntax-only", "-x", "c++", "-"]
    try:
        done = subprocess.run(command, input=_PROBE.format(openmp=openmp), capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return f"the C++ compiler {name} does not run: {error}"
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), "it gave no reason")
        return f"the C++ compiler {name} does not work: {first.strip()}"
    return None


def decide_compile(
    wanted: Literal["auto", "on", "off"],
    model: nn.Module,
    objective: Objective,
    batch: Batch,
    precision: Precision,
    forward_backward_s: float,
    num_steps: float,
) -> Decision:
    """Whether to compile the ``num_steps`` steps to come, whose forward and backward take so long uncompiled.

    "on" compiles unless it fails; "auto" also asks that the time saved is likely to be more than compiling
    takes, compiles, measures on the given batch, and goes back unless that was faster. Nothing of the model
    changes by it, nor of the random numbers.
    """
    if wanted == "off":
        return Decision(False, "asked for")
    budget_s = num_steps * forward_backward_s
    if wanted == "auto" and budget_s * LIKELY_GAIN <= COMPILE_TIME_S:
        return Decision(
            False,
            f"compiling takes about {COMPILE_TIME_S:.0f} s and is likely to save {budget_s * LIKELY_GAIN:.1f} s",
        )
    problem = compiler_problem(precision.device)
    if problem is not None:
        return Decision(False, problem)
    try:
        plain_loss, compiled_loss, compiled_s = _try(model, objective, batch, precision)
    except COMPILE_ERRORS as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Decision(False, f"compiling failed: {lines[0][:200]}")
    if not abs(compiled_loss - plain_loss) <= 0.05 * abs(plain_loss) + 1e-3:
        return Decision(False, f"compiled, the loss is {compiled_loss:.4g} where it should be {plain_loss:.4g}")
    gain = 1 - compiled_s / forward_backward_s
    measured = f"forward and backward take {compiled_s:.3g} s compiled, {forward_backward_s:.3g} s plain"
    return Decision(wanted == "on" or gain > LEAST_GAIN, measured)


def _try(model: nn.Module, objective: Objective, batch: Batch, precision: Precision) -> tuple[float, float, float]:
    """Loss as written, loss compiled, and seconds of a compiled forward and backward."""

    def loss() -> float:
        with as_before(model):
            model.train()
            return compute_gradients(model, objective, batch, precision).loss

    plain_loss = loss()
    regions = Regions(model)
    with regions.active(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's remarks on its own insides
        compiled_loss = loss()
        return plain_loss, compiled_loss, measure_step_time(model, objective, batch, precision)


def compiled_regions(
    model: nn.Module, decision: dict[str, Any]
) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """What to enter around each step so that it runs as was decided.

    A run that was compiled and goes on where it cannot be says so in a warning: its numbers will differ in
    the last digits from those of an unbroken run.
    """
    if not decision.get("on"):
        return contextlib.nullcontext
    problem = compiler_problem(next(model.parameters()).device.type)
    if problem is not None:
        warnings.warn(f"this run was compiled before and goes on uncompiled, as {problem}", stacklevel=3)
        return contextlib.nullcontext
    return Regions(model).active
