"""ModernBERT: an encoder with rotary positions, gated feed-forward nets, and windows in two layers of three.

Warner et al. 2024.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from torch import Tensor, nn

from groundup.models.bert import Head
from groundup.models.config import read_config, windows
from groundup.nn.activations import gelu
from groundup.nn.attention import Attention
from groundup.nn.encoder import Encoder, PreNormBlock, SentenceHead, TextEmbedding, WordHead
from groundup.nn.feed_forward import GatedFeedForward
from groundup.nn.norm import LayerNorm
from groundup.nn.rope import Rotary
from groundup.nn.weights import Weight, split_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModernBertConfig:
    """The sizes of a ModernBERT, under the names of its published config.json."""

    vocab_size: int
    hidden_size: int = 768
    intermediate_size: int = 1152
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    max_position_embeddings: int = 8192
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    decoder_bias: bool = True
    classifier_bias: bool = False
    classifier_pooling: Literal["cls", "mean"] = "cls"
    global_attn_every_n_layers: int = 3
    layer_types: Sequence[str] | None = None
    local_attention: int = 128
    """Steps that a layer with a window sees, half of them to either side."""
    global_rope_theta: float = 160000.0
    local_rope_theta: float = 10000.0
    embedding_dropout: float = 0.0
    mlp_dropout: float = 0.0
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True
    head: Head = "states"
    """What it gives: its states, a logit for each word, or classes of the text or of each token."""
    num_labels: int = 2

    FIXED: ClassVar[Mapping[str, Any]] = {
        "model_type": "modernbert",
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
    }
    INERT: ClassVar = frozenset(
        {"cls_token_id", "deterministic_flash_attn", "gradient_checkpointing", "initializer_cutoff_factor"}
        | {"layer_norm_eps", "position_embedding_type", "reference_compile", "repad_logits_with_grad"}
        | {"sparse_pred_ignore_index", "sparse_prediction"}
    )
    ARCHITECTURES: ClassVar[Mapping[str, str]] = {
        "ModernBertModel": "states",
        "ModernBertForMaskedLM": "words",
        "ModernBertForSequenceClassification": "classes",
        "ModernBertForTokenClassification": "tokens",
    }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Self:
        """Read a config.json's table; newer files keep the positions of both kinds of layer together."""
        rope = table.get("rope_parameters")
        if isinstance(rope, Mapping) and "full_attention" in rope:
            far, near = rope["full_attention"], rope.get("sliding_attention", {})
            table = {**table, "global_rope_theta": far["rope_theta"], "local_rope_theta": near.get("rope_theta", 1e4)}
        return read_config(cls, table, ignore)

    def norm(self) -> LayerNorm:
        """A norm over the hidden size."""
        return LayerNorm(in_features=self.hidden_size, eps=self.norm_eps, bias=self.norm_bias)

    def windows(self) -> list[int | None]:
        """For each layer how far it sees to either side, itself counted."""
        every = self.global_attn_every_n_layers
        usual = ["sliding_attention" if i % every else "full_attention" for i in range(self.num_hidden_layers)]
        return windows(self.layer_types or usual, self.num_hidden_layers, self.local_attention // 2 + 1)


class ModernBert(Encoder):
    """An encoder: tokens [B, T] -> what its ``head`` gives: states [B, T, F], logits of words, or classes."""

    CONFIG = ModernBertConfig
    PREFIX = "model."
    TIED: ClassVar[Mapping[str, str]] = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}

    def __init__(self, config: ModernBertConfig) -> None:
        self.config = config
        width = config.hidden_size
        size = width // config.num_attention_heads
        far, near = Rotary(size, config.global_rope_theta), Rotary(size, config.local_rope_theta)
        blocks = (
            PreNormBlock(
                Attention(
                    config.num_attention_heads,
                    causal=False,
                    in_features=width,
                    bias=config.attention_bias,
                    window=window,
                ),
                GatedFeedForward(
                    config.intermediate_size,
                    gelu,
                    in_features=width,
                    bias=config.mlp_bias,
                    dropout=config.mlp_dropout,
                ),
                (config.norm() if layer else nn.Identity(), config.norm()),
                positions=far if window is None else near,
            )
            for layer, window in enumerate(config.windows())
        )
        embedding = TextEmbedding(config.vocab_size, width, config.norm(), dropout=config.embedding_dropout)
        super().__init__(embedding, blocks, config.norm(), self.new_head(config))
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.trunc_normal_(module.weight, 0.0, 0.02, -0.04, 0.04)

    @staticmethod
    def new_head(config: ModernBertConfig) -> nn.Module | None:
        """A head as the config says."""
        width = config.hidden_size
        if config.head == "words":
            return WordHead(
                width,
                config.vocab_size,
                gelu,
                config.norm(),
                tied=config.tie_word_embeddings,
                bias=config.classifier_bias,
            )
        if config.head == "classes":
            mean = config.classifier_pooling == "mean"
            bias = config.classifier_bias
            return SentenceHead(width, config.num_labels, gelu, config.norm(), mean=mean, bias=bias)
        return TokenHead(width, config) if config.head == "tokens" else None

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our names: fused projections are taken apart."""
        width, inner = self.config.hidden_size, self.config.intermediate_size
        layer, block = "model.layers.*", "blocks.*"
        gate_up = tuple(f"{block}.feed_forward.{name}" for name in ("gate", "up"))
        rows = [Weight("model.embeddings.tok_embeddings.weight", "embedding.words.weight")]
        for part in ("weight", "bias"):
            qkv = tuple(f"{block}.attention.{name}.{part}" for name in ("query", "key", "value"))
            rows += [
                Weight(f"model.embeddings.norm.{part}", f"embedding.norm.{part}"),
                Weight(f"model.final_norm.{part}", f"norm.{part}"),
                Weight(f"{layer}.attn_norm.{part}", f"{block}.attention_norm.{part}"),
                Weight(f"{layer}.mlp_norm.{part}", f"{block}.feed_forward_norm.{part}"),
                Weight(f"{layer}.attn.Wqkv.{part}", qkv, split_rows(width, width, width)),
                Weight(f"{layer}.attn.Wo.{part}", f"{block}.attention.output.{part}"),
                Weight(f"{layer}.mlp.Wi.{part}", tuple(f"{name}.{part}" for name in gate_up), split_rows(inner, inner)),
                Weight(f"{layer}.mlp.Wo.{part}", f"{block}.feed_forward.down.{part}"),
                Weight(f"head.dense.{part}", f"head.inner.{part}"),
                Weight(f"head.norm.{part}", f"head.norm.{part}"),
                Weight(f"classifier.{part}", f"head.output.{part}"),
                Weight(f"decoder.{part}", f"head.{part}"),
            ]
        classes = self.config.head in ("classes", "tokens")
        kept = {"head.inner", "head.norm", "head.output"} if classes else {"head.inner", "head.norm", "head"}
        kept = set() if self.config.head == "states" else kept
        return tuple(
            row for row in rows if not row.names[0].startswith("head") or row.names[0].rpartition(".")[0] in kept
        )

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """Published tensors of the heads, where the states are all that is wanted."""
        heads = {"states": ("head.**", "decoder.**", "classifier.**"), "words": ("classifier.**",)}
        return heads.get(self.config.head, ("decoder.**",))


class TokenHead(nn.Module):
    """norm(gelu(W x)), then a class for each token: [B, T, F] -> [B, T, num_labels]."""

    def __init__(self, width: int, config: ModernBertConfig) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width, config.classifier_bias)
        self.norm = config.norm()
        self.output = nn.Linear(width, config.num_labels)

    def forward(self, states: Tensor) -> Tensor:
        """[B, T, F] -> [B, T, num_labels]."""
        outputs: Tensor = self.output(self.norm(gelu(self.inner(states))))
        return outputs
