"""What a run will ask for before anything is spent: memory and time by part, with what they rest on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Plan:
    """Memory at its peak by part, the work of one step, and the time it will take.

    >>> Plan(memory_bytes={"weights": 4_000, "gradients": 4_000}).total_bytes
    8000
    """

    memory_bytes: Mapping[str, int]
    """Part ("weights", "gradients", "optimizer", "activations", "batch") -> bytes at the peak."""
    time_s: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Part ("one step", "training") -> seconds."""
    work: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """What one step asks of the machine: "flops bfloat16", "flops float32", "bytes moved", "operations"."""
    assumptions: tuple[str, ...] = ()
    num_parameters: int = 0
    num_trainable: int = 0

    @property
    def total_bytes(self) -> int:
        """The peak: all parts together."""
        return sum(self.memory_bytes.values())

    @property
    def flops(self) -> float:
        """Floating-point operations of one step, in all types; a multiply-add is two."""
        return sum(value for name, value in self.work.items() if name.startswith("flops"))

    def fits(self, available_bytes: int) -> bool:
        """Whether the peak is within this much memory."""
        return self.total_bytes <= available_bytes

    def with_time(self, time_s: Mapping[str, float], *assumptions: str) -> Plan:
        """The same plan with seconds by part, and what these rest on."""
        return dataclasses.replace(self, time_s=dict(time_s), assumptions=(*self.assumptions, *assumptions))

    def rows(self) -> list[tuple[str, str]]:
        """(part, amount) for display, the total last of its kind."""
        found = [(part, format_bytes(amount)) for part, amount in self.memory_bytes.items()]
        found.append(("memory in all", format_bytes(self.total_bytes)))
        if self.flops:
            found.append(("work of one step", f"{self.flops:.3g} floating-point operations"))
        found.extend((part, format_seconds(amount)) for part, amount in self.time_s.items())
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain tables and scalars."""
        return {
            "memory_bytes": dict(self.memory_bytes),
            "total_bytes": self.total_bytes,
            "time_s": dict(self.time_s),
            "work": dict(self.work),
            "assumptions": list(self.assumptions),
            "num_parameters": self.num_parameters,
            "num_trainable": self.num_trainable,
        }


def format_bytes(amount: float) -> str:
    """Bytes as a person reads them: ``"1.5 GiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(amount) < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def format_seconds(amount: float) -> str:
    """Seconds as a person reads them: ``"2 h 05 min"``, ``"3 min 20 s"``, ``"41.0 ms"``."""
    if amount < 1:
        return f"{amount * 1000:.1f} ms"
    if amount < 60:
        return f"{amount:.1f} s"
    minutes, seconds = divmod(round(amount), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours / 24:.1f} days"
