"""Steps along a series: gaps, noise and outliers, inside a window up to its forecast origin or over a whole table.

Each is a function of ``values`` [N, T, F] float64 with NaN where a value is missing (N series or windows, T steps of
time, F features; every series [n, :, f] on its own) and gives the same shape. In the samples of a forecast
(``Windows``) a window ends at its forecast origin, so nothing here can look beyond it; over a table (``EachSeries``)
only what is ``causal`` does not look ahead (``ahead.looks_ahead`` tells). A filter never invents a value: what was
missing stays missing, and filling is a step of its own.
"""

from groundup.data.series.gaps import backward_fill, fill_constant, forward_fill, interpolate
from groundup.data.series.recursive import butterworth, exponential_filter, kalman
from groundup.data.series.wavelets import wavelet_shrinkage
from groundup.data.series.windowed import (
    gaussian_filter,
    hampel,
    median_filter,
    moving_average,
    savitzky_golay,
    wiener,
)

__all__ = [
    "backward_fill",
    "butterworth",
    "exponential_filter",
    "fill_constant",
    "forward_fill",
    "gaussian_filter",
    "hampel",
    "interpolate",
    "kalman",
    "median_filter",
    "moving_average",
    "savitzky_golay",
    "wavelet_shrinkage",
    "wiener",
]
