"""Where data comes from; recipes name these under ``source``."""

from groundup.data.sources.bundled import scikit_learn
from groundup.data.sources.columnar import arrow, parquet
from groundup.data.sources.csv_files import csv
from groundup.data.sources.images import idx, image_folder, image_table
from groundup.data.sources.iterables import iterable
from groundup.data.sources.json_files import json, json_lines
from groundup.data.sources.parts import parts
from groundup.data.sources.recognise import any_file
from groundup.data.sources.text import standard_library, text_files
from groundup.data.sources.text_lines import text_lines

__all__ = [
    "any_file",
    "arrow",
    "csv",
    "idx",
    "image_folder",
    "image_table",
    "iterable",
    "json",
    "json_lines",
    "parquet",
    "parts",
    "scikit_learn",
    "standard_library",
    "text_files",
    "text_lines",
]
