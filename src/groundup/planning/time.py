"""How long a training run will take: the work of a step held against this machine's measured rates."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

import torch
from torch import nn

from groundup.core.batch import Batch
from groundup.core.plan import Plan
from groundup.planning.simulation import Objective, simulate


@dataclasses.dataclass(frozen=True)
class Speed:
    """What this machine does in a second, measured with the threads that torch has now."""

    flops: Mapping[str, float]
    """Type ("float32", "bfloat16") -> FLOP/s of a large matrix product."""
    bytes_per_s: float
    """Read and written together by operations that are no matrix product."""
    large_bytes_per_s: float
    """The same where each result is a large block that the system hands out anew."""
    operation_s: float
    """Time that the smallest operation takes, its share of the backward pass included."""


def flops_per_step(model: nn.Module, batch: Batch, objective: Objective | None = None) -> float:
    """Floating-point operations of one forward and backward pass; a multiply-add is two.

    For a decoder this is near 6 x parameters x tokens (Kaplan et al. 2020, section 2.1) and counts
    attention as well. ``model`` may be on the meta device.
    """
    work = simulate(model, batch, None, objective).work
    return sum(amount for name, amount in work.items() if name.startswith("flops"))


def matmul_rate(
    dtype: torch.dtype = torch.float32, size: int = 1024, seconds: float = 0.2, device: str = "cpu"
) -> float:
    """FLOP/s of a square matrix product, the fastest of as many as fit into the time."""
    left = torch.ones(size, size, dtype=dtype, device=device)
    out = torch.empty_like(left)
    return 2 * size**3 / _fastest(lambda: torch.mm(left, left, out=out), seconds, device)


def memory_rate(megabytes: int = 16, seconds: float = 0.1, device: str = "cpu") -> float:
    """Bytes per second, read and written together, of a common activation (SiLU) over arrays of this size.

    At 16 MB the result's memory is used again; at 64 MB the system hands out new pages each time, which
    took ten times as long where it was measured.
    """
    values = torch.ones(megabytes * 2**18, device=device)
    return 2 * values.nbytes / _fastest(lambda: nn.functional.silu(values), seconds, device)


def operation_time(seconds: float = 0.02, device: str = "cpu") -> float:
    """Seconds that the smallest operation takes from Python, with autograd watching."""
    one = torch.ones(8, device=device, requires_grad=True)
    return _fastest(lambda: one * 2.0, seconds, device)


def measure_speed(device: str = "cpu", dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16)) -> Speed:
    """Measure this machine, in well under a second for each type."""
    rates = {str(dtype).removeprefix("torch."): matmul_rate(dtype, device=device) for dtype in dtypes}
    return Speed(rates, memory_rate(device=device), memory_rate(64, device=device), operation_time(device=device))


def plan_time(plan: Plan, speed: Speed, steps: int | None = None, minutes: float | None = None) -> Plan:
    """The plan with the seconds of one step and of the whole training, or the steps that ``minutes`` allow.

    One step is a sum: matrix products at the measured rate, all other operations at the rate of memory,
    what large new blocks cost beyond that, and a fixed time for each operation.
    """
    slowest = min(speed.flops.values())
    products = sum(
        amount / speed.flops.get(name.removeprefix("flops "), slowest)
        for name, amount in plan.work.items()
        if name.startswith("flops")
    )
    large = plan.work.get("bytes of large blocks", 0.0)
    step = (
        products
        + plan.work.get("bytes moved", 0.0) / speed.bytes_per_s
        + 2 * large * max(0.0, 1 / speed.large_bytes_per_s - 1 / speed.bytes_per_s)
        + plan.work.get("operations", 0.0) * speed.operation_s
    )
    rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in speed.flops.items())
    assumptions = [f"measured here: {rates}; {speed.bytes_per_s / 1e9:.1f} GB/s of memory; nothing else runs beside it"]
    time_s = {"one step": step}
    if steps is not None:
        time_s["training"] = steps * step
    elif minutes is not None:
        time_s["training"] = minutes * 60
        assumptions.append(f"{max(1, int(minutes * 60 / step)):,} steps fit into {minutes:g} minutes")
    return plan.with_time(time_s, *assumptions)


def _fastest(run: Callable[[], object], seconds: float, device: str) -> float:
    """Seconds of the fastest call among as many as fit; the first, which sets things up, does not count."""
    _wait(run, device)
    best = float("inf")
    end = time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        _wait(run, device)
        now = time.perf_counter()
        best = min(best, now - started)
        if now > end:
            return best


def _wait(run: Callable[[], object], device: str) -> None:
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    elif device.startswith("mps"):
        torch.mps.synchronize()
