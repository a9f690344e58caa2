"""Steps that learn from train alone and travel with the model; recipes name them under ``prepare``."""

from groundup.data.cleaning.labels import DropLabelErrors
from groundup.data.prepare.categories import OneHot, Ordinal
from groundup.data.prepare.filling import DropMissing, Fill
from groundup.data.prepare.outliers import ClipOutliers
from groundup.data.prepare.scaling import LogScale, MinMax, Standardize

__all__ = [
    "ClipOutliers",
    "DropLabelErrors",
    "DropMissing",
    "Fill",
    "LogScale",
    "MinMax",
    "OneHot",
    "Ordinal",
    "Standardize",
]
