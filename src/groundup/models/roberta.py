"""RoBERTa: BERT's encoder, trained longer, whose places are counted from behind the padding's number.

Liu et al. 2019.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from groundup.models.bert import BODY, BertConfig, embedding_of, head_of, post_norm_block, start
from groundup.models.config import both, other_heads, prefixed
from groundup.nn.encoder import Encoder
from groundup.nn.weights import Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobertaConfig(BertConfig):
    """The sizes of a RoBERTa, under the names of its published config.json."""

    max_position_embeddings: int = 514
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5
    pad_token_id: int = 1

    FIXED: ClassVar[Mapping[str, Any]] = {**BertConfig.FIXED, "model_type": "roberta"}
    ARCHITECTURES: ClassVar[Mapping[str, str]] = {
        "RobertaModel": "states",
        "RobertaForMaskedLM": "words",
        "RobertaForSequenceClassification": "classes",
        "RobertaForTokenClassification": "tokens",
        "RobertaForQuestionAnswering": "spans",
    }


HEADS: Mapping[str, tuple[Weight, ...]] = {
    "states": (),
    "words": (
        Weight("lm_head.bias", "head.bias"),
        Weight("lm_head.decoder.weight", "head.weight"),
        *both(head__inner="lm_head.dense", head__norm="lm_head.layer_norm"),
    ),
    "classes": both(head__inner="classifier.dense", head__output="classifier.out_proj"),
    "tokens": both(head__output="classifier"),
    "spans": both(head__output="qa_outputs"),
}


class Roberta(Encoder):
    """An encoder: tokens [B, T] -> what its ``head`` gives: states [B, T, F], logits of words, classes, or a span."""

    CONFIG = RobertaConfig
    PREFIX = "roberta."
    new_head = staticmethod(head_of)
    TIED: ClassVar[Mapping[str, str]] = {
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }

    def __init__(self, config: RobertaConfig) -> None:
        self.config = config
        blocks = (post_norm_block(config) for _ in range(config.num_hidden_layers))
        super().__init__(embedding_of(config, config.pad_token_id + 1), blocks, None, self.new_head(config))
        start(self)

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        return (*prefixed(self.PREFIX, BODY), *HEADS[self.config.head])

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """Published tensors of other heads, and tables that are computed."""
        pretrained = () if self.config.head == "words" else ("lm_head.**",)
        fixed = ("roberta.embeddings.position_ids", "roberta.pooler.**", *pretrained)
        return (*fixed, *other_heads(self.config.head, HEADS))
