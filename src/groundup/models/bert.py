"""BERT: an encoder of words, places and segments, each half of a block normalised after it. Devlin et al. 2019."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from torch import nn

from groundup.models.config import (
    architecture_of,
    both,
    other_heads,
    prefixed,
    read_config,
    with_head,
    without_head,
    write_config,
)
from groundup.nn.activations import gelu, tanh
from groundup.nn.attention import Attention
from groundup.nn.encoder import Encoder, PostNormBlock, SentenceHead, TextEmbedding, WordHead
from groundup.nn.feed_forward import FeedForward
from groundup.nn.heads import SpanHead, TokenHead
from groundup.nn.norm import LayerNorm
from groundup.nn.weights import Weight

Head = Literal["states", "words", "classes", "tokens", "spans"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig:
    """The sizes of a BERT, under the names of its published config.json, and what stands behind its last block."""

    vocab_size: int
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    pad_token_id: int = 0
    tie_word_embeddings: bool = True
    head: Head = "states"
    """What it gives: its states, a logit for each word, classes of the text or of each token, or a span."""
    num_labels: int = 2
    """Classes of the head that has some."""

    FIXED: ClassVar[Mapping[str, Any]] = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "is_decoder": False,
        "add_cross_attention": False,
        "position_embedding_type": "absolute",
    }
    INERT: ClassVar = frozenset(
        {"gradient_checkpointing", "directionality"}
        | {f"pooler_{n}" for n in ("fc_size", "num_attention_heads", "num_fc_layers", "size_per_head", "type")}
    )
    ARCHITECTURES: ClassVar[Mapping[str, str]] = {
        "BertModel": "states",
        "BertForMaskedLM": "words",
        "BertForPreTraining": "words",
        "BertForSequenceClassification": "classes",
        "BertForTokenClassification": "tokens",
        "BertForQuestionAnswering": "spans",
    }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Self:
        """Read a config.json's table, the head by its ``architectures``."""
        return read_config(cls, with_head(table, cls.ARCHITECTURES), ignore)

    def to_dict(self) -> dict[str, Any]:
        """The table of a config.json that transformers and others read."""
        return without_head(write_config(self, architecture_of(self.head, self.ARCHITECTURES)))


BODY = (
    Weight("embeddings.word_embeddings.weight", "embedding.words.weight"),
    Weight("embeddings.position_embeddings.weight", "embedding.places.weight"),
    Weight("embeddings.token_type_embeddings.weight", "embedding.segments.weight"),
    *(Weight(f"embeddings.LayerNorm.{part}", f"embedding.norm.{part}") for part in ("weight", "bias")),
    *(
        Weight(f"encoder.layer.*.{theirs}.{part}", f"blocks.*.{ours}.{part}")
        for theirs, ours in (
            ("attention.self.query", "attention.query"),
            ("attention.self.key", "attention.key"),
            ("attention.self.value", "attention.value"),
            ("attention.output.dense", "attention.output"),
            ("attention.output.LayerNorm", "attended_norm"),
            ("intermediate.dense", "feed_forward.up"),
            ("output.dense", "feed_forward.down"),
            ("output.LayerNorm", "fed_norm"),
        )
        for part in ("weight", "bias")
    ),
)
"""Published name without the family's prefix, our name; BERT's kin share it."""


HEADS: Mapping[str, tuple[Weight, ...]] = {
    "states": (),
    "words": (
        Weight("cls.predictions.bias", "head.bias"),
        Weight("cls.predictions.decoder.weight", "head.weight"),
        *both(head__inner="cls.predictions.transform.dense", head__norm="cls.predictions.transform.LayerNorm"),
    ),
    "classes": both(head__inner="bert.pooler.dense", head__output="classifier"),
    "tokens": both(head__output="classifier"),
    "spans": both(head__output="qa_outputs"),
}
POOLER = ("bert.pooler.**",)


class Bert(Encoder):
    """An encoder: tokens [B, T] -> what its ``head`` gives: states [B, T, F], logits of words, classes, or a span."""

    CONFIG = BertConfig
    PREFIX = "bert."
    TIED: ClassVar[Mapping[str, str]] = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: BertConfig) -> None:
        self.config = config
        width, dropout = config.hidden_size, config.hidden_dropout_prob
        embedding = TextEmbedding(
            config.vocab_size,
            width,
            norm_of(config),
            config.max_position_embeddings,
            config.type_vocab_size,
            dropout=dropout,
        )
        blocks = (post_norm_block(config) for _ in range(config.num_hidden_layers))
        super().__init__(embedding, blocks, None, self.new_head(config))
        start(self)

    @staticmethod
    def new_head(config: BertConfig) -> nn.Module | None:
        """A head as the config says."""
        width, dropout = config.hidden_size, config.hidden_dropout_prob
        if config.head == "words":
            return WordHead(width, config.vocab_size, gelu, norm_of(config), tied=config.tie_word_embeddings)
        if config.head == "classes":
            return SentenceHead(width, config.num_labels, tanh, dropout=dropout)
        return token_head(config.head, width, config.num_labels, dropout)

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        rows = (*prefixed(self.PREFIX, BODY), *HEADS[self.config.head])
        if self.config.tie_word_embeddings:
            return rows
        # Where the output layer is one of its own, its bias is too, and the other one is read by nobody.
        return tuple(r._replace(theirs="cls.predictions.decoder.bias") if r.ours == "head.bias" else r for r in rows)

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """Published tensors of other heads, and tables that are computed."""
        pooled = self.config.head == "classes"
        fixed = ("bert.embeddings.position_ids", "cls.seq_relationship.**", *(() if pooled else POOLER))
        dead = () if self.config.tie_word_embeddings else ("cls.predictions.bias", "cls.predictions.decoder.bias")
        return (*fixed, *dead, *other_heads(self.config.head, HEADS))


def norm_of(config: Any) -> LayerNorm:
    """A layer norm over the hidden size."""
    return LayerNorm(in_features=config.hidden_size, eps=config.layer_norm_eps)


def post_norm_block(config: Any) -> PostNormBlock:
    """A block of BERT's kind, of the sizes of a config with BERT's names."""
    return PostNormBlock(
        Attention(config.num_attention_heads, causal=False, in_features=config.hidden_size, bias=True),
        FeedForward(config.intermediate_size, gelu, in_features=config.hidden_size),
        (norm_of(config), norm_of(config)),
        config.hidden_dropout_prob,
    )


def token_head(head: str, width: int, num_labels: int, dropout: float) -> nn.Module | None:
    """A class for each token, a span, or nothing."""
    if head == "tokens":
        return TokenHead(dropout, in_features=width, out_features=num_labels)
    return SpanHead(in_features=width) if head == "spans" else None


def start(model: nn.Module, std: float = 0.02) -> None:
    """Weights normal with deviation ``std``, biases 0, norms 1, as BERT begins."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, 0.0, std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
