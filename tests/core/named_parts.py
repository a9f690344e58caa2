"""Parts that the tests of recipes name: one of each kind, as a user would write them."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from groundup.core.use import Use

__all__ = [
    "MLP", "AdamW", "Dense", "Fill", "MinMax", "Net", "ReLU", "Rows", "Sequential", "accuracy", "cosine",
    "cross_entropy", "csv", "drop_columns", "focal", "he_normal", "lora", "mistyped", "random", "since", "supervised",
]  # fmt: skip


class Part:
    """Remembers what it was constructed with."""

    def __init__(self, **given: Any) -> None:
        self.given = given

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


class MLP(Part):
    def __init__(
        self,
        hidden: Sequence[int],
        dropout: float = 0.0,
        bias: bool = True,
        init: Callable[..., Any] | None = None,
        *,
        in_features: int = 1,
        num_classes: int = 2,
    ) -> None:
        super().__init__(hidden=hidden, dropout=dropout, bias=bias, init=init)
        self.sizes = (in_features, num_classes)


class Dense(Part):
    def __init__(self, in_features: int, features: int = 8, init: Callable[..., Any] = lambda x: x) -> None:
        if features <= 0:
            raise ValueError(f"features must be positive, not {features}")
        super().__init__(in_features=in_features, features=features)


class ReLU(Part):
    def __init__(self) -> None:
        super().__init__()


class Sequential(Part):
    def __init__(self, layers: Sequence[Use], steps: Mapping[str, Use] | None = None) -> None:
        super().__init__(layers=layers, steps=steps)


class Net(Part):
    def __init__(self, layer: Any, steps: Mapping[str, Any] | None = None, pair: tuple[int, float] = (1, 2.0)) -> None:
        super().__init__(layer=layer, steps=steps, pair=pair)


class AdamW(Part):
    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), fused: bool | None = None
    ) -> None:
        super().__init__(params=params, lr=lr, betas=betas, fused=fused)


@dataclasses.dataclass(frozen=True)
class Rows:
    target: str
    learned: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Fill:
    columns: tuple[str, ...] = ()
    method: Literal["mean", "median"] = "mean"
    indicator: bool = False
    learned: Mapping[str, Any] | None = None

    def fit(self, train: Any) -> Self:
        return self


def csv(path: Path, missing: Sequence[str] = (), limit: int | None = None, folder: Path = Path()) -> Any:
    return path, missing, limit, folder


def drop_columns(dataset: Any, columns: Sequence[str]) -> Any:
    return dataset, columns


def since(dataset: Any, day: datetime.date) -> Any:
    return dataset, day


def random(dataset: Any, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Any:
    return dataset, valid, test, seed


def cross_entropy(output: Any, targets: Any, smoothing: float = 0) -> Any:  # the default is an int on purpose
    return output, targets, smoothing


def focal(output: Any, targets: Any, gamma: float = 2.0) -> Any:
    return output, targets, gamma


def supervised(model: Any, batch: Any, loss: Callable[..., Any] = cross_entropy) -> Any:
    return loss


def cosine(progress: float, warmup: float = 0.0) -> float:
    return progress * warmup


def accuracy(decoded: Any, targets: Any) -> float:
    return 0.0


def lora(model: Any, rank: int = 8, where: str | None = None) -> Any:
    return model, rank, where


def he_normal(tensor: Any, generator: Any = None) -> Any:
    return tensor


def mistyped(dataset: Any, columns: Sequence[str] = 3) -> Any:  # type: ignore[assignment]
    return dataset, columns


class _Aliased:
    def __init__(self, low: float = 0.0) -> None:
        self.low = low


_Aliased.__module__, _Aliased.__qualname__ = "somewhere.compiled", "Hidden"
MinMax = _Aliased
"""A class that does not know where it is found, as compiled ones do not."""
