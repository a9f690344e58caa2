"""A published config.json against a family's dataclass: every setting is used, known to be inert, or refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from groundup.core.errors import CheckpointError, nearest


class Config(Protocol):
    """A frozen dataclass with the field names of a family's config.json, and what that file may say beside them."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    FIXED: ClassVar[Mapping[str, Any]]
    """Settings that change what is computed, and the one value that the family is written for; model_type is one."""


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

    ``rope_parameters`` of newer files are taken apart into rope_theta and rope_scaling. Raises CheckpointError for a
    setting that the family does not have and that could change what is computed; name it in ``ignore`` to pass over it.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    known = {name: value for name, value in table.items() if name in fields}
    rope = table.get("rope_parameters")
    if isinstance(rope, Mapping) and "rope_theta" in fields and "rope_parameters" not in fields:
        known["rope_theta"] = rope.get("rope_theta", known.get("rope_theta", fields["rope_theta"].default))
        scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
        known["rope_scaling"] = None if scaling.get("rope_type", "default") == "default" else scaling
    if "num_key_value_heads" in fields and known.get("num_key_value_heads") is None:
        known["num_key_value_heads"] = table.get("num_attention_heads")
    required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    if missing := sorted(
        n for n in required if known.get(n) is None and fields[n].default_factory is dataclasses.MISSING
    ):
        raise CheckpointError(f"config.json: {', '.join(missing)} is missing.")
    for name, value in table.items():
        if name in kind.FIXED:
            if value not in (kind.FIXED[name], None):
                raise CheckpointError(
                    f"config.json: {name} is {value!r}; this family is written for {kind.FIXED[name]!r}."
                )
        elif name not in fields and name not in INERT and name not in ignore:
            raise CheckpointError(
                f"config.json: {name} is not known to this family.{nearest(name, fields)} If it changes nothing "
                f"of what the model computes, pass ignore=({name!r},)."
            )
    return kind(**known)


def write_config(config: Config, architecture: str) -> dict[str, Any]:
    """The table of a config.json that transformers and others read."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {"architectures": [architecture], **values, **config.FIXED}
