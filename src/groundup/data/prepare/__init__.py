"""Steps that learn from train alone and travel with the model; recipes name them under ``prepare``."""

from groundup.data.cleaning.labels import DropLabelErrors
from groundup.data.prepare.categories import OneHot, Ordinal
from groundup.data.prepare.each_series import EachSeries
from groundup.data.prepare.encoding import HashEncode, TargetEncode
from groundup.data.prepare.filling import DropMissing, DropSparseColumns, Fill
from groundup.data.prepare.imputing import FillIterative, FillNearest
from groundup.data.prepare.outlier_rows import OutlierRows
from groundup.data.prepare.outliers import ClipOutliers, Outliers
from groundup.data.prepare.scaling import LogScale, MinMax, RobustScale, Standardize
from groundup.data.prepare.shaping import PowerScale, QuantileScale

__all__ = [
    "ClipOutliers",
    "DropLabelErrors",
    "DropMissing",
    "DropSparseColumns",
    "EachSeries",
    "Fill",
    "FillIterative",
    "FillNearest",
    "HashEncode",
    "LogScale",
    "MinMax",
    "OneHot",
    "Ordinal",
    "OutlierRows",
    "Outliers",
    "PowerScale",
    "QuantileScale",
    "RobustScale",
    "Standardize",
    "TargetEncode",
]
