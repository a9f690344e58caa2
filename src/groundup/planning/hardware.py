"""What this machine offers to this process: a container's limits count, not the host's figures."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
from pathlib import Path

import torch

from groundup.core.plan import format_bytes
from groundup.core.processor import fast_bf16_flag, read_flags


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Cores, memory and number formats of this machine, as this process may use them."""

    processor: str
    num_cores: int
    memory_bytes: int
    """The machine's memory, or the container's limit where that is less."""
    available_bytes: int
    """What may still be taken without swapping."""
    bf16: bool
    """Whether the processor multiplies bf16 in hardware; without it bf16 is slower than fp32."""
    gpus: tuple[tuple[str, int], ...] = ()
    """(name, bytes of memory) of each."""
    mps: bool = False

    def rows(self) -> list[tuple[str, str]]:
        """(what, how much) for display."""
        found = [
            ("processor", self.processor),
            ("cores", str(self.num_cores)),
            ("memory", f"{format_bytes(self.memory_bytes)}, {format_bytes(self.available_bytes)} of it free"),
            ("bf16 in hardware", "yes" if self.bf16 else "no"),
        ]
        found.extend((f"GPU {i}", f"{name}, {format_bytes(size)}") for i, (name, size) in enumerate(self.gpus))
        if self.mps:
            found.append(("Apple GPU", "yes"))
        return found


def hardware(root: Path = Path("/")) -> Hardware:
    """Look at the machine; ``root`` is where ``proc`` and ``sys`` lie."""
    memory, available = _memory(root)
    flags = read_flags(_read(root / "proc/cpuinfo"))
    gpus = tuple(
        (torch.cuda.get_device_name(i), torch.cuda.get_device_properties(i).total_memory)
        for i in range(torch.cuda.device_count())
    )
    return Hardware(
        processor=_processor_name(root),
        num_cores=_cores(root),
        memory_bytes=memory,
        available_bytes=available,
        bf16=fast_bf16_flag(flags) is not None,
        gpus=gpus,
        mps=torch.backends.mps.is_available(),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # not this system, or not this version of it
        return ""


def _processor_name(root: Path) -> str:
    for line in _read(root / "proc/cpuinfo").splitlines():
        field, _, value = line.partition(":")
        if field.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _groups(root: Path, controller: str) -> list[Path]:
    """The folders of this process's control groups, innermost first: version 2, then 1.

    A limit may stand on any level; inside a container the group's own root is all there is.
    """
    found: list[Path] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / (controller if controllers else "")
            inner = top / place.lstrip("/")
            found.extend(folder for folder in (inner, *inner.parents) if folder.is_relative_to(top))
    return found or [root / "sys/fs/cgroup", root / "sys/fs/cgroup" / controller]


def _cores(root: Path) -> int:
    """The cores this process may run on, and no more than the container's share of time."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)
    for group in _groups(root, "cpu"):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def _memory(root: Path) -> tuple[int, int]:
    """(total, available) bytes; the tightest of the machine and its control groups."""
    fields: dict[str, int] = {}
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        amount = value.split()
        if amount and amount[0].isdigit():
            fields[name] = int(amount[0]) * 1024
    if "MemTotal" in fields:
        total = fields["MemTotal"]
        available = fields.get("MemAvailable", fields.get("MemFree", total))
    else:
        total = available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for group in _groups(root, "memory"):
        limit = _read(group / "memory.max") or _read(group / "memory.limit_in_bytes")
        used = _read(group / "memory.current") or _read(group / "memory.usage_in_bytes")
        if limit.isdigit() and int(limit) < total:
            total = int(limit)
        if limit.isdigit() and used.isdigit():
            available = min(available, max(0, int(limit) - int(used) + _reclaimable(group)))
    return total, min(available, total)


def _reclaimable(group: Path) -> int:
    """Bytes of file cache that the system gives back when they are needed; they count as used until then."""
    for line in _read(group / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdigit():
            return int(value)
    return 0
