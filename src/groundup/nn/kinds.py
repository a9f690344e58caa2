"""What the sizes of a sample stand for, by the kind of sample; a layer names the one it takes as ``takes``."""

from __future__ import annotations

ROW = ("features",)
SERIES = ("steps", "features")
IMAGE = ("channels", "height", "width")
VOLUME = ("channels", "depth", "height", "width")
