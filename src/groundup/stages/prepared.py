"""What stands between raw files and training, as a value."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from groundup.core.batch import Batch, Bookmark
from groundup.core.dataset import Splits
from groundup.core.preprocessing import Encoded, Preprocessing
from groundup.core.recipe import Recipe, Training
from groundup.core.use import make
from groundup.data import loading
from groundup.data.any_size import Parts
from groundup.data.shards import Workshop
from groundup.stages.preparing import augmentation

MOST_CHECKED = 20_000
"""Samples whose targets are looked at before a run."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What stands between raw files and training: the splits, what was fitted on train, and the samples."""

    recipe: Recipe
    splits: Parts
    preprocessing: Preprocessing
    encoded: Mapping[str, Encoded]
    leaks: tuple[Any, ...]
    """Rows of valid and test that stand in train as well."""
    fingerprint: str
    """Of the cleaned data, before the split."""
    unprepared: Parts
    """The splits as they were before their preparation."""
    shop: Workshop
    """Where parts that do not fit in memory are worked on."""

    @property
    def samples(self) -> Any:
        """The fitted builder of samples."""
        return self.preprocessing.samples

    @property
    def sizes(self) -> dict[str, Any]:
        """What a model's constructor may ask for."""
        found: dict[str, Any] = self.samples.sizes()
        return found

    @property
    def in_shards(self) -> bool:
        """Whether the data do not fit in memory."""
        return not isinstance(self.splits, Splits)

    def targets_of_some(self, split: str) -> Batch:
        """The targets of samples drawn from all over a split, the last one always among them, as one batch."""
        encoded = self.encoded[split]
        drawn = np.random.default_rng(self.recipe.seed).permutation(len(encoded))[:MOST_CHECKED]
        positions = np.union1d(drawn, [len(encoded) - 1])
        found = [encoded.batch(cut)[1]["targets"] for cut in np.array_split(positions, -(-len(positions) // 256))]
        return Batch({}, {"targets": torch.cat(found)}, rows=encoded.rows[positions])

    def first(self, split: str, most: int) -> Batch:
        """The first samples of a split as one batch, to look at."""
        return next(self.once(split, min(most, len(self.encoded[split]))))

    def sample(self) -> list[tuple[str, bool]]:
        """The first sample as the model sees it, token by token, and which are learned; empty where it is no text."""
        if self.samples.task != "generate":
            return []
        shown: list[tuple[str, bool]] = self.samples.describe(self.first("train", 1))
        return shown

    @property
    def held_out(self) -> str:
        """The split that figures are reported on: test, or valid where the recipe keeps no test rows."""
        return "test" if len(self.encoded["test"]) else "valid"

    def batches(self, training: Training, bookmark: Bookmark) -> Iterator[Batch]:
        """The endless, seeded, resumable stream of training batches."""
        seed, size = self.recipe.seed, training.batch_size
        train, augment = self.encoded["train"], augmentation(self.recipe)
        return loading.batches(train, size, seed=seed, bookmark=bookmark, augment=augment, weights=self.weights)

    @property
    def class_counts(self) -> list[int] | None:
        """How many rows of train each class has, in the order of the classes; None where there are none."""
        target = (self.samples.learned or {}).get("target")
        return target.get("counts") if isinstance(target, Mapping) else None

    @functools.cached_property
    def weights(self) -> Any:
        """How often each sample of train is drawn [N], or None where each comes once in an epoch."""
        use = self.recipe.data.sampling
        if use is None:
            return None
        return make(use, "sampling", where="recipe.data.sampling")(self.encoded["train"])

    def once(self, split: str, batch_size: int) -> Iterator[Batch]:
        """Each sample of a split once, in order, never augmented."""
        return loading.once(self.encoded[split], batch_size)
