"""What was seen of data as one page, with what to do about it as lines of a recipe."""

from groundup.data.pages.opened import inspect_path, recipe_sections, write_page
from groundup.data.pages.page import Inspected, inspect_dataset

__all__ = ["Inspected", "inspect_dataset", "inspect_path", "recipe_sections", "write_page"]
