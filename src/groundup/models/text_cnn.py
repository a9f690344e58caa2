"""The convolutional network for sentences: each kernel looks for a phrase, wherever it stands."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.nn.dense import Dense

PADDING = 0
"""The word number behind a text's end."""


class TextCNN(nn.Module):
    """Embedding, convolutions over words of each width in ``kernels``, the largest answer of each, one dense layer.

    [B, T] int64 -> [B, out_features]. A kernel begins at each word of the text and at none of the padding (0), so the
    output does not depend on how far a text is padded. ``dropout`` acts before the last layer. Kim 2014, with
    embeddings learned from scratch. ``embedding_dropout`` drops values of the embeddings.
    """

    def __init__(
        self,
        features: int = 128,
        kernels: Sequence[int] = (3, 4, 5),
        channels: int = 100,
        dropout: float = 0.5,
        embedding_dropout: float = 0.0,
        *,
        vocab_size: int,
        out_features: int,
    ) -> None:
        super().__init__()
        if not kernels or min(kernels) < 1:
            raise RecipeError(f"TextCNN.kernels: read {list(kernels)}, expected widths of 1 word or more.")
        self.kernels = tuple(kernels)
        self.embedding = nn.Embedding(vocab_size, features, padding_idx=PADDING)
        with torch.no_grad():
            self.embedding.weight.uniform_(-0.25, 0.25)[PADDING] = 0  # the paper's range for words without a vector
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.convolutions = nn.ModuleList(nn.Conv1d(features, channels, kernel) for kernel in kernels)
        self.dropout = nn.Dropout(dropout)
        self.output = Dense(out_features, in_features=channels * len(kernels))

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T] -> [B, out_features]."""
        behind = (inputs == PADDING)[:, None, :]
        embedded = self.embedding_dropout(self.embedding(inputs)).transpose(1, 2)
        found = []
        for kernel, convolution in zip(self.kernels, self.convolutions, strict=True):
            answers = torch.relu(convolution(nn.functional.pad(embedded, (0, kernel - 1))))
            found.append(answers.masked_fill(behind, 0.0).amax(dim=2))  # 0 is the least that a relu gives
        outputs: Tensor = self.output(self.dropout(torch.cat(found, dim=1)))
        return outputs
