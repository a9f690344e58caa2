"""Steps that learn from train alone and travel with the model; recipes name them under ``prepare``."""

from groundup.data.prepare.categories import OneHot, Ordinal
from groundup.data.prepare.encoding import HashEncode, TargetEncode
from groundup.data.prepare.filling import DropMissing, Fill
from groundup.data.prepare.outliers import ClipOutliers
from groundup.data.prepare.scaling import LogScale, MinMax, RobustScale, Standardize
from groundup.data.prepare.shaping import PowerScale, QuantileScale

__all__ = [
    "ClipOutliers",
    "DropMissing",
    "Fill",
    "HashEncode",
    "LogScale",
    "MinMax",
    "OneHot",
    "Ordinal",
    "PowerScale",
    "QuantileScale",
    "RobustScale",
    "Standardize",
    "TargetEncode",
]
