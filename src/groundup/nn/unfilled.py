"""Modules whose tensors have shapes and no values yet, for what is about to be given its weights."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

DRAWN = frozenset({"normal_", "uniform_", "trunc_normal_", "erfinv_", "fill_", "zero_", "clamp_", "mul_", "add_"})
"""Methods that initialisers fill a tensor by."""


@contextlib.contextmanager
def unfilled() -> Iterator[None]:
    """Inside, tensors are made on the meta device, and what would fill them does nothing.

    On that device drawing is written in Python, and its first use imports torch's compiler: more than a second for
    values that are replaced at once. Nothing is collected meanwhile: what is made here stays, and one look for garbage
    among all that torch has imported takes as long as to make a large model.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with torch.device("meta"), _Skipped():
            yield
    finally:
        if collecting:
            gc.enable()


class _Skipped(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The function's own result, unless all it does is to change values of a tensor without any."""
        of_init = getattr(func, "__module__", "") == "torch.nn.init"
        if of_init or getattr(func, "__name__", "") in DRAWN:
            target = args[0] if args else (kwargs or {})["tensor"]
            if isinstance(target, torch.Tensor) and target.is_meta:
                return target
        return func(*args, **(kwargs or {}))
