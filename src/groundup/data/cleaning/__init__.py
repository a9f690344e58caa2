"""Steps before the split: repair, and removal with a reason in the ledger for every row; nothing is fitted here."""

from groundup.data.cleaning.columns import drop_columns, drop_missing
from groundup.data.cleaning.contamination import drop_contaminated
from groundup.data.cleaning.duplicates import drop_exact_duplicates, drop_near_duplicates
from groundup.data.cleaning.image_noise import image_bilateral, image_gaussian, image_median, image_non_local_means
from groundup.data.cleaning.masking import mask_personal
from groundup.data.cleaning.pictures import drop_near_images
from groundup.data.cleaning.quality import c4_quality, fineweb_quality, gopher_quality, gopher_repetition
from groundup.data.cleaning.rows import drop_rare, drop_without
from groundup.data.cleaning.text import drop_generated, drop_short, repair_text
from groundup.data.cleaning.tidying import (
    collapse_repeats,
    normalise_unicode,
    strip_boilerplate,
    strip_controls,
    strip_html,
)
from groundup.data.prepare.each_series import EachSeries

__all__ = [
    "EachSeries",
    "c4_quality",
    "collapse_repeats",
    "drop_columns",
    "drop_contaminated",
    "drop_exact_duplicates",
    "drop_generated",
    "drop_missing",
    "drop_near_duplicates",
    "drop_near_images",
    "drop_rare",
    "drop_short",
    "drop_without",
    "fineweb_quality",
    "gopher_quality",
    "gopher_repetition",
    "image_bilateral",
    "image_gaussian",
    "image_median",
    "image_non_local_means",
    "mask_personal",
    "normalise_unicode",
    "repair_text",
    "strip_boilerplate",
    "strip_controls",
    "strip_html",
]
