"""ELECTRA: BERT's encoder over a narrower embedding, trained to tell replaced words. Clark et al. 2020."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from groundup.models.bert import BODY, BertConfig, post_norm_block, start, token_head
from groundup.models.config import both, other_heads, prefixed
from groundup.nn.activations import gelu
from groundup.nn.encoder import Encoder, SentenceHead, TextEmbedding, WordHead
from groundup.nn.norm import LayerNorm
from groundup.nn.weights import Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class ElectraConfig(BertConfig):
    """The sizes of an ELECTRA, under the names of its published config.json."""

    embedding_size: int = 128
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    head: Literal["states", "words", "classes", "tokens", "spans", "replaced"] = "states"  # type: ignore[assignment]
    """As BERT's, or for each token the logit that it was replaced."""

    FIXED: ClassVar[Mapping[str, Any]] = {
        **BertConfig.FIXED,
        "model_type": "electra",
        "summary_type": "first",
        "summary_use_proj": True,
        "summary_activation": "gelu",
    }
    INERT: ClassVar = frozenset({"summary_last_dropout", "generator_hidden_size"})
    ARCHITECTURES: ClassVar[Mapping[str, str]] = {
        "ElectraModel": "states",
        "ElectraForPreTraining": "replaced",
        "ElectraForMaskedLM": "words",
        "ElectraForSequenceClassification": "classes",
        "ElectraForTokenClassification": "tokens",
        "ElectraForQuestionAnswering": "spans",
    }


HEADS: Mapping[str, tuple[Weight, ...]] = {
    "states": (),
    "replaced": both(
        head__inner="discriminator_predictions.dense", head__output="discriminator_predictions.dense_prediction"
    ),
    "words": (
        Weight("generator_lm_head.bias", "head.bias"),
        Weight("generator_lm_head.weight", "head.weight"),
        *both(head__inner="generator_predictions.dense", head__norm="generator_predictions.LayerNorm"),
    ),
    "classes": both(head__inner="classifier.dense", head__output="classifier.out_proj"),
    "tokens": both(head__output="classifier"),
    "spans": both(head__output="qa_outputs"),
}


class ReplacedHead(nn.Module):
    """The logit that each token was replaced: [B, T, F] -> [B, T]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.output = nn.Linear(width, 1)

    def forward(self, states: Tensor) -> Tensor:
        """[B, T, F] -> [B, T]."""
        logits: Tensor = self.output(gelu(self.inner(states)))
        return logits[..., 0]


class Electra(Encoder):
    """An encoder: tokens [B, T] -> what its ``head`` gives: states [B, T, F], logits of words, classes, or a span."""

    CONFIG = ElectraConfig
    PREFIX = "electra."
    TIED: ClassVar[Mapping[str, str]] = {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"}

    def __init__(self, config: ElectraConfig) -> None:
        self.config = config
        embedding = TextEmbedding(
            config.vocab_size,
            config.embedding_size,
            LayerNorm(in_features=config.embedding_size, eps=config.layer_norm_eps),
            config.max_position_embeddings,
            config.type_vocab_size,
            project=config.hidden_size,
            dropout=config.hidden_dropout_prob,
        )
        blocks = (post_norm_block(config) for _ in range(config.num_hidden_layers))
        super().__init__(embedding, blocks, None, self.new_head(config))
        start(self)

    @staticmethod
    def new_head(config: ElectraConfig) -> nn.Module | None:
        """A head as the config says."""
        width, dropout = config.hidden_size, config.hidden_dropout_prob
        if config.head == "words":
            norm = LayerNorm(in_features=config.embedding_size, eps=config.layer_norm_eps)
            tied = config.tie_word_embeddings
            return WordHead(width, config.vocab_size, gelu, norm, config.embedding_size, tied=tied)
        if config.head == "classes":
            return SentenceHead(width, config.num_labels, gelu, dropout=dropout)
        if config.head == "replaced":
            return ReplacedHead(width)
        return token_head(config.head, width, config.num_labels, dropout)

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        projected = both(embedding__project="electra.embeddings_project")
        return (*prefixed(self.PREFIX, BODY), *projected, *HEADS[self.config.head])

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """Published tensors of other heads, and tables that are computed."""
        others = ("discriminator_predictions.**", "generator_predictions.**", "generator_lm_head.**")
        own = {"replaced": "discriminator", "words": "generator"}.get(self.config.head, "none")
        fixed = ("electra.embeddings.position_ids", *(pattern for pattern in others if not pattern.startswith(own)))
        return (*fixed, *other_heads(self.config.head, HEADS))
