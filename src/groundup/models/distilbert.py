"""DistilBERT: half of BERT's blocks, without segments. Sanh et al. 2019."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from groundup.models.bert import Head, start, token_head
from groundup.models.config import both, layers, other_heads, prefixed
from groundup.nn.activations import gelu, relu
from groundup.nn.attention import Attention
from groundup.nn.encoder import Encoder, PostNormBlock, SentenceHead, TextEmbedding, WordHead
from groundup.nn.feed_forward import FeedForward
from groundup.nn.norm import LayerNorm
from groundup.nn.weights import Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistilBertConfig:
    """The sizes of a DistilBERT, under the names of its published config.json."""

    vocab_size: int
    dim: int = 768
    n_layers: int = 6
    n_heads: int = 12
    hidden_dim: int = 3072
    max_position_embeddings: int = 512
    dropout: float = 0.1
    pad_token_id: int = 0
    tie_word_embeddings: bool = True
    head: Head = "states"
    """What it gives: its states, a logit for each word, classes of the text or of each token, or a span."""
    num_labels: int = 2

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "distilbert", "activation": "gelu"}
    INERT: ClassVar = frozenset({"qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds", "tie_weights_"})
    ARCHITECTURES: ClassVar[Mapping[str, str]] = {
        "DistilBertModel": "states",
        "DistilBertForMaskedLM": "words",
        "DistilBertForSequenceClassification": "classes",
        "DistilBertForTokenClassification": "tokens",
        "DistilBertForQuestionAnswering": "spans",
    }

    def norm(self) -> LayerNorm:
        """A norm over the hidden size."""
        return LayerNorm(in_features=self.dim, eps=1e-12)


BODY = (
    Weight("embeddings.word_embeddings.weight", "embedding.words.weight"),
    Weight("embeddings.position_embeddings.weight", "embedding.places.weight"),
    *both(embedding__norm="embeddings.LayerNorm"),
    *layers(
        "transformer.layer.*",
        attention__query="attention.q_lin",
        attention__key="attention.k_lin",
        attention__value="attention.v_lin",
        attention__output="attention.out_lin",
        attended_norm="sa_layer_norm",
        feed_forward__up="ffn.lin1",
        feed_forward__down="ffn.lin2",
        fed_norm="output_layer_norm",
    ),
)
HEADS: Mapping[str, tuple[Weight, ...]] = {
    "states": (),
    "words": (
        Weight("vocab_projector.bias", "head.bias"),
        Weight("vocab_projector.weight", "head.weight"),
        *both(head__inner="vocab_transform", head__norm="vocab_layer_norm"),
    ),
    "classes": both(head__inner="pre_classifier", head__output="classifier"),
    "tokens": both(head__output="classifier"),
    "spans": both(head__output="qa_outputs"),
}


class DistilBert(Encoder):
    """An encoder: tokens [B, T] -> what its ``head`` gives: states [B, T, F], logits of words, classes, or a span."""

    CONFIG = DistilBertConfig
    PREFIX = "distilbert."
    TIED: ClassVar[Mapping[str, str]] = {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}

    def __init__(self, config: DistilBertConfig) -> None:
        self.config = config
        embedding = TextEmbedding(
            config.vocab_size, config.dim, config.norm(), config.max_position_embeddings, dropout=config.dropout
        )
        blocks = (
            PostNormBlock(
                Attention(config.n_heads, causal=False, in_features=config.dim, bias=True),
                FeedForward(config.hidden_dim, gelu, in_features=config.dim),
                (config.norm(), config.norm()),
                config.dropout,
            )
            for _ in range(config.n_layers)
        )
        super().__init__(embedding, blocks, None, self.new_head(config))
        start(self)

    @staticmethod
    def new_head(config: DistilBertConfig) -> nn.Module | None:
        """A head as the config says."""
        if config.head == "words":
            return WordHead(config.dim, config.vocab_size, gelu, config.norm(), tied=config.tie_word_embeddings)
        if config.head == "classes":
            return SentenceHead(config.dim, config.num_labels, relu, dropout=config.dropout)
        return token_head(config.head, config.dim, config.num_labels, config.dropout)

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        return (*prefixed(self.PREFIX, BODY), *HEADS[self.config.head])

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """Published tensors of the head for words, where it is not the one at hand."""
        words = ("vocab_transform.**", "vocab_layer_norm.**", "vocab_projector.**")
        return (*(() if self.config.head == "words" else words), *other_heads(self.config.head, HEADS))
