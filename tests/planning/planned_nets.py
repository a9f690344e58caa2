"""A small decoder and a small convolutional net of this folder's own: planning must not need ours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.core.batch import Batch


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.before_mlp = nn.RMSNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.before_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        gate, value = self.up(self.before_mlp(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * value)


class Decoder(nn.Module):
    """Tied embedding; the loss leaves masked positions out by a boolean index, whose size hangs on values."""

    def __init__(self, vocab_size: int = 2048, width: int = 192, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocab_size, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        keep = targets != -100
        return F.cross_entropy(self.head(self.norm(x)[keep]).float(), targets[keep])


class Conv(nn.Module):
    def __init__(self, channels: int = 48, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(3):
            layers += [
                nn.Conv2d(3 if i == 0 else channels, channels, 3, padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.features(inputs).mean((2, 3)))


def decoder_batch(size: int = 4, length: int = 384) -> Batch:
    tokens = torch.randint(0, 2048, (size, length))
    return Batch({"tokens": tokens}, {"targets": tokens.roll(-1, 1)})


def conv_batch(size: int = 8, side: int = 64) -> Batch:
    return Batch({"inputs": torch.randn(size, 3, side, side)}, {"targets": torch.randint(0, 10, (size,))})


NETS = {"decoder": (Decoder, decoder_batch), "conv": (Conv, conv_batch)}
