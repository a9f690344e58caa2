"""FT-Transformer: each column of a row becomes a vector, and an encoder sees them all.

Shapes: B rows, F columns, N of them numbers, C categories, D features of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.nn.activations import relu
from groundup.nn.attention import Attention
from groundup.nn.dense import Dense
from groundup.nn.embedding import ClassToken
from groundup.nn.encoder import PreNormBlock, Surroundings
from groundup.nn.feed_forward import GatedFeedForward
from groundup.nn.init import normal
from groundup.nn.norm import LayerNorm


class FTTransformer(nn.Module):
    """A vector for each column and one for the row, pre-norm attention among them, and a head on the row's.

    [B, in_features] -> [B, out_features]. ``categories`` says of each column how many categories it has, 0 for a
    number; those hold their index. Without it all are numbers. ``hidden``, the width of ReGLU, is 4/3 of ``features``
    where it is left open; ``dropout`` acts on it, ``residual_dropout`` on what each layer adds. The first block has no
    norm before its attention. Gorishniy et al., Revisiting Deep Learning Models for Tabular Data, NeurIPS 2021, section
    3.3; the paper drops attention weights too, which is not done here.
    """

    def __init__(
        self,
        features: int = 192,
        blocks: int = 3,
        num_heads: int = 8,
        hidden: int | None = None,
        *,
        in_features: int,
        out_features: int,
        categories: Sequence[int] = (),
        dropout: float = 0.1,
        residual_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if categories and len(categories) != in_features:
            raise RecipeError(f"FTTransformer.categories: there are {len(categories)} for {in_features} columns.")
        self.columns = ColumnVectors(categories or (0,) * in_features, features)
        self.first = ClassToken(in_features=features)
        nn.init.uniform_(self.first.weight, -(features**-0.5), features**-0.5)
        self.blocks = nn.ModuleList(
            PreNormBlock(
                Attention(num_heads, causal=False, in_features=features, bias=True),
                GatedFeedForward(hidden or features * 4 // 3, relu, in_features=features, bias=True, dropout=dropout),
                (LayerNorm(in_features=features) if place else nn.Identity(), LayerNorm(in_features=features)),
                dropout=residual_dropout,
            )
            for place in range(blocks)
        )
        self.norm = LayerNorm(in_features=features)
        self.output = Dense(out_features, in_features=features, init=normal)  # the first answers are near 0

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, in_features] -> [B, out_features]."""
        states: Tensor = self.first(self.columns(inputs))
        around = Surroundings(states)
        for block in self.blocks:
            states = block(states, around)
        outputs: Tensor = self.output(torch.relu(self.norm(states[:, 0])))
        return outputs


class ColumnVectors(nn.Module):
    """Numbers as x w + b, categories as a row of a table + b, each column with its own: [B, F] -> [B, N + C, D].

    Numbers stand first. All start uniform within 1 / sqrt(D). Gorishniy et al. 2021, section 3.3, Feature Tokenizer.
    """

    numbers: Tensor
    chosen: Tensor
    offsets: Tensor

    def __init__(self, categories: Sequence[int], features: int) -> None:
        super().__init__()
        counts = [count for count in categories if count]
        chosen = [place for place, count in enumerate(categories) if count]
        numbers = [place for place, count in enumerate(categories) if not count]
        for name, values in (("numbers", numbers), ("chosen", chosen), ("offsets", [0, *accumulate(counts)][:-1])):
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)
        self.weight = nn.Parameter(torch.empty(len(numbers), features)) if numbers else None
        self.table = nn.Embedding(sum(counts), features) if counts else None
        self.bias = nn.Parameter(torch.empty(len(categories), features))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(features**-0.5), features**-0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, F] -> [B, N + C, D]."""
        vectors = []
        if self.weight is not None:
            vectors.append(inputs[:, self.numbers, None] * self.weight)
        if self.table is not None:
            rows = inputs[:, self.chosen].round().to(torch.int64) + self.offsets
            vectors.append(self.table(rows))
        return torch.cat(vectors, dim=1) + self.bias
