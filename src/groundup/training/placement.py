"""On which device a model computes, and with how many threads."""

from __future__ import annotations

import ctypes
import os

import torch
from torch import nn

from groundup.core.errors import GroundupError, RecipeError
from groundup.core.processor import usable_cores


def choose_device(name: str = "auto") -> torch.device:
    """The device that was asked for; "auto" is CUDA, else Metal, else the CPU.

    Raises RecipeError when this machine does not have it.
    """
    there = available_devices()
    if name == "auto":
        return torch.device(there[0])
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RecipeError(f"recipe.training.device: read {name!r}, expected auto, {', '.join(there)}.") from error
    if device.type not in there:
        raise RecipeError(f"recipe.training.device: read {name!r}, but this machine has only {', '.join(there)}.")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise RecipeError(f"recipe.training.device: read {name!r}, but there are {torch.cuda.device_count()} GPUs.")
    return device


def available_devices() -> list[str]:
    """The kinds of device of this machine, the fastest first."""
    found = ["cuda"] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def move(model: nn.Module, device: torch.device | str) -> nn.Module:
    """The same model on a device; build its optimizer afterwards."""
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        raise GroundupError(f"{device}: {size / 2**30:.2f} GiB of weights do not fit in its memory.") from error


def set_threads(limit: int | None = None) -> int:
    """Give torch the cores that this process may use, at most ``limit``; gives their number.

    In a container torch sees the machine's cores, not the process's share, and threads that wait for a
    core spin. OMP_NUM_THREADS, where it is set, is left as it is.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        threads = min(torch.get_num_threads(), usable_cores())
        torch.set_num_threads(max(1, threads if limit is None else min(threads, limit)))
    return torch.get_num_threads()


def keep_freed_memory() -> bool:
    """Let freed memory stay with this process, so that each step reuses the last one's; whether that was possible.

    glibc returns every large block to the system when it is freed, and a training step then pays for fresh pages
    each time. Holds for the whole process, whose memory no longer shrinks between steps. Linux with glibc only.
    """
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another system or C library
        return False
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2
    # The option is 1 when taken; before glibc 2.35 the threshold may be 32 MiB at most.
    kept = set_option(mmap_threshold, 2**30) or set_option(mmap_threshold, 2**25)
    return bool(kept and set_option(trim_threshold, 2**31 - 1) and set_option(top_pad, 2**26))
