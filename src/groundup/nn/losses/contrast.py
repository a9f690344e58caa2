"""Contrastive losses: what belongs together lies nearer than everything else in the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.core.errors import DataError, RecipeError
from groundup.nn.losses.reading import exact


def info_nce(output: Tensor, targets: Tensor, temperature: float = 0.07, symmetric: bool = True) -> Tensor:
    """Mean of -log softmax(cos(output_i, target_j) / temperature)[j = i]: each row's partner among all of the batch.

    output and targets [N, D]. ``symmetric`` takes the mean of both directions, as CLIP does. van den Oord et al.
    2018, equation 4; Radford et al. 2021, section 2.3.
    """
    if output.ndim != 2 or output.shape != targets.shape or not targets.is_floating_point():
        raise RecipeError(
            f"loss: expected two batches of vectors [N, D], read {tuple(output.shape)} and {tuple(targets.shape)}."
        )
    ours, theirs = F.normalize(exact(output), dim=-1), F.normalize(exact(targets), dim=-1)
    logits = ours @ theirs.to(ours.dtype).T / temperature
    partners = torch.arange(len(logits), device=logits.device)
    loss = F.cross_entropy(logits, partners)
    return (loss + F.cross_entropy(logits.T, partners)) / 2 if symmetric else loss


def contrastive(output: Tensor, targets: Tensor, temperature: float = 0.1) -> Tensor:
    """Mean over i and its likes j of -log(exp(cos_ij / t) / sum over k other than i of exp(cos_ik / t)).

    output [N, D]; targets [N] int64, equal where two samples belong together: with two views of each, NT-Xent (Chen
    et al. 2020, equation 1); with classes, Khosla et al. 2020, equation 2. A sample without a like has no term.
    Raises DataError when none has one.
    """
    if output.ndim != 2 or targets.shape != output.shape[:1] or targets.is_floating_point():
        raise RecipeError(
            f"loss: expected vectors [N, D] and whole-numbered groups [N], read {tuple(output.shape)} and "
            f"{tuple(targets.shape)} of {targets.dtype}."
        )
    vectors = F.normalize(exact(output), dim=-1)
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    log_p = (vectors @ vectors.T / temperature).masked_fill(itself, float("-inf")).log_softmax(-1)
    alike = (targets[:, None] == targets[None]) & ~itself
    counts = alike.sum(1)
    if not bool(counts.any()):
        raise DataError("loss: no two samples of this batch belong together, so there is nothing to contrast.")
    terms = -log_p.masked_fill(~alike, 0.0).sum(1) / counts.clamp_min(1)
    return terms.sum() / (counts > 0).sum()
