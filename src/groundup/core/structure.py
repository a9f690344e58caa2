"""A model as a tree of layers with what each takes, gives and costs: a value to print, save and draw."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Layer:
    """One module: its place, shapes for one sample, and what it costs, its children's share included."""

    name: str
    """The last part of its dotted name; empty for the model itself."""
    kind: str
    input_shape: tuple[int, ...] | None = None
    """Without the batch; None where it is never called, or takes no tensor."""
    output_shape: tuple[int, ...] | None = None
    num_parameters: int = 0
    num_trainable: int = 0
    flops: float = 0.0
    """Floating-point operations of one sample's way forward; a multiply-add is two."""
    memory_bytes: float = 0.0
    """What one sample's way forward leaves in memory for the way back."""
    children: tuple[Layer, ...] = ()
    times: int = 1
    """How many neighbours like this one stand for one row; the figures are those of all of them."""

    @property
    def alike(self) -> tuple[Any, ...]:
        """What two neighbours must share to be shown as one."""
        inner = tuple(child.alike for child in self.children)
        return (self.kind, self.input_shape, self.output_shape, self.num_parameters, self.num_trainable, inner)

    def folded(self) -> Layer:
        """The same tree, neighbours that are numbered and alike made one row."""
        rows: list[Layer] = []
        for child in self.children:
            last = rows[-1] if rows else None
            if last is not None and child.name.isdecimal() and last.alike == child.alike:
                rows[-1] = last._with(child)
            else:
                rows.append(child)
        return dataclasses.replace(self, children=tuple(row.folded() for row in rows))

    def _with(self, other: Layer) -> Layer:
        first = self.name.partition("-")[0]
        return dataclasses.replace(
            self,
            name=f"{first}-{other.name}",
            flops=self.flops + other.flops,
            memory_bytes=self.memory_bytes + other.memory_bytes,
            times=self.times + 1,
        )

    @property
    def parameters_of_all(self) -> int:
        """Parameters of all the neighbours that this row stands for."""
        return self.num_parameters * self.times

    def to_dict(self) -> dict[str, Any]:
        """Plain tables and scalars."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Layer:
        """What ``to_dict`` gave, read back."""

        def shape(value: Any) -> tuple[int, ...] | None:
            return None if value is None else tuple(value)

        return cls(
            **{
                **saved,
                "input_shape": shape(saved["input_shape"]),
                "output_shape": shape(saved["output_shape"]),
                "children": tuple(cls.from_dict(child) for child in saved["children"]),
            }
        )


def format_count(amount: float) -> str:
    """A count as a person reads it: ``"1.2 k"``, ``"86 M"``, ``"1.5 G"``."""
    for unit in ("", " k", " M", " G", " T"):
        if abs(amount) < 1000:
            return f"{amount:.0f}" if not unit else f"{amount:.3g}{unit}"
        amount /= 1000
    return f"{amount:.3g} P"


def format_shape(shape: tuple[int, ...] | None) -> str:
    """``"3 x 32 x 32"``; a dash for none, "1" for a scalar."""
    if shape is None:
        return "-"
    return " x ".join(map(str, shape)) or "1"
