"""From rows to tensors and back to a person's units; recipes name these under ``samples``."""

from groundup.data.samples.functions import FunctionBodies
from groundup.data.samples.images import Images
from groundup.data.samples.labelled_text import LabelledText
from groundup.data.samples.rows import Rows
from groundup.data.samples.text import PackedText
from groundup.data.samples.text_pairs import TextPairs
from groundup.data.samples.windows import Windows

__all__ = ["FunctionBodies", "Images", "LabelledText", "PackedText", "Rows", "TextPairs", "Windows"]
