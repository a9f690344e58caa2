"""Leaf layers: what lists of ``layers`` in a recipe are looked up in, and what models are written out from."""

from __future__ import annotations

from torch.nn import Dropout, Flatten

from groundup.nn.activations import (
    ELU,
    GELU,
    LeakyReLU,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from groundup.nn.attention import Attention
from groundup.nn.conv import AveragePool2d, Conv2d, GlobalAveragePool2d, MaxPool2d
from groundup.nn.dense import Dense
from groundup.nn.embedding import Embedding
from groundup.nn.norm import BatchNorm1d, BatchNorm2d, LayerNorm, RMSNorm
from groundup.nn.recurrent import GRU, LSTM, RNN, LastStep
from groundup.nn.sequential import Residual, Sequential

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "Attention",
    "AveragePool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePool2d",
    "LastStep",
    "LayerNorm",
    "LeakyReLU",
    "MaxPool2d",
    "Mish",
    "RMSNorm",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]
