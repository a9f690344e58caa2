"""Changes to training samples that keep their meaning; recipes name them under ``augment``."""

from groundup.data.augmentation.affine import Flip, RandomResizedCrop, Rotate, Scale, Shear, Translate
from groundup.data.augmentation.colour import Brightness, Contrast, Hue, Saturation
from groundup.data.augmentation.degrading import Cutout, GaussianBlur, GaussianNoise
from groundup.data.augmentation.mixing import CutMix, MixUp
from groundup.data.augmentation.random_policy import RandAugment
from groundup.data.augmentation.series import Jitter, MagnitudeWarp, Scaling, TimeWarp, WindowSlice
from groundup.data.augmentation.showing import BeforeAndAfter as BeforeAndAfter
from groundup.data.augmentation.showing import before_and_after as before_and_after
from groundup.data.augmentation.tables import RowNoise, Smote
from groundup.data.augmentation.text import (
    AEDA,
    EDA,
    RandomDeletion,
    RandomInsertion,
    RandomSwap,
    SynonymReplacement,
)

__all__ = [
    "AEDA",
    "EDA",
    "Brightness",
    "Contrast",
    "CutMix",
    "Cutout",
    "Flip",
    "GaussianBlur",
    "GaussianNoise",
    "Hue",
    "Jitter",
    "MagnitudeWarp",
    "MixUp",
    "RandAugment",
    "RandomDeletion",
    "RandomInsertion",
    "RandomResizedCrop",
    "RandomSwap",
    "Rotate",
    "RowNoise",
    "Saturation",
    "Scale",
    "Scaling",
    "Shear",
    "Smote",
    "SynonymReplacement",
    "TimeWarp",
    "Translate",
    "WindowSlice",
]
