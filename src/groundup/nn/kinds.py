"""What the sizes of a sample stand for, by the kind of sample; a layer names the one it takes as ``takes``."""

from __future__ import annotations

ROW = ("features",)
SERIES = ("steps", "features")
IMAGE = ("channels", "height", "width")
VOLUME = ("channels", "depth", "height", "width")


def divisors(number: int) -> str:
    """What divides a size, as an error offers it: "1, 2, 4 or 8"; of many the smallest and the size itself."""
    found = [str(part) for part in range(1, number + 1) if number % part == 0]
    found = found if len(found) <= 10 else [*found[:9], found[-1]]
    return " or ".join(filter(None, (", ".join(found[:-1]), *found[-1:])))
