"""BERT: an encoder of words, places and segments, each half of a block normalised after it. Devlin et al. 2019."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import nn

from groundup.models.config import both, layers, other_heads, prefixed
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


BODY = (
    Weight("embeddings.word_embeddings.weight", "embedding.words.weight"),
    Weight("embeddings.position_embeddings.weight", "embedding.places.weight"),
    Weight("embeddings.token_type_embeddings.weight", "embedding.segments.weight"),
    *both(embedding__norm="embeddings.LayerNorm"),
    *layers(
        "encoder.layer.*",
        attention__query="attention.self.query",
        attention__key="attention.self.key",
        attention__value="attention.self.value",
        attention__output="attention.output.dense",
        attended_norm="attention.output.LayerNorm",
        feed_forward__up="intermediate.dense",
        feed_forward__down="output.dense",
        fed_norm="output.LayerNorm",
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


def norm_of(config: BertConfig) -> LayerNorm:
    """A layer norm over the hidden size."""
    return LayerNorm(in_features=config.hidden_size, eps=config.layer_norm_eps)


def embedding_of(config: BertConfig, first: int = 0) -> TextEmbedding:
    """Words, places counted from ``first``, and segments."""
    return TextEmbedding(
        config.vocab_size,
        config.hidden_size,
        norm_of(config),
        config.max_position_embeddings,
        config.type_vocab_size,
        first=first,
        dropout=config.hidden_dropout_prob,
    )


def post_norm_block(config: BertConfig) -> PostNormBlock:
    """A block of BERT's kind."""
    return PostNormBlock(
        Attention(config.num_attention_heads, causal=False, in_features=config.hidden_size, bias=True),
        FeedForward(config.intermediate_size, gelu, in_features=config.hidden_size),
        (norm_of(config), norm_of(config)),
        config.hidden_dropout_prob,
    )


def head_of(config: BertConfig) -> nn.Module | None:
    """A head as the config says."""
    width, dropout = config.hidden_size, config.hidden_dropout_prob
    if config.head == "words":
        return WordHead(width, config.vocab_size, gelu, norm_of(config), tied=config.tie_word_embeddings)
    if config.head == "classes":
        return SentenceHead(width, config.num_labels, tanh, dropout=dropout)
    return token_head(config.head, width, config.num_labels, dropout)


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


class Bert(Encoder):
    """An encoder: tokens [B, T] -> what its ``head`` gives: states [B, T, F], logits of words, classes, or a span."""

    CONFIG = BertConfig
    PREFIX = "bert."
    new_head = staticmethod(head_of)
    TIED: ClassVar[Mapping[str, str]] = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: BertConfig) -> None:
        self.config = config
        blocks = (post_norm_block(config) for _ in range(config.num_hidden_layers))
        super().__init__(embedding_of(config), blocks, None, self.new_head(config))
        start(self)

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
