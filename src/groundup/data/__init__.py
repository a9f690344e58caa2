"""From raw files to batches: sources, cleaning, splits, preparation, samples, augmentation and loading."""

from groundup.data.loading import batches, num_batches, once

__all__ = ["batches", "num_batches", "once"]
