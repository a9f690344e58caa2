"""A published decoder of a family that is not written out here, run by transformers behind our interface."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from groundup.core.errors import CheckpointError, GroundupError, MissingExtraError
from groundup.models.hugging_face import CONFIG, FAMILIES, read_folder
from groundup.nn.folders import read_json
from groundup.nn.losses.reading import MASKED


class Adapted(nn.Module):
    """tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy; computed by transformers.

    Packed documents are refused, since not every model there keeps them apart.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: Tensor, documents: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """Logits [B, T, V]; with ``targets`` [B, T], already the next tokens, their mean cross entropy."""
        if documents is not None and bool((documents != documents[:, :1]).any()):
            raise GroundupError(
                "this family runs through transformers, which may not keep packed documents apart; "
                "give one document a row."
            )
        output: Any = self.inner(input_ids=tokens, use_cache=False)
        logits: Tensor = output.logits
        if targets is None:
            return logits
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=MASKED)


def read_model(
    folder: str | Path, *, dtype: torch.dtype | None = torch.float32, ignore: tuple[str, ...] = ()
) -> nn.Module:
    """The model in a published folder: ours where the family is here, else ``Adapted``, with a warning that says so.

    Raises CheckpointError as ``read_folder`` does, MissingExtraError for another family where transformers is not
    installed, and CheckpointError for one that transformers does not read as a decoder. Code in the folder is never
    carried out.
    """
    folder = Path(folder)
    kind = str(read_json(folder / CONFIG).get("model_type"))
    if kind in FAMILIES:
        return read_folder(folder, dtype=dtype, ignore=ignore)
    try:
        import transformers
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingExtraError(
            f"{folder / CONFIG}: the family {kind!r} is not written out in groundup (there is: {', '.join(FAMILIES)}). "
            "With transformers installed it can be run through an adapter: pip install 'groundup[transformers]'."
        ) from error
    try:
        inner = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype or "auto", local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: neither groundup nor transformers reads this: {error}") from error
    warnings.warn(
        f"{folder}: the family {kind!r} is not written out in groundup; it runs through transformers "
        f"{transformers.__version__}: slower to load, without packing and without our checks of its layers.",
        stacklevel=2,
    )
    model = Adapted(inner)
    return model.eval()
