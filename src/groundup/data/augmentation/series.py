"""Windows of series changed for training: noise, size, and the pace of time.

A step has ``change_window(rng, window)`` and gives the window anew. The forecast origin is the window's last step: no
change of time moves it, and what was to come stays what it was; a change of size acts on the target to come as it
does on the target's own past. Um et al. 2017 (for sensors), Iwana and Uchida 2021 (a survey), which classify.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.data.augmentation.affine import need

Values = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Window:
    """One sample of a series, as the model sees it."""

    inputs: Values
    """[T, F], standardised; 0 where a value was missing."""
    targets: Values
    """The target to come [H], scaled."""
    numbers: npt.NDArray[np.bool_]
    """Which inputs [F] are numbers; the others are yes and no."""
    target_input: int | None
    """Which input is the target's own past, on the same scale as what is to come; None where there is none."""


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Add normal noise to each number at each step, of ``deviation`` times its column's deviation over train."""

    deviation: float = 0.05

    def __post_init__(self) -> None:
        need(self.deviation >= 0, "deviation", self.deviation, "0 or more")

    def change_window(self, rng: np.random.Generator, window: Window) -> Window:
        """x + deviation N(0, 1); the target to come stays."""
        noise = self.deviation * rng.standard_normal(window.inputs.shape) * window.numbers
        return dataclasses.replace(window, inputs=window.inputs + noise)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Multiply each series by a factor from a normal distribution about 1, its past and what is to come alike.

    Values are standardised: what grows or shrinks is how far they lie from train's mean.
    """

    deviation: float = 0.1

    def __post_init__(self) -> None:
        need(self.deviation >= 0, "deviation", self.deviation, "0 or more")

    def change_window(self, rng: np.random.Generator, window: Window) -> Window:
        """x f with f from N(1, deviation) for each column."""
        factors = 1 + self.deviation * rng.standard_normal((1, window.inputs.shape[1]))
        return _multiplied(window, factors.repeat(len(window.inputs) + len(window.targets), axis=0))


@dataclasses.dataclass(frozen=True)
class MagnitudeWarp:
    """Multiply each series by a smooth curve about 1, which goes on over what is to come.

    A cubic spline through ``knots`` inner points and both ends, evenly apart, each from N(1, ``deviation``). Um et al.
    2017.
    """

    deviation: float = 0.2
    knots: int = 4

    def __post_init__(self) -> None:
        need(self.deviation >= 0, "deviation", self.deviation, "0 or more")
        need(self.knots >= 0, "knots", self.knots, "0 or more")

    def change_window(self, rng: np.random.Generator, window: Window) -> Window:
        """x c(t) with a curve c for each column."""
        steps = len(window.inputs) + len(window.targets)
        return _multiplied(window, _curves(rng, steps, window.inputs.shape[1], self.knots, self.deviation))


@dataclasses.dataclass(frozen=True)
class TimeWarp:
    """Let time run faster and slower within the window, all series alike; its first and last step stay where they are.

    The pace is a cubic spline as in ``MagnitudeWarp``, never below a tenth; between steps numbers are interpolated
    linearly, yes and no taken from the nearer step. Um et al. 2017.
    """

    deviation: float = 0.2
    knots: int = 4

    def __post_init__(self) -> None:
        need(self.deviation >= 0, "deviation", self.deviation, "0 or more")
        need(self.knots >= 0, "knots", self.knots, "0 or more")

    def change_window(self, rng: np.random.Generator, window: Window) -> Window:
        """x(s(t)) with s(0) = 0 and s(T - 1) = T - 1."""
        steps = len(window.inputs)
        pace: Values = np.maximum(_curves(rng, steps, 1, self.knots, self.deviation)[1:, 0], 0.1)
        passed: npt.NDArray[np.floating[Any]] = np.concatenate([[0.0], np.cumsum(pace)])
        stretch = float(steps - 1) / float(passed[-1]) if steps > 1 else 1.0
        return _read_at(window, passed * stretch)


@dataclasses.dataclass(frozen=True)
class WindowSlice:
    """Take the last part of the window, a share drawn evenly from ``share`` to 1, stretched to the whole length.

    Le Guennec, Malinowski, Tavenard 2016; there the part lies anywhere, here it ends at the forecast origin.
    """

    share: float = 0.9

    def __post_init__(self) -> None:
        need(0 < self.share <= 1, "share", self.share, "more than 0 and at most 1")

    def change_window(self, rng: np.random.Generator, window: Window) -> Window:
        """x((T - 1) (1 - s) + t s), s the share."""
        share, last = rng.uniform(self.share, 1), len(window.inputs) - 1
        return _read_at(window, last * (1 - share) + np.arange(last + 1) * share)


def _multiplied(window: Window, curves: Values) -> Window:
    """Each number times its curve [T + H, F], the target to come times its own past's."""
    steps = len(window.inputs)
    inputs = np.where(window.numbers, window.inputs * curves[:steps], window.inputs)
    at = window.target_input
    targets = window.targets if at is None else window.targets * curves[steps:, at]
    return dataclasses.replace(window, inputs=inputs, targets=targets)


def _curves(rng: np.random.Generator, steps: int, count: int, knots: int, deviation: float) -> Values:
    """Smooth curves [steps, count] through points from N(1, deviation)."""
    from scipy.interpolate import CubicSpline  # type: ignore[import-untyped]

    points = 1 + deviation * rng.standard_normal((knots + 2, count))
    if steps == 1:
        return points[:1]
    curves: Values = CubicSpline(np.linspace(0, steps - 1, knots + 2), points)(np.arange(steps))
    return curves


def _read_at(window: Window, times: npt.NDArray[np.floating[Any]]) -> Window:
    """The window read at these times [T], in steps from its first; its last step is kept bit for bit."""
    times = np.clip(times, 0, len(window.inputs) - 1)
    before = np.minimum(times.astype(np.int64), max(len(window.inputs) - 2, 0))
    after = np.minimum(before + 1, len(window.inputs) - 1)
    between = (times - before)[:, None]
    early, late = window.inputs[before], window.inputs[after]
    inputs = np.where(window.numbers, early + (late - early) * between, np.where(between < 0.5, early, late))
    inputs[-1] = window.inputs[-1]
    return dataclasses.replace(window, inputs=inputs)
