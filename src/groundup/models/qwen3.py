"""Qwen3: a Llama whose queries and keys are normalised head by head. Yang et al. 2025."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

from groundup.models.config import BIASES, HEAD_NORMS, OLD_TABLES, STANDARD, TIED
from groundup.models.qwen2 import Qwen2Config
from groundup.nn.decoder import Decoder, start_small
from groundup.nn.norm import RMSNorm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen3Config(Qwen2Config):
    """The sizes of a Qwen3, under the names of its published config.json."""

    head_dim: int | None = 128
    attention_bias: bool = False

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "qwen3", "hidden_act": "silu"}


class Qwen3(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = Qwen3Config
    ARCHITECTURE = "Qwen3ForCausalLM"
    WEIGHTS = (*STANDARD, *HEAD_NORMS, *BIASES)
    UNUSED = OLD_TABLES
    TIED = TIED

    def __init__(self, config: Qwen3Config) -> None:
        self.config = config
        positions = config.rotary()
        norm = functools.partial(RMSNorm, eps=config.rms_norm_eps)
        blocks = (
            config.block(config.attention(window=window, bias=config.attention_bias, norm=norm), positions)
            for window in config.windows()
        )
        super().__init__(config.embedding(), blocks, config.norm(), config.output_layer())
        start_small(self)
