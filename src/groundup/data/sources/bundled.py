"""Small data sets that come with a library, so that nothing need be downloaded."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset, Entry, Kind
from groundup.core.errors import DataError, nearest


def scikit_learn(dataset: Literal["digits", "iris", "wine", "breast_cancer", "diabetes"]) -> Dataset:
    """A small data set that comes with scikit-learn, in its own units; nothing is downloaded.

    ``digits``: 1,797 images of 8 x 8 pixels in the column ``image`` and a category ``label``, "0" to "9". Its grey
    values 0 to 16 are spread over 0 to 255 (rounded, so no level is lost), as in an image file. ``iris``, ``wine`` and
    ``breast_cancer``: numbers, and a category ``label``. ``diabetes``: numbers, and the number ``progression`` to be
    predicted.
    """
    # Slow to import, and only this source needs it.
    from sklearn import datasets as bundled  # type: ignore[import-untyped]

    known = ("digits", "iris", "wine", "breast_cancer", "diabetes")
    if dataset not in known:
        raise DataError(f"scikit_learn: there is no data set {dataset!r} here.{nearest(dataset, known)}")
    origin = f"scikit-learn {dataset}"
    if dataset == "digits":
        loaded = bundled.load_digits()
        pixels = np.rint(loaded.images * (255 / 16)).astype(np.uint8)
        label = pl.Series([str(digit) for digit in loaded.target])
        frame = pl.DataFrame({"image": pl.Series(pixels, dtype=pl.Array(pl.UInt8, (8, 8))), "label": label})
        kinds: dict[str, Kind] = {"image": "image", "label": "category"}
    else:
        loaded = bundled.load_diabetes(scaled=False) if dataset == "diabetes" else getattr(bundled, f"load_{dataset}")()
        frame = pl.DataFrame(
            {str(name): column for name, column in zip(loaded.feature_names, loaded.data.T, strict=True)}
        )
        kinds = dict.fromkeys(frame.columns, "number")
        if dataset == "diabetes":
            frame, kinds["progression"] = frame.with_columns(progression=pl.Series(loaded.target)), "number"
        else:
            names = pl.Series([str(loaded.target_names[i]) for i in loaded.target])
            frame, kinds["label"] = frame.with_columns(label=names), "category"
    entry = Entry("scikit_learn", None, frame.height, frame.height)
    return dataclasses.replace(Dataset.of(frame, kinds, origin=origin), history=(entry,))
