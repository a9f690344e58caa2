"""The residual network for rows of a table."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from groundup.nn.dense import Dense
from groundup.nn.init import normal
from groundup.nn.norm import BatchNorm1d


class TableResNet(nn.Module):
    """Dense, residual blocks of two dense layers, then norm, relu, dense: [B, in_features] -> [B, out_features].

    ``hidden``, the width inside a block, is twice ``features`` where it is left open; ``dropout`` acts on it,
    ``residual_dropout`` on what a block adds. Categories are given as yes and no (OneHot). Gorishniy et al., Revisiting
    Deep Learning Models for Tabular Data, NeurIPS 2021, section 3.2.
    """

    def __init__(
        self,
        features: int = 192,
        blocks: int = 2,
        hidden: int | None = None,
        *,
        in_features: int,
        out_features: int,
        dropout: float = 0.15,
        residual_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.input = Dense(features, in_features=in_features)
        self.blocks = nn.ModuleList(
            TableBlock(features, hidden or 2 * features, dropout, residual_dropout) for _ in range(blocks)
        )
        self.norm = BatchNorm1d(in_features=features)
        self.output = Dense(out_features, in_features=features, init=normal)  # the first answers are near 0

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, in_features] -> [B, out_features]."""
        states = self.input(inputs)
        for block in self.blocks:
            states = block(states)
        outputs: Tensor = self.output(torch.relu(self.norm(states)))
        return outputs


class TableBlock(nn.Module):
    """x + dropout(dense(dropout(relu(dense(norm(x)))))): [B, F] -> [B, F]. Gorishniy et al. 2021, section 3.2."""

    def __init__(self, features: int, hidden: int, dropout: float, residual_dropout: float) -> None:
        super().__init__()
        self.norm = BatchNorm1d(in_features=features)
        self.up = Dense(hidden, in_features=features)
        self.dropout = nn.Dropout(dropout)
        self.down = Dense(features, in_features=hidden)
        self.residual_dropout = nn.Dropout(residual_dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, F] -> [B, F]."""
        inner = self.dropout(torch.relu(self.up(self.norm(inputs))))
        added: Tensor = self.residual_dropout(self.down(inner))
        return inputs + added
