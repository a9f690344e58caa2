"""Where data comes from; recipes name these under ``source``."""

from groundup.data.sources.images import image_folder
from groundup.data.sources.bundled import scikit_learn
from groundup.data.sources.csv_files import csv
from groundup.data.sources.text import standard_library, text_files

__all__ = ["csv", "image_folder", "scikit_learn", "standard_library", "text_files"]
