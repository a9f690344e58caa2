"""What published families share: a config.json read against a dataclass, usual sizes, usual names of tensors.

Every setting of a config.json is used, known to be inert, or refused.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from torch import nn

from groundup.core.errors import CheckpointError, RecipeError, nearest
from groundup.nn.attention import Attention
from groundup.nn.decoder import Block
from groundup.nn.feed_forward import GatedFeedForward
from groundup.nn.norm import RMSNorm
from groundup.nn.rope import Rotary
from groundup.nn.weights import Weight


class Config(Protocol):
    """A frozen dataclass with the field names of a family's config.json, and what that file may say beside them."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    FIXED: ClassVar[Mapping[str, Any]]
    """Settings that change what is computed, and the one value that the family is written for; model_type is one.

    A family with several heads has the fields head and num_labels, and ARCHITECTURES: published class -> head.
    """


Read = TypeVar("Read", bound=Config)

INERT = frozenset(
    {
        "_attn_implementation_autoset",
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "attention_probs_dropout_prob",
        "bos_token_id",
        "chunk_size_feed_forward",
        "classifier_dropout",
        "dtype",
        "embd_pdrop",
        "attn_pdrop",
        "resid_pdrop",
        "eos_token_id",
        "hidden_dropout",
        "hidden_dropout_prob",
        "id2label",
        "initializer_factor",
        "initializer_range",
        "label2id",
        "max_position_embeddings",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "pretraining_tp",
        "problem_type",
        "return_dict",
        "rope_parameters",
        "sep_token_id",
        "torch_dtype",
        "transformers_version",
        "unk_token_id",
        "use_cache",
    }
)
"""Settings of any family that change nothing of what is computed in evaluation."""


