"""Noise taken out of a series by shrinking its small wavelet coefficients; PyWavelets is an extra."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from groundup.core.errors import MissingExtraError
from groundup.data.series.ahead import declares, need
from groundup.data.series.gaps import bridged
from groundup.data.series.windowed import MOST_AT_ONCE

Values = npt.NDArray[np.float64]

NORMAL_QUARTILE = 0.6745
"""Median |x| of a standard normal distribution."""


@declares("unless causal")
def wavelet_shrinkage(
    values: Values,
    wavelet: str = "db4",
    mode: Literal["soft", "hard"] = "soft",
    level: int | None = None,
    width: int = 64,
    causal: bool = True,
) -> Values:
    """Wavelet coefficients d below sigma sqrt(2 ln n) become 0; soft: the others are drawn in by as much.

    sigma = median |d| / 0.6745 over the finest details, n the length (VisuShrink: Donoho and Johnstone, Biometrika 81,
    1994). Centred: over the whole series, ``level`` times halved (as often as the wavelet fits without it). Causal:
    over the last ``width`` steps of each step, of which the last value is taken; that costs ``width`` times as
    much. Gaps are bridged by lines and stay missing. Needs ``pip install groundup[wavelets]``.
    """
    pywt = _library()
    need(wavelet in pywt.wavelist(kind="discrete"), "wavelet_shrinkage.wavelet", repr(wavelet), "such as 'db4', 'haar'")
    need(level is None or level >= 1, "wavelet_shrinkage.level", level, "at least 1")
    need(width >= 2, "wavelet_shrinkage.width", width, "at least 2")
    given = bridged(values)
    if not causal:
        smooth = _shrunk(pywt, given.swapaxes(1, 2), wavelet, mode, level).swapaxes(1, 2)
        return np.where(np.isnan(values), np.nan, smooth)
    padded = np.pad(given, ((0, 0), (width - 1, 0), (0, 0)), mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)
    smooth = np.empty_like(given)
    steps = max(1, MOST_AT_ONCE // (4 * width * max(1, values.shape[0] * values.shape[2])))
    for start in range(0, values.shape[1], steps):
        block = around[:, start : start + steps]
        smooth[:, start : start + steps] = _shrunk(pywt, block, wavelet, mode, level)[..., -1]
    return np.where(np.isnan(values), np.nan, smooth)


def _shrunk(pywt: Any, values: Values, wavelet: str, mode: str, level: int | None) -> Values:
    """The same over the last axis of ``values`` [..., T]."""
    steps = values.shape[-1]
    deepest = pywt.dwt_max_level(steps, wavelet)
    depth = deepest if level is None else min(level, deepest)
    if not depth:  # shorter than the wavelet itself
        return values
    coarse, *details = pywt.wavedec(values, wavelet, mode="symmetric", level=depth, axis=-1)
    sigma = np.median(np.abs(details[-1]), axis=-1, keepdims=True) / NORMAL_QUARTILE
    threshold = sigma * np.sqrt(2 * np.log(steps))
    shrunk = [
        np.sign(d) * np.maximum(np.abs(d) - threshold, 0) if mode == "soft" else np.where(np.abs(d) > threshold, d, 0)
        for d in details
    ]
    whole: Values = pywt.waverec([coarse, *shrunk], wavelet, mode="symmetric", axis=-1)[..., :steps]
    return whole


def _library() -> Any:
    try:
        import pywt  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingExtraError(
            "wavelet_shrinkage: PyWavelets is not installed; `pip install groundup[wavelets]` brings it."
        ) from error
    return pywt
