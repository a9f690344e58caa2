"""What a training step allocates, releases and computes, in its order, as its operations go by."""

from __future__ import annotations

import collections
import dataclasses
import math
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten

LARGE = 32 * 2**20
"""Blocks of this many bytes and more, glibc's largest threshold, are asked of the system each time anew."""


@dataclasses.dataclass
class Timeline:
    """Allocations and releases in their order, and the work done, as a step went by."""

    events: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    """(number of the storage, +bytes or -bytes)."""
    numbers: dict[int, int] = dataclasses.field(default_factory=dict)
    """Address of a living storage -> its number."""
    work: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    count: int = 0

    def see(self, tensor: Tensor) -> int | None:
        """Book the tensor's storage if it is new; its number."""
        if tensor.layout is not torch.strided:
            return None
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address not in self.numbers:
            number = self.numbers[address] = self.count
            self.count += 1
            size = storage.nbytes()
            self.events.append((number, size))
            weakref.finalize(storage, self._release, address, number, size).atexit = False
        return self.numbers[address]

    def _release(self, address: int, number: int, size: int) -> None:
        if self.numbers.get(address) == number:
            del self.numbers[address]
        self.events.append((number, -size))


def peak(
    events: Sequence[tuple[int, float]], parts: Mapping[int, str], moments: Sequence[tuple[int, str]]
) -> tuple[dict[str, float], str]:
    """Bytes by part at the fullest moment, and its name; a storage without part is an activation.

    ``moments`` are (position among the events, name of what begins there); what lies before the first does
    not count.
    """
    alive: collections.defaultdict[str, float] = collections.defaultdict(float)
    best: dict[str, float] = {}
    total = most = 0.0
    when = ""
    names = dict(moments)
    now = ""
    for position, (number, size) in enumerate(events):
        now = names.get(position, now)
        alive[parts.get(number, "activations")] += size
        total += size
        if now and total > most:
            most, best, when = total, dict(alive), now
    return best, when


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation: books the storages it makes and the work it is."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.timeline = timeline

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Carry the operation out; one whose result hangs on values gets the costliest result there is."""
        kwargs = kwargs or {}
        if func.namespace == "prim":
            return func(*args, **kwargs)
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
            args = (args[0], _positions(args[1]), *args[2:])
        try:
            out = func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            out = _made_up(func, args)
        before = {id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        fresh = False
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and id(leaf) not in before:
                known = self.timeline.count
                self.timeline.see(leaf)
                if self.timeline.count > known:
                    fresh = True
                    size = leaf.untyped_storage().nbytes()
                    if size >= LARGE:
                        self.timeline.work["bytes of large blocks"] += size
        if fresh or func._schema.is_mutable:
            self._book(func, args, kwargs, out)
        return out

    def _book(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        work = self.timeline.work
        work["operations"] += 1
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        formula = FORMULAS.get(func.overloadpacket) or flop_registry.get(func.overloadpacket)
        if formula is not None and tensors:
            kind = str(tensors[0].dtype).removeprefix("torch.")
            work[f"flops {kind}"] += formula(*args, **kwargs, out_val=out)
        else:
            work["bytes moved"] += sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors)


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], backward: bool = False) -> int:
    """Two matrix products forward, five backward (one of them makes the scores anew)."""
    batch, heads, length, dim = query
    scores = 2 * batch * heads * length * key[2] * dim
    products = 2 * batch * heads * length * key[2] * value[3]
    return 3 * scores + 2 * products if backward else scores + products


def _attention_forward(query: Tensor, key: Tensor, value: Tensor, *args: Any, out_val: Any = None, **kw: Any) -> int:
    return _attention_flops(query.shape, key.shape, value.shape)


def _attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *args: Any, out_val: Any = None, **kw: Any
) -> int:
    return _attention_flops(query.shape, key.shape, value.shape, backward=True)


FORMULAS: dict[Any, Any] = {
    **flop_registry,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention_forward,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""Operation -> its floating-point operations; a multiply-add is two."""


def _positions(indices: Iterable[Any]) -> list[Any]:
    """Boolean masks among indices as positions, as if every element were chosen."""
    found: list[Any] = []
    for index in indices:
        if isinstance(index, FakeTensor) and index.dtype in (torch.bool, torch.uint8):
            found.extend(index.new_empty((index.numel(),), dtype=torch.int64) for _ in range(index.dim()))
        else:
            found.append(index)
    return found


def _made_up(func: Any, args: tuple[Any, ...]) -> Any:
    """A result for an operation whose result hangs on values that are not there."""
    tensor: Tensor = args[0]
    if func is aten._local_scalar_dense.default:
        return {torch.bool: True}.get(tensor.dtype, 1.0 if tensor.dtype.is_floating_point else 1)
    if func is aten.nonzero.default:
        return tensor.new_empty((tensor.numel(), tensor.dim()), dtype=torch.int64)
    if func is aten.masked_select.default:
        return tensor.new_empty((tensor.numel(),))
    raise NotImplementedError(f"the result of {func} depends on values, and none are there yet")
