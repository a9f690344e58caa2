"""PatchTST: a series cut into overlapping patches, which are the steps of an encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from groundup.core.errors import CheckpointError, RecipeError
from groundup.models.config import both, layers, read_config, with_head, write_config
from groundup.models.dlinear import need_target
from groundup.nn.activations import gelu
from groundup.nn.attention import Attention
from groundup.nn.encoder import PostNormBlock, PreNormBlock, Surroundings
from groundup.nn.feed_forward import FeedForward
from groundup.nn.norm import BatchNorm1d, LayerNorm
from groundup.nn.positions import sinusoids
from groundup.nn.weights import Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchTSTConfig:
    """The sizes of a PatchTST forecaster, under the names of its published config.json.

    What is left open is as in the paper's section 4, made smaller for one core; a config.json that leaves something
    open means ``PUBLISHED``.
    """

    num_input_channels: int
    context_length: int
    prediction_length: int
    patch_length: int = 16
    patch_stride: int = 8
    num_hidden_layers: int = 3
    d_model: int = 64
    num_attention_heads: int = 4
    ffn_dim: int = 128
    bias: bool = True
    norm_type: Literal["batchnorm", "layernorm"] = "batchnorm"
    norm_eps: float = 1e-5
    pre_norm: bool = False
    positional_encoding_type: Literal["sincos", "random"] = "sincos"
    pooling_type: Literal["mean", "max"] | None = None
    scaling: Literal["std"] | None = "std"
    positional_dropout: float = 0.0
    path_dropout: float = 0.2
    ff_dropout: float = 0.2
    head_dropout: float = 0.0
    target_input: int | Literal["all"] | None = "all"

    FIXED: ClassVar[Mapping[str, Any]] = {
        "model_type": "patchtst",
        "activation_function": "gelu",
        "channel_attention": False,
        "share_embedding": True,
        "share_projection": True,
        "use_cls_token": False,
        "loss": "mse",
    }
    INERT: ClassVar = frozenset(
        {
            *("do_mask_input", "mask_type", "mask_value", "random_mask_ratio", "num_forecast_mask_patches"),
            *("channel_consistent_masking", "unmasked_channel_indices", "distribution_output", "num_parallel_samples"),
            *("num_targets", "output_range", "init_std"),
        }
    )
    OFFERED: ClassVar = {
        "num_input_channels": "in_features",
        "context_length": "length",
        "prediction_length": "horizon",
    }
    PUBLISHED: ClassVar[Mapping[str, Any]] = {
        **{"num_input_channels": 1, "context_length": 32, "prediction_length": 24},
        **{"patch_length": 1, "patch_stride": 1, "d_model": 128, "ffn_dim": 512, "pre_norm": True},
        **{"pooling_type": "mean", "path_dropout": 0.0, "ff_dropout": 0.0},
    }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Self:
        """Read a config.json's table. Raises CheckpointError for one of no forecaster, and as ``read_config`` does."""
        said = with_head(table, {"PatchTSTForPrediction": "forecast"})
        if said.get("scaling", "std") not in ("std", None):
            raise CheckpointError(
                f"config.json: scaling is {said['scaling']!r}; this family is written for 'std' or null."
            )
        return read_config(cls, {**cls.PUBLISHED, **said}, (*ignore, "head", "num_labels"))

    def to_dict(self) -> dict[str, Any]:
        """The table of a config.json that transformers and others read."""
        table = write_config(self, "PatchTSTForPrediction")
        del table["target_input"]
        return table


