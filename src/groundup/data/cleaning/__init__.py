"""Steps before the split: repair, and removal with a reason in the ledger for every row; nothing is fitted here."""

from groundup.data.cleaning.columns import drop_columns, drop_missing
from groundup.data.cleaning.duplicates import drop_exact_duplicates, drop_near_duplicates
from groundup.data.cleaning.image_noise import (
    image_bilateral,
    image_gaussian,
    image_median,
    image_non_local_means,
)
from groundup.data.cleaning.text import drop_generated, drop_short, repair_text
from groundup.data.prepare.each_series import EachSeries

__all__ = [
    "EachSeries",
    "drop_columns",
    "drop_exact_duplicates",
    "drop_generated",
    "drop_missing",
    "drop_near_duplicates",
    "drop_short",
    "image_bilateral",
    "image_gaussian",
    "image_median",
    "image_non_local_means",
    "repair_text",
]
