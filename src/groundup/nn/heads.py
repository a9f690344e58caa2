"""What stands last in a network: classes, values, spans, tokens or embeddings from whatever shape reaches it.

Shapes: B batch, T steps, F features, C channels.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.nn.kinds import SERIES
from groundup.nn.pooling import GlobalAveragePool1d, GlobalMaxPool1d
from groundup.nn.recurrent import LastStep

Pool = Literal["mean", "max", "first", "last"]


class ClassHead(nn.Module):
    """Pool, dropout, one dense layer: [B, F], [B, T, F] or [B, C, ...] -> logits [B, out_features].

    A series is pooled over its steps by ``pool`` ("first" is where encoders put what stands for the whole); an image
    or volume over its places, by mean or max.
    """

    def __init__(
        self,
        pool: Pool = "mean",
        dropout: float = 0.0,
        *,
        input_shape: tuple[int, ...],
        out_features: int,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.pool = Pooled(pool, input_shape=input_shape)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.pool.features, out_features, bias)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, ...] -> [B, out_features]; lengths [B] of padded series."""
        outputs: Tensor = self.output(self.dropout(self.pool(inputs, lengths)))
        return outputs


class ValueHead(nn.Module):
    """Pool, dropout, one dense layer: [B, F], [B, T, F] or [B, C, ...] -> values [B, out_features].

    ``per_value`` numbers for each value make it [B, out_features, per_value]: several quantiles (loss ``quantile``),
    or mean and log variance (loss ``gaussian``); predictions are then the middle one, or the mean.
    """

    own_shape: ClassVar = True

    def __init__(
        self,
        pool: Pool = "mean",
        per_value: int = 1,
        dropout: float = 0.0,
        *,
        input_shape: tuple[int, ...],
        out_features: int,
    ) -> None:
        super().__init__()
        self.pool = Pooled(pool, input_shape=input_shape)
        self.per_value = per_value
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.pool.features, out_features * per_value)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, ...] -> [B, out_features] or [B, out_features, per_value]."""
        outputs: Tensor = self.output(self.dropout(self.pool(inputs, lengths)))
        return outputs if self.per_value == 1 else torch.unflatten(outputs, 1, (-1, self.per_value))


class TokenHead(nn.Module):
    """The same dense layer at each step: [B, T, F] -> logits [B, T, out_features], a class for each token."""

    takes: ClassVar = SERIES
    own_shape: ClassVar = True

    def __init__(self, dropout: float = 0.0, *, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(in_features, out_features, bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, T, out_features]."""
        outputs: Tensor = self.output(self.dropout(inputs))
        return outputs


class SpanHead(nn.Module):
    """Where an answer begins and ends: [B, T, F] -> logits [B, 2, T] of the first and of the last step.

    Learned by ``cross_entropy`` with targets [B, 2]. Devlin et al. 2019, section 4.2.
    """

    takes: ClassVar = SERIES
    own_shape: ClassVar = True

    def __init__(self, *, in_features: int) -> None:
        super().__init__()
        self.output = nn.Linear(in_features, 2)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, T, F] -> [B, 2, T]; steps behind ``lengths`` [B] get the lowest number there is."""
        logits: Tensor = self.output(inputs).transpose(1, 2)
        if lengths is not None:
            behind = torch.arange(inputs.shape[1], device=inputs.device)[None] >= lengths[:, None]
            logits = logits.masked_fill(behind[:, None], torch.finfo(logits.dtype).min)
        return logits


class EmbeddingHead(nn.Module):
    """Pool, one dense layer where ``features`` are given, unit length: [B, ...] -> vectors [B, features].

    What ``contrastive`` and ``info_nce`` learn, and cosine similarity compares. Reimers and Gurevych 2019, section 3.
    """

    own_shape: ClassVar = True

    def __init__(
        self,
        features: int | None = None,
        pool: Pool = "mean",
        normalise: bool = True,
        *,
        input_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.pool = Pooled(pool, input_shape=input_shape)
        self.output = nn.Identity() if features is None else nn.Linear(self.pool.features, features)
        self.normalise = normalise

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, ...] -> [B, features]."""
        outputs: Tensor = self.output(self.pool(inputs, lengths))
        return F.normalize(outputs, dim=-1) if self.normalise else outputs


class Pooled(nn.Module):
    """Whatever shape as one vector a sample: a row as it is, a series by ``pool``, an image by mean or max.

    [B, F], [B, T, F] or [B, C, ...] -> [B, F or C]; ``features`` tells which.
    """

    def __init__(self, pool: Pool = "mean", *, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        if not input_shape or (len(input_shape) > 2 and pool in ("first", "last")):
            raise RecipeError(f"a head cannot take the {pool!r} of a sample of shape {tuple(input_shape)}.")
        self.places = len(input_shape) - 1
        self.kind = pool
        self.features = input_shape[0] if self.places > 1 else input_shape[-1]

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, ...] -> [B, features]."""
        if self.places == 0:
            return inputs
        if self.places > 1:
            flat = inputs.flatten(2)
            return flat.amax(2) if self.kind == "max" else flat.mean(2)
        if self.kind == "first":
            return inputs[:, 0]
        pools = {"mean": GlobalAveragePool1d, "max": GlobalMaxPool1d, "last": LastStep}
        outputs: Tensor = pools[self.kind]()(inputs, lengths)
        return outputs
