"""Losses of classes: by number, as probabilities, one among several or yes and no."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.core.errors import RecipeError
from groundup.nn.losses.reading import MASKED, classes, exact, weights_by_class, yes_or_no


def cross_entropy(
    output: Tensor, targets: Tensor, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
) -> Tensor:
    """Mean of -log softmax(output)[target]: logits [N, C] or [..., C], targets [N] or [...] int64, -100 is masked.

    Targets may also be probabilities [..., C], as mixed samples and teachers have them; then it is the mean of
    -sum of p_c log softmax(output)_c. ``class_weights`` counts each class so many times; the mean is over those
    counts. ``label_smoothing`` e makes the target 1 - e + e / C for its class and e / C for others (Szegedy et al.
    2016, section 7).
    """
    logits, labels = classes(output, targets)
    counts = None if class_weights is None else weights_by_class(class_weights, logits)
    if not labels.is_floating_point():
        return F.cross_entropy(logits, labels, counts, label_smoothing=label_smoothing)
    total = F.cross_entropy(logits, labels, counts, reduction="sum", label_smoothing=label_smoothing)
    # torch divides by the number of samples here; by their counts, a certain sample weighs what its number would.
    return total / (len(labels) if counts is None else (labels @ counts).sum())


def focal(output: Tensor, targets: Tensor, gamma: float = 2.0, class_weights: Sequence[float] | None = None) -> Tensor:
    """Mean of -(1 - p)^gamma * log p, p = softmax(output)[target]: easy samples count less. Lin et al. 2017, eq. 4.

    Logits [N, C] or [..., C], targets [N] or [...] int64, -100 is masked, or probabilities [..., C], over whose
    classes the terms are then averaged; ``class_weights`` is the paper's alpha by class, and the mean is over samples.
    """
    logits, labels = classes(output, targets)
    numbered = not labels.is_floating_point()
    log_p = F.log_softmax(logits, dim=-1)
    terms = -((1 - log_p.exp()) ** gamma) * log_p
    if class_weights is not None:
        terms = terms * weights_by_class(class_weights, logits)
    return terms.gather(1, labels[:, None]).mean() if numbered else (terms * labels).sum(1).mean()


def binary_cross_entropy(
    output: Tensor, targets: Tensor, positive_weight: float = 1.0, label_smoothing: float = 0.0
) -> Tensor:
    """Mean of -w * t * log p - (1 - t) * log(1 - p), p = sigmoid(output): logits and targets of equal shape.

    Beside class numbers [...] the logits may be those of two classes [..., 2]; then p = softmax(output)_1.
    ``positive_weight`` w counts each positive so many times; t may lie between 0 and 1, and ``label_smoothing`` e
    makes it (1 - e) t + e / 2.
    """
    logits, labels = yes_or_no(output, targets)
    labels = labels * (1 - label_smoothing) + label_smoothing / 2 if label_smoothing else labels
    return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=logits.new_tensor(positive_weight))


def binary_focal(output: Tensor, targets: Tensor, gamma: float = 2.0, positive_weight: float = 1.0) -> Tensor:
    """Mean of -w t (1 - p)^gamma log p - (1 - t) p^gamma log(1 - p), p = sigmoid(output). Lin et al. 2017, equation 4.

    Logits and targets of equal shape, or of two classes [..., 2] beside class numbers [...]; ``positive_weight`` w
    counts each positive so many times.
    """
    logits, labels = yes_or_no(output, targets)
    p = logits.sigmoid()
    positive = positive_weight * labels * (1 - p) ** gamma * F.logsigmoid(logits)
    return -(positive + (1 - labels) * p**gamma * F.logsigmoid(-logits)).mean()


def kl_divergence(output: Tensor, targets: Tensor) -> Tensor:
    """Mean of sum of t_c (log t_c - log softmax(output)_c): logits and probabilities t of equal shape [..., C].

    Kullback and Leibler 1951: cross entropy less the targets' own entropy, so 0 where the two agree. Class numbers
    [...] are certainties; -100 is masked.
    """
    logits, shares = classes(output, targets)
    if not shares.is_floating_point():
        shares = F.one_hot(shares, logits.shape[-1]).to(logits.dtype)
    return F.kl_div(F.log_softmax(logits, dim=-1), shares, reduction="batchmean")


def dice(output: Tensor, targets: Tensor, smoothing: float = 1.0) -> Tensor:
    """Mean of 1 - (2 sum p t + s) / (sum p^2 + sum t^2 + s), the sums over each sample's places.

    Targets of the output's shape are yes or no, p = sigmoid(output). Whole-numbered targets [B, ...] beside logits
    [B, ..., C] are classes, p = softmax(output), and the mean is over samples and classes; -100 is masked.
    ``smoothing`` s keeps empty masks finite. Milletari et al. 2016, section 3.
    """
    if output.shape == targets.shape:
        p, t = exact(output).sigmoid(), targets.to(exact(output).dtype)
    elif output.shape[:-1] == targets.shape and not targets.is_floating_point():
        kept = (targets != MASKED)[..., None]
        p = exact(output).softmax(-1) * kept
        t = F.one_hot(targets.clamp_min(0), output.shape[-1]).to(p.dtype) * kept
        p, t = (values.movedim(-1, 1) for values in (p, t))
        p, t = (values.flatten(0, 1) for values in (p, t))
    else:
        raise RecipeError(
            f"loss: expected targets of the output's shape {tuple(output.shape)}, or classes without its last "
            f"dimension; read {tuple(targets.shape)} of {targets.dtype}."
        )
    p, t = (values.reshape(len(values), -1) for values in (p, t))  # a sample without places has one
    shared = 2 * (p * t).sum(1) + smoothing
    return (1 - shared / (p.square().sum(1) + t.square().sum(1) + smoothing)).mean()


def ctc(output: Tensor, targets: Tensor, lengths: Tensor | None = None, blank: int = 0) -> Tensor:
    """Mean of -log P(target | output) / length of the target, over every alignment with blanks. Graves et al. 2006.

    Logits [B, T, C]; targets [B, L] int64 without ``blank``, -100 behind each one's end; ``lengths`` [B] of the
    outputs, T where it is None. Raises RecipeError for shapes that do not fit. A target that cannot be aligned, as
    it is longer than its output, counts 0.
    """
    if output.ndim != 3 or targets.ndim != 2 or len(output) != len(targets) or targets.is_floating_point():
        raise RecipeError(
            f"loss: expected logits [B, T, C] and whole-numbered targets [B, L], read {tuple(output.shape)} and "
            f"{tuple(targets.shape)} of {targets.dtype}."
        )
    log_p = exact(output).log_softmax(-1).transpose(0, 1)
    kept = targets != MASKED
    steps = torch.full((len(output),), output.shape[1]) if lengths is None else lengths
    return F.ctc_loss(
        log_p, targets.masked_fill(~kept, blank), steps.cpu(), kept.sum(1).cpu(), blank, zero_infinity=True
    )