def read_config(kind: type[Read], table: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Read:
    """A config.json's table as a family's dataclass.

    Where the family has several ARCHITECTURES, its head is the one that the table names. ``rope_parameters`` of newer
    files are taken apart into rope_theta and rope_scaling. Raises CheckpointError for a setting that the family does
    not have and that could change what is computed; name it in ``ignore`` to pass over it.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if architectures := getattr(kind, "ARCHITECTURES", None):
        table = with_head(table, architectures)
    known = {name: value for name, value in table.items() if name in fields}
    for theirs, ours in getattr(kind, "RENAMED", {}).items():
        if theirs in table:
            known.setdefault(ours, table[theirs])
    rope = table.get("rope_parameters")
    if isinstance(rope, Mapping) and "rope_theta" in fields and "rope_parameters" not in fields:
        known["rope_theta"] = rope.get("rope_theta", known.get("rope_theta", fields["rope_theta"].default))
        scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
        known["rope_scaling"] = None if scaling.get("rope_type", "default") == "default" else scaling
        if "partial_rotary_factor" in fields and "partial_rotary_factor" in scaling:
            known["partial_rotary_factor"] = scaling.pop("partial_rotary_factor")
    if "num_key_value_heads" in fields and known.get("num_key_value_heads") is None:
        known["num_key_value_heads"] = table.get("num_attention_heads")
    hints = typing.get_type_hints(kind)
    known = {n: v for n, v in known.items() if v is not None or type(None) in typing.get_args(hints[n])}
    required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    if missing := sorted(
        n for n in required if known.get(n) is None and fields[n].default_factory is dataclasses.MISSING
    ):
        raise CheckpointError(f"config.json: {', '.join(missing)} is missing.")
    passed = {*INERT, *getattr(kind, "INERT", ()), *getattr(kind, "RENAMED", ()), *ignore, *fields}
    for name, value in table.items():
        if name in kind.FIXED:
            if value not in (kind.FIXED[name], None):
                raise CheckpointError(
                    f"config.json: {name} is {value!r}; this family is written for {kind.FIXED[name]!r}."
                )
        elif name not in passed:
            raise CheckpointError(
                f"config.json: {name} is not known to this family.{nearest(name, fields)} If it changes nothing "
                f"of what the model computes, pass ignore=({name!r},)."
            )
    try:
        return kind(**known)
    except ValueError as error:
        raise CheckpointError(f"config.json: {error}") from error


def write_config(config: Config, architecture: str = "") -> dict[str, Any]:
    """The table of a config.json that transformers and others read.

    ``architecture`` is what it calls the class; a family with several ARCHITECTURES says so by its head.
    """
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    for name in ("head_dim", "num_key_value_heads"):  # what follows from other sizes must not stand there as null
        if values.get(name, ...) is None:
            del values[name]
    heads: Mapping[str, str] = getattr(config, "ARCHITECTURES", {})
    if not heads:
        return {"architectures": [architecture], **values, **config.FIXED}
    head, num_labels = values.pop("head"), values.pop("num_labels")
    named = next(name for name, kind in heads.items() if kind == head)
    table = {"architectures": [named], **values, **config.FIXED}
    return {**table, "id2label": {str(i): f"LABEL_{i}" for i in range(num_labels)}} if head in LABELLED else table


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """What the config.json of nearly every decoder has; families add their own."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    """As many as there are heads where it is None."""
    head_dim: int | None = None
    """hidden_size / num_attention_heads where it is None."""
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: Mapping[str, Any] | None = None
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | Sequence[int] | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        groups = self.num_key_value_heads or self.num_attention_heads
        if self.num_attention_heads % groups or (self.head_dim is None and self.hidden_size % self.num_attention_heads):
            raise RecipeError(
                f"hidden_size {self.hidden_size}, num_attention_heads {self.num_attention_heads}, num_key_value_heads "
                f"{groups}: the heads must divide hidden_size, and the key/value heads must divide the heads."
            )

    @property
    def head_size(self) -> int:
        """Features of one head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    def attention(self, **options: Any) -> Attention:
        """One layer's attention of these sizes; ``options`` are ``Attention``'s own."""
        return Attention(
            self.num_attention_heads,
            self.num_key_value_heads,
            in_features=self.hidden_size,
            head_dim=self.head_size,
            **options,
        )

    def norm(self, **options: Any) -> RMSNorm:
        """A norm over the hidden size."""
        return RMSNorm(in_features=self.hidden_size, eps=self.rms_norm_eps, **options)

    def block(
        self,
        attention: nn.Module,
        positions: Rotary | None,
        feed_forward: nn.Module | None = None,
        scale: float = 1.0,
        dropout: float = 0.0,
    ) -> Block:
        """One layer, each half behind a norm; a gated net of these sizes where none is given."""
        feed_forward = feed_forward or GatedFeedForward(self.intermediate_size, in_features=self.hidden_size)
        return Block(attention, feed_forward, (self.norm(), self.norm()), positions, scale, dropout)

    def embedding(self) -> nn.Embedding:
        """Of the vocabulary."""
        return nn.Embedding(self.vocab_size, self.hidden_size)

    def output_layer(self) -> nn.Linear | None:
        """The output layer; None where it is the embedding itself."""
        return None if self.tie_word_embeddings else nn.Linear(self.hidden_size, self.vocab_size, bias=False)

    def rotary(self, head_dim: int | None = None) -> Rotary:
        """Positions for all layers."""
        return Rotary(head_dim or self.head_size, self.rope_theta, self.rope_scaling, self.max_position_embeddings)


def windows(
    layer_types: Sequence[str] | None, num_layers: int, window: int | None, otherwise: str = "full_attention"
) -> list[int | None]:
    """For each layer how far it sees, None for all, by the ``layer_types`` of newer files."""
    kinds = list(layer_types or [otherwise] * num_layers)
    known = {"full_attention": None, "sliding_attention": window}
    if len(kinds) != num_layers or set(kinds) - known.keys():
        raise CheckpointError(
            f"config.json: layer_types has {sorted(set(kinds))} for {len(kinds)} layers; "
            f"expected {' or '.join(known)} for each of the {num_layers}."
        )
    return [known[kind] for kind in kinds]


EMBEDDED = (
    Weight("model.embed_tokens.weight", "embedding.weight"),
    Weight("model.norm.weight", "norm.weight"),
    Weight("lm_head.weight", "head.weight"),
)
NORMS = (
    Weight("model.layers.*.input_layernorm.weight", "blocks.*.attention_norm.weight"),
    Weight("model.layers.*.post_attention_layernorm.weight", "blocks.*.feed_forward_norm.weight"),
)
ATTENTION = (
    Weight("model.layers.*.self_attn.q_proj.weight", "blocks.*.attention.query.weight"),
    Weight("model.layers.*.self_attn.k_proj.weight", "blocks.*.attention.key.weight"),
    Weight("model.layers.*.self_attn.v_proj.weight", "blocks.*.attention.value.weight"),
    Weight("model.layers.*.self_attn.o_proj.weight", "blocks.*.attention.output.weight"),
)
HEAD_NORMS = (
    Weight("model.layers.*.self_attn.q_norm.weight", "blocks.*.attention.query_norm.weight"),
    Weight("model.layers.*.self_attn.k_norm.weight", "blocks.*.attention.key_norm.weight"),
)
BIASES = tuple(
    Weight(f"model.layers.*.self_attn.{theirs}_proj.bias", f"blocks.*.attention.{ours}.bias")
    for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output"))
)
FEED_FORWARD = (
    Weight("model.layers.*.mlp.gate_proj.weight", "blocks.*.feed_forward.gate.weight"),
    Weight("model.layers.*.mlp.up_proj.weight", "blocks.*.feed_forward.up.weight"),
    Weight("model.layers.*.mlp.down_proj.weight", "blocks.*.feed_forward.down.weight"),
)
STANDARD = (*EMBEDDED, *NORMS, *ATTENTION, *FEED_FORWARD)
"""The names that most published decoders share."""

TIED = {"lm_head.weight": "model.embed_tokens.weight"}
"""Where the embeddings are tied: what may be written out all the same, and what it must then equal."""

OLD_TABLES = ("model.layers.*.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq")
"""Tensors that old files carry and that are computed from the config."""


def experts(
    prefix: str, gate: str, up: str, down: str, ours: str = "blocks.*.feed_forward.experts"
) -> tuple[Weight, ...]:
    """Rows for the experts of a mixture, published one by one, that ours holds stacked."""
    return (
        Weight(f"{prefix}.*.{gate}.weight", f"{ours}.gate_up", part=(0, 2)),
        Weight(f"{prefix}.*.{up}.weight", f"{ours}.gate_up", part=(1, 2)),
        Weight(f"{prefix}.*.{down}.weight", f"{ours}.down"),
    )


LABELLED = ("classes", "tokens")
"""Heads whose number of classes a config.json tells by their labels."""


def with_head(table: Mapping[str, Any], architectures: Mapping[str, str]) -> dict[str, Any]:
    """A config.json's table with its head and number of labels as fields. Raises CheckpointError for another head."""
    named = [name for name in table.get("architectures") or [next(iter(architectures))] if name]
    if named[0] not in architectures:
        raise CheckpointError(f"config.json: architectures is {named}; expected one of {', '.join(architectures)}.")
    head = architectures[named[0]]
    labels = len(table["id2label"]) if table.get("id2label") and head in LABELLED else 2
    return {**table, "head": head, "num_labels": labels}


def both(**names: str) -> tuple[Weight, ...]:
    """Weight and bias of layers by our name; ``__`` in a keyword stands for a dot."""
    return tuple(
        Weight(f"{theirs}.{part}", f"{ours.replace('__', '.')}.{part}")
        for ours, theirs in names.items()
        for part in ("weight", "bias")
    )


def layers(theirs: str, ours: str = "blocks.*", **names: str) -> tuple[Weight, ...]:
    """Weight and bias of the parts of layers, as ``both`` has them."""
    return tuple(row._replace(theirs=f"{theirs}.{row.theirs}", ours=f"{ours}.{row.ours}") for row in both(**names))


def prefixed(prefix: str, rows: tuple[Weight, ...]) -> tuple[Weight, ...]:
    """The same rows with a prefix before the published names."""
    return tuple(row._replace(theirs=prefix + row.theirs) for row in rows)


def other_heads(head: str, heads: Mapping[str, tuple[Weight, ...]]) -> tuple[str, ...]:
    """What a file may hold of its head where the states are all that is wanted of it."""
    return tuple(row.theirs for rows in heads.values() for row in rows) if head == "states" else ()
