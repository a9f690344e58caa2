"""Random numbers that come out the same: one seed for every source, and a way to go back to where they stood."""

from __future__ import annotations

import dataclasses
import os
import random

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int, deterministic: bool = True) -> None:
    """Seed Python, numpy and torch on every device; ``deterministic`` also picks kernels that repeat bit for bit.

    An operation that has no such kernel warns and runs. Setting is global to the process.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling fresh memory costs time, and what reads it unwritten is a fault in any case.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False


@dataclasses.dataclass(frozen=True)
class RandomState:
    """Where torch's random numbers stand, on the CPU and on one device."""

    device: torch.device
    cpu: Tensor
    other: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> RandomState:
        """As they stand."""
        other = None
        if device.type == "cuda":
            other = torch.cuda.get_rng_state(device)
        elif device.type == "mps":
            other = torch.mps.get_rng_state()
        return cls(device, torch.get_rng_state(), other)

    def restore(self) -> None:
        """Go back to where they stood."""
        torch.set_rng_state(self.cpu)
        if self.other is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(self.other, self.device)
        elif self.other is not None:
            torch.mps.set_rng_state(self.other)
