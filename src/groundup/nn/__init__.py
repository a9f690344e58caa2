"""Leaf layers: what lists of ``layers`` in a recipe are looked up in, and what models are written out from."""

from __future__ import annotations

from torch.nn import Dropout, Flatten

from groundup.nn.activations import (
    ELU,
    GELU,
    LeakyReLU,
    Mish,
    ReLU,
    ReLUSquared,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from groundup.nn.attention import Attention, CrossAttention, LatentAttention
from groundup.nn.blocks import DenseBlock, ResidualBlock, SqueezeExcite
from groundup.nn.conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    DepthwiseConv1d,
    DepthwiseConv2d,
    SeparableConv1d,
    SeparableConv2d,
    TransposedConv1d,
    TransposedConv2d,
    TransposedConv3d,
)
from groundup.nn.dense import Dense
from groundup.nn.embedding import ClassToken, Embedding, Patches
from groundup.nn.experts import MixtureOfExperts
from groundup.nn.feed_forward import FeedForward, GatedFeedForward
from groundup.nn.heads import ClassHead, EmbeddingHead, SpanHead, TokenHead, ValueHead
from groundup.nn.norm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    LayerNorm,
    RMSNorm,
)
from groundup.nn.pooling import (
    AdaptiveAveragePool2d,
    AveragePool1d,
    AveragePool2d,
    AveragePool3d,
    GlobalAveragePool1d,
    GlobalAveragePool2d,
    GlobalAveragePool3d,
    GlobalMaxPool1d,
    GlobalMaxPool2d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from groundup.nn.positions import LearnedPositions, SinusoidalPositions
from groundup.nn.recurrent import GRU, LSTM, RNN, LastStep, MinGRU
from groundup.nn.regularisation import DropPath
from groundup.nn.sequential import ChannelsLast, Parallel, Repeat, Reshape, Residual, Sequential

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveAveragePool2d",
    "Attention",
    "AveragePool1d",
    "AveragePool2d",
    "AveragePool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "ChannelsLast",
    "ClassHead",
    "ClassToken",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "CrossAttention",
    "Dense",
    "DenseBlock",
    "DepthwiseConv1d",
    "DepthwiseConv2d",
    "DropPath",
    "Dropout",
    "Embedding",
    "EmbeddingHead",
    "FeedForward",
    "Flatten",
    "GatedFeedForward",
    "GlobalAveragePool1d",
    "GlobalAveragePool2d",
    "GlobalAveragePool3d",
    "GlobalMaxPool1d",
    "GlobalMaxPool2d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "LastStep",
    "LatentAttention",
    "LayerNorm",
    "LeakyReLU",
    "LearnedPositions",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MinGRU",
    "Mish",
    "MixtureOfExperts",
    "Parallel",
    "Patches",
    "RMSNorm",
    "ReLU",
    "ReLUSquared",
    "Repeat",
    "Reshape",
    "Residual",
    "ResidualBlock",
    "SeparableConv1d",
    "SeparableConv2d",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SinusoidalPositions",
    "Softmax",
    "Softplus",
    "SpanHead",
    "SqueezeExcite",
    "Tanh",
    "TokenHead",
    "TransposedConv1d",
    "TransposedConv2d",
    "TransposedConv3d",
    "ValueHead",
]
