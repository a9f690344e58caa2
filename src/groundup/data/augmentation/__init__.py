"""Changes to training samples that keep their meaning; recipes name them under ``augment``."""

from groundup.data.augmentation.affine import Flip, Rotate, Scale, Shear, Translate

__all__ = ["Flip", "Rotate", "Scale", "Shear", "Translate"]
