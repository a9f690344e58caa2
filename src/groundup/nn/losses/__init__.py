"""Losses: each takes a model's output and the targets and gives their mean, in fp32 whatever the model computed in."""

from __future__ import annotations

from groundup.nn.losses.chunked import linear_cross_entropy as linear_cross_entropy
from groundup.nn.losses.classes import (
    binary_cross_entropy,
    binary_focal,
    cross_entropy,
    ctc,
    dice,
    focal,
    kl_divergence,
)
from groundup.nn.losses.contrast import contrastive, info_nce
from groundup.nn.losses.values import gaussian, huber, mae, mse, poisson, quantile

__all__ = [
    "binary_cross_entropy",
    "binary_focal",
    "contrastive",
    "cross_entropy",
    "ctc",
    "dice",
    "focal",
    "gaussian",
    "huber",
    "info_nce",
    "kl_divergence",
    "mae",
    "mse",
    "poisson",
    "quantile",
]
