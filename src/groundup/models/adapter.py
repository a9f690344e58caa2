"""A published decoder of a family that is not written out here, run by transformers behind our interface."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from groundup.core.errors import CheckpointError, MissingExtraError
from groundup.models.hugging_face import CONFIG, FAMILIES
from groundup.nn.folders import read_json
from groundup.nn.losses.reading import MASKED


class Adapted(nn.Module):
    """tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy; computed by transformers.

    ``config`` is the text of a published config.json; code in it is never carried out. Packed documents are taken
    apart, since not every model there keeps them so. Raises MissingExtraError where transformers is not installed, and
    CheckpointError for what it does not know as a decoder.
    """

    def __init__(self, config: str, inner: nn.Module | None = None) -> None:
        super().__init__()
        table = json.loads(config)
        self.inner: nn.Module = inner if inner is not None else _made(table)

    def forward(self, tokens: Tensor, documents: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """Logits [B, T, V]; with ``targets`` [B, T], already the next tokens, their mean cross entropy."""
        # The stand-ins that a plan is made with have no values to look at.
        packed = documents is not None and type(documents) is Tensor and bool((documents != documents[:, :1]).any())
        logits = self._logits(tokens) if not packed or documents is None else self._apart(tokens, documents)
        if targets is None:
            return logits
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=MASKED)

    def _logits(self, tokens: Tensor) -> Tensor:
        output: Any = self.inner(input_ids=tokens, use_cache=False)
        logits: Tensor = output.logits
        return logits

    def _apart(self, tokens: Tensor, documents: Tensor) -> Tensor:
        """Each document as a row of its own, padded behind, where a decoder does not look; and back in their places."""
        ends = torch.ones_like(documents, dtype=torch.bool)
        ends[:, :-1] = documents[:, 1:] != documents[:, :-1]
        places = torch.split(torch.arange(tokens.numel(), device=tokens.device), _lengths(ends.flatten()))
        rows = nn.utils.rnn.pad_sequence([tokens.flatten()[place] for place in places], batch_first=True)
        logits = self._logits(rows)
        found = torch.cat([row[: len(place)] for row, place in zip(logits, places, strict=True)])
        return found.view(*tokens.shape, -1)


def _lengths(ends: Tensor) -> list[int]:
    last = ends.nonzero().flatten()
    found: list[int] = torch.diff(last, prepend=last.new_tensor([-1])).tolist()
    return found


def read_adapted(folder: str | Path, *, dtype: torch.dtype | None = torch.float32) -> Adapted:
    """The decoder in a published folder whose family is not written out here.

    Raises MissingExtraError where transformers is not installed, and CheckpointError for one that it does not read as a
    decoder. Code in the folder is never carried out.
    """
    folder = Path(folder)
    table = read_json(folder / CONFIG)
    transformers = need_transformers(str(table.get("model_type")), folder / CONFIG)
    try:
        inner = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype or "auto", local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: neither groundup nor transformers reads this: {error}") from error
    return Adapted(json.dumps(table), inner).eval()


def said_of(kind: str, where: str | Path) -> str:
    """What a person has to know of a family that runs through transformers."""
    version = need_transformers(kind, where).__version__
    return (
        f"{where}: the family {kind!r} is not written out in groundup; it runs through transformers {version}: slower "
        "to load, and packed documents are taken apart again."
    )


def need_transformers(kind: str, where: str | Path) -> Any:
    """The module. Raises MissingExtraError that says for which family it is needed."""
    try:
        import transformers
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingExtraError(
            f"{where}: the family {kind!r} is not written out in groundup (there is: {', '.join(FAMILIES)}). "
            "With transformers installed it can be run through an adapter: pip install 'groundup[transformers]'."
        ) from error
    return transformers


def _made(table: Mapping[str, Any]) -> nn.Module:
    kind = str(table.get("model_type"))
    transformers = need_transformers(kind, CONFIG)
    try:
        made: nn.Module = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**table))
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{CONFIG}: neither groundup nor transformers has a decoder {kind!r}: {error}") from error
    return made
