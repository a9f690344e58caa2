"""What this machine's processors do fast: read here because optimizers and precision both ask."""

from __future__ import annotations

import functools
import math
import os
import platform
from collections.abc import Collection
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

# Intel and AMD name it avx512_bf16 or amx_bf16 (avx512bf16 on BSD), Arm names it bf16.
# avx512_fp16, avx_ne_convert and plain avx512 only convert bf16 or lack its dot product: products stay slow.
_FAST_BF16_FLAGS = ("avx512_bf16", "avx512bf16", "amx_bf16", "bf16", "svebf16")


def fast_bf16_flag(flags: Collection[str]) -> str | None:
    """The processor flag among ``flags`` that stands for fast bf16 matrix products, or None."""
    return next((flag for flag in _FAST_BF16_FLAGS if flag in flags), None)


def bf16_support(device: torch.device | str = "cpu") -> tuple[bool, str]:
    """Whether a device multiplies bf16 matrices fast, and what says so."""
    kind = torch.device(device).type
    if kind == "cuda":
        fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        return fast, f"the GPU {'has' if fast else 'has no'} bf16 units"
    if kind == "mps":
        fast = torch.backends.mps.is_available() and torch.backends.mps.is_macos_or_newer(14, 0)
        return fast, f"Metal {'computes' if fast else 'before macOS 14 does not compute'} in bf16"
    if kind != "cpu":
        return False, f"nothing is known of bf16 on {kind}"
    if platform.system() == "Darwin" or not torch._C._has_mkldnn:
        return False, "this build of torch has no bf16 matrix products for this processor"
    flag = fast_bf16_flag(_cpu_flags())
    return flag is not None, f"the processor has {flag}" if flag else "the processor has no bf16 instructions"


def has_bf16(device: torch.device | str = "cpu") -> bool:
    """Whether a device multiplies bf16 matrices fast."""
    return bf16_support(device)[0]


def has_amx() -> bool:
    """Whether the processor multiplies bf16 tiles (Intel's AMX)."""
    return "amx_bf16" in _cpu_flags()


@functools.cache
def _cpu_flags() -> frozenset[str]:
    """The processor's flags as the kernel lists them; elsewhere as torch's own probe finds them."""
    if CPU_INFO.is_file():
        return read_flags(CPU_INFO.read_text(encoding="utf-8", errors="replace"))
    probe = getattr(torch.cpu, "get_capabilities", dict)  # newer than the oldest torch we run on
    return frozenset(name for name, value in probe().items() if value is True)


def read_flags(cpu_info: str) -> frozenset[str]:
    """The flags that every core of a Linux ``/proc/cpuinfo`` text has."""
    found: frozenset[str] | None = None
    for line in cpu_info.splitlines():
        name, _, values = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags = frozenset(values.split())
            found = flags if found is None else found & flags
    return found or frozenset()


def usable_cores() -> int:
    """Cores that this process may run on, by its affinity and its container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file outside of Linux and containers
        pass
    return max(1, cores)
