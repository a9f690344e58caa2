"""How many images a second are rotated, moved, scaled and flipped by one thread, beside kornia?

Images of 256 x 256 x 3 bytes, in batches of 32 that lie in memory; what comes out is what a model takes, float32
[32, 3, 256, 256] of values 0 to 1, newly drawn each time, moved by one matrix and resampled once. "bytes" is the same
without the last step, bytes in and bytes out. Seconds are those of the processor; the wall's stand beside them.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable

import numpy as np
import torch
from measuring import arguments, save, show, summary, take_turns, versions
from scipy import ndimage

from groundup.data.augmentation import Flip, Rotate, Scale, Translate
from groundup.data.augmentation.images import _MOVERS, augment_pixels, draw_images
from groundup.training import keep_freed_memory

STEPS = [Rotate(30), Translate(0.1), Scale(0.8, 1.2), Flip(0.5)]
BATCH, EDGE = 32, 256
GOALS = {"groundup, pillow": 800, "groundup, opencv": 1400}


def pictures() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (BATCH, EDGE, EDGE, 3)).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3, 0))
    low, high = smooth.min(), smooth.max()
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


def of_ours(engine: str, pixels: np.ndarray, batches: int) -> Callable[[], None]:
    def run() -> None:
        for number in range(batches):
            rows = np.arange(BATCH) + BATCH * number
            augment_pixels(pixels, draw_images(STEPS, rows, (3, EDGE, EDGE), 0, 0), engine=engine)

    return run


def of_bytes(engine: str, pixels: np.ndarray, batches: int) -> Callable[[], None]:
    def run() -> None:
        for number in range(batches):
            drawn = draw_images(STEPS, np.arange(BATCH) + BATCH * number, (3, EDGE, EDGE), 0, 0)
            for image, matrix in zip(pixels, drawn.matrices, strict=True):
                _MOVERS[engine](image, matrix, "zeros")

    return run


def of_kornia(pixels: np.ndarray, batches: int) -> Callable[[], None]:
    import kornia.augmentation as kornia

    steps = kornia.AugmentationSequential(
        kornia.RandomAffine(degrees=30.0, translate=(0.1, 0.1), scale=(0.8, 1.2), p=1.0),
        kornia.RandomHorizontalFlip(p=0.5),
    )

    def run() -> None:
        for _ in range(batches):
            steps(torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255))

    return run


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    repeats, batches = options.repeats or (1 if options.quick else 15), 1 if options.quick else 4
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does
    pixels = pictures()
    runs = {
        "groundup, torch": of_ours("torch", pixels, batches),
        "groundup, pillow": of_ours("pillow", pixels, batches),
    }
    runs["groundup, pillow, bytes"] = of_bytes("pillow", pixels, batches)
    missing = []
    if importlib.util.find_spec("cv2") is None:
        missing.append("opencv")
    else:
        import cv2

        cv2.setNumThreads(1)
        runs["groundup, opencv"] = of_ours("opencv", pixels, batches)
        runs["groundup, opencv, bytes"] = of_bytes("opencv", pixels, batches)
    if importlib.util.find_spec("kornia") is None:
        missing.append("kornia")
    else:
        runs["kornia"] = of_kornia(pixels, batches)

    walls: dict[str, list[float]] = {name: [] for name in runs}

    def timed(name: str) -> Callable[[], float]:
        def turn() -> float:
            wall, used = time.perf_counter(), time.process_time()
            runs[name]()
            walls[name].append(BATCH * batches / (time.perf_counter() - wall))
            return BATCH * batches / (time.process_time() - used)

        return turn

    turns = {name: timed(name) for name in runs}
    take_turns(turns, 1)  # the first of each loads what it needs
    for values in walls.values():
        values.clear()
    found = take_turns(turns, repeats)
    peer = summary(found["kornia"])["median"] if "kornia" in found else None
    rows = []
    for name, values in found.items():
        rate = summary(values)
        rows.append(
            {
                "images a second": name,
                "by processor time": rate["median"],
                "least": rate["least"],
                "most": rate["most"],
                "by the wall": summary(walls[name])["median"],
                "of kornia": None if peer is None else rate["median"] / peer,
                "goal": GOALS.get(name),
            }
        )
    show(
        "Rotate, translate, scale, flip", rows, f"{repeats} rounds, 1 thread. Missing: {', '.join(missing) or 'none'}."
    )
    if not options.quick:
        peers = versions("kornia", "opencv-python-headless", "pillow")
        save(
            "augmentation", rows, {"batch": BATCH, "edge": EDGE, "repeats": repeats, "missing": missing, "peers": peers}
        )


if __name__ == "__main__":
    main()
