"""Steps before the split: repair, and removal with a reason in the ledger for every row; nothing is fitted here."""

from groundup.data.cleaning.columns import drop_columns
from groundup.data.cleaning.duplicates import drop_exact_duplicates, drop_near_duplicates
from groundup.data.cleaning.rows import drop_rare, drop_without
from groundup.data.cleaning.text import drop_generated, drop_short, repair_text

__all__ = [
    "drop_columns",
    "drop_exact_duplicates",
    "drop_generated",
    "drop_near_duplicates",
    "drop_rare",
    "drop_short",
    "drop_without",
    "repair_text",
]