class PatchTST(nn.Module):
    """Each series by itself through patches, an encoder and one dense layer: [B, T, 1] -> [B, H].

    Each window is brought to mean 0 and deviation 1 and its forecast back (``scaling``, without a learned line); the
    series share all weights and do not see one another, so that it takes one input, the target's own past. Read from a
    published checkpoint (``target_input`` "all") it forecasts each of its series: [B, T, F] -> [B, H, F].

    Nie et al., A Time Series is Worth 64 Words, ICLR 2023, as transformers' PatchTSTForPrediction has it: where patches
    do not fill the window, its first steps are left out (the paper repeats its last value at the end instead), and
    sines and cosines stand for the paper's learned places. Attention itself has no dropout here.
    """

    ANSWERS_FROM_INPUTS: ClassVar = True
    CONFIG = PatchTSTConfig
    UNUSED: ClassVar[tuple[str, ...]] = ()
    places: Tensor

    def __init__(self, config: PatchTSTConfig) -> None:
        super().__init__()
        self.config = config
        self.target = None if config.target_input == "all" else need_target(config.target_input, "PatchTST")
        if self.target is not None and config.num_input_channels > 1:
            raise RecipeError(
                f"PatchTST: it forecasts a series from its own past alone, and there are {config.num_input_channels} "
                "inputs. Name the target alone in samples.inputs, or take a model that looks at all of them."
            )
        if config.context_length < config.patch_length or config.patch_stride < 1:
            raise RecipeError(
                f"PatchTST: a window of {config.context_length} steps holds no patch of {config.patch_length}, "
                f"{config.patch_stride} apart. Take smaller patches or a longer window."
            )
        num_patches = (config.context_length - config.patch_length) // config.patch_stride + 1
        self.skipped = config.context_length - config.patch_length - config.patch_stride * (num_patches - 1)
        self.embedding = nn.Linear(config.patch_length, config.d_model)
        self._give_places(num_patches)
        self.dropout = nn.Dropout(config.positional_dropout)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.num_hidden_layers))
        self.head_dropout = nn.Dropout(config.head_dropout)
        pooled = 1 if config.pooling_type else num_patches
        self.head = nn.Linear(config.d_model * pooled, config.prediction_length)

    def _give_places(self, num_patches: int) -> None:
        """What tells patches apart: learned, or sines and cosines around 0 with a deviation of 0.1."""
        width = self.config.d_model
        if self.config.positional_encoding_type == "random":
            self.places = nn.Parameter(torch.randn(num_patches, width))
            return
        waves = sinusoids(num_patches, width, 10000.0, self.embedding.weight.device)
        waves = waves - waves.mean()
        self.register_buffer("places", waves / (10 * waves.std()))

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        return published(self.config)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, 1] -> [B, H]; or [B, T, F] -> [B, H, F] where all series are forecast."""
        mean, deviation = inputs.new_zeros(()), inputs.new_ones(())
        if self.config.scaling is not None:
            variance, mean = torch.var_mean(inputs, dim=1, keepdim=True, correction=0)
            deviation = (variance + 1e-5).sqrt()
        forecast_BFH = self._forecast(((inputs - mean) / deviation).transpose(1, 2))
        outputs = forecast_BFH.transpose(1, 2) * deviation + mean
        return outputs if self.target is None else outputs[:, :, self.target]

    def _forecast(self, series_BFT: Tensor) -> Tensor:
        """[B, F, T] -> [B, F, H], on the scale of the window."""
        patches = series_BFT[..., self.skipped :].unfold(-1, self.config.patch_length, self.config.patch_stride)
        states = self.dropout(self.embedding(patches) + self.places).flatten(0, 1)
        around = Surroundings(states)
        for block in self.blocks:
            states = block(states, around)
        if self.config.pooling_type is not None:
            states = states.mean(1) if self.config.pooling_type == "mean" else states.amax(1)
        forecast: Tensor = self.head(self.head_dropout(states.flatten(1)))
        return forecast.view(*series_BFT.shape[:2], -1)


def _block(config: PatchTSTConfig) -> nn.Module:
    """Attention over the patches, and two dense layers at each."""
    kind = BatchNorm1d if config.norm_type == "batchnorm" else LayerNorm
    width = config.d_model
    attention = Attention(config.num_attention_heads, causal=False, in_features=width, bias=True)
    feed_forward = FeedForward(config.ffn_dim, gelu, in_features=width, bias=config.bias, dropout=config.ff_dropout)
    norms = (kind(in_features=width, eps=config.norm_eps), kind(in_features=width, eps=config.norm_eps))
    if config.pre_norm:
        return PreNormBlock(attention, feed_forward, norms, dropout=config.path_dropout)
    return PostNormBlock(attention, feed_forward, norms, dropout=config.path_dropout)


def published(config: PatchTSTConfig) -> tuple[Weight, ...]:
    """Published name, our name, for the norms that there are."""
    inner = ".batchnorm" if config.norm_type == "batchnorm" else ""
    first, second = ("attention_norm", "feed_forward_norm") if config.pre_norm else ("attended_norm", "fed_norm")
    norms = {first: f"norm_sublayer1{inner}", second: f"norm_sublayer3{inner}"}
    statistics = tuple(
        Weight(f"model.encoder.layers.*.{theirs}.{name}", f"blocks.*.{ours}.{name}")
        for ours, theirs in norms.items()
        for name in ("running_mean", "running_var", "num_batches_tracked")
    )
    return (
        Weight("model.encoder.positional_encoder.position_enc", "places"),
        *both(embedding="model.encoder.embedder.input_embedding", head="head.projection"),
        *layers(
            "model.encoder.layers.*",
            attention__query="self_attn.q_proj",
            attention__key="self_attn.k_proj",
            attention__value="self_attn.v_proj",
            attention__output="self_attn.out_proj",
            feed_forward__up="ff.0",
            feed_forward__down="ff.3",
            **norms,
        ),
        *(statistics if inner else ()),
    )
