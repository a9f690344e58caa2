"""Metrics: each takes what was predicted and what is true, and gives one number.

Three shapes of ``(decoded, targets)``, and every metric says which it takes:

- classes: probabilities [N, C] (or class numbers [N], integers), and class numbers [N]
- values: [N] or [N, H] in the user's units, both
- text: nats [M] summed over each of M pieces, and [M, 2] with the tokens and bytes of each piece
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from groundup.core.errors import DataError

__all__ = [
    "accuracy",
    "balanced_accuracy",
    "bias",
    "bits_per_byte",
    "f1",
    "log_loss",
    "loss",
    "mae",
    "mape",
    "mse",
    "perplexity",
    "precision",
    "r2",
    "recall",
    "rmse",
    "roc_auc",
]

Array = np.ndarray[Any, Any]
MetricFunction = Callable[..., float]
Average = Literal["auto", "binary", "macro", "micro", "weighted"]


# Classes


def accuracy(decoded: Array, targets: Array) -> float:
    """Share of samples whose likeliest class is the true one; of equally likely ones the first counts. Classes."""
    predicted, true = _classes(decoded, targets, "accuracy")
    return float(np.mean(predicted == true))


def precision(decoded: Array, targets: Array, average: Average = "auto") -> float:
    """Of those called a class, the share that are of it: TP / (TP + FP), 0 where none is called. Classes.

    ``average``: "binary" looks at class 1 alone; "macro" is the mean over the classes that are true or
    predicted somewhere; "weighted" the mean by how often each is true; "micro" counts all classes together.
    "auto" is "binary" for two classes and "macro" for more.
    """
    true_positive, called, true = _counts(decoded, targets, "precision")
    return _averaged(true_positive, called, true, called, average, "precision")


def recall(decoded: Array, targets: Array, average: Average = "auto") -> float:
    """Of those of a class, the share that are called it: TP / (TP + FN), 0 where none is of it.

    ``average`` is as for ``precision``.
    """
    true_positive, called, true = _counts(decoded, targets, "recall")
    return _averaged(true_positive, true, true, called, average, "recall")


def f1(decoded: Array, targets: Array, average: Average = "auto") -> float:
    """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN), by class.

    ``average`` is as for ``precision``.
    """
    true_positive, called, true = _counts(decoded, targets, "f1")
    return _averaged(2 * true_positive, called + true, true, called, average, "f1")


def balanced_accuracy(decoded: Array, targets: Array) -> float:
    """Mean recall over the classes that are there: chance is 1 / their number, however unequal they are. Classes."""
    true_positive, _, true = _counts(decoded, targets, "balanced_accuracy")
    there = true > 0
    return float(np.mean(true_positive[there] / true[there]))


def roc_auc(decoded: Array, targets: Array) -> float:
    """Probability that a sample of a class scores higher in it than one that is not; ties count half.

    Two classes: the score of class 1. More: the mean over classes, each against the rest. Probabilities
    [N, C] only. Raises DataError when a class has no sample or every sample, for then it has no value.
    """
    scores = _probabilities(decoded, targets, "roc_auc")
    chosen = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    return float(np.mean([_area(scores[:, c], targets == c, c) for c in chosen]))


def log_loss(decoded: Array, targets: Array) -> float:
    """Mean of -ln p(true class), in nats; p is kept from 0 by the smallest step of its type. Probabilities [N, C]."""
    scores = _probabilities(decoded, targets, "log_loss")
    smallest = float(np.finfo(scores.dtype if scores.dtype.kind == "f" else np.float64).eps)
    true = scores[np.arange(len(targets)), targets].astype(np.float64)
    return float(np.mean(-np.log(np.clip(true, smallest, 1 - smallest))))


def confusion_matrix(decoded: Array, targets: Array, num_classes: int | None = None) -> Array:
    """Counts [C, C]: row is the true class, column the predicted one. Classes. A figure, not a metric."""
    predicted, true = _classes(decoded, targets, "confusion_matrix")
    most = max(int(predicted.max()), int(true.max())) + 1
    size = max(most, num_classes or 0, decoded.shape[1] if decoded.ndim == 2 else 0)
    return np.bincount(true * size + predicted, minlength=size * size).reshape(size, size)


# Values


def mae(decoded: Array, targets: Array) -> float:
    """Mean of |predicted - true|, in the target's units. Values."""
    return float(np.mean(np.abs(_errors(decoded, targets, "mae"))))


def mse(decoded: Array, targets: Array) -> float:
    """Mean of (predicted - true)^2, in the target's units squared. Values."""
    return float(np.mean(_errors(decoded, targets, "mse") ** 2))


def rmse(decoded: Array, targets: Array) -> float:
    """Square root of the mean of (predicted - true)^2 over samples and steps, in the target's units. Values."""
    return math.sqrt(float(np.mean(_errors(decoded, targets, "rmse") ** 2)))


def bias(decoded: Array, targets: Array) -> float:
    """Mean of predicted - true: above 0 when it predicts too much. Values."""
    return float(np.mean(_errors(decoded, targets, "bias")))


def mape(decoded: Array, targets: Array) -> float:
    """Mean of |predicted - true| / |true|, a share. Values. Raises DataError when a true value is 0."""
    errors = _errors(decoded, targets, "mape")
    zeros = int(np.count_nonzero(targets == 0))
    if zeros:
        raise DataError(f"mape: {zeros} of {targets.size} true values are 0, and it divides by them; use mae instead.")
    return float(np.mean(np.abs(errors / targets)))


def r2(decoded: Array, targets: Array) -> float:
    """1 - squared error / squared deviation from the mean: 1 is perfect, 0 as good as the mean. Values.

    With several steps [N, H] the mean over steps. A step whose truth is constant counts 1 when it is met
    exactly, else 0. Raises DataError for fewer than two samples.
    """
    errors = _errors(decoded, targets, "r2").reshape(len(targets), -1)
    if len(targets) < 2:
        raise DataError("r2: one sample has no deviation to compare with; it needs two or more.")
    true = targets.reshape(len(targets), -1).astype(np.float64)
    squared = np.sum(errors**2, axis=0)
    deviation = np.sum((true - true.mean(axis=0)) ** 2, axis=0)
    constant = deviation == 0
    ratio = squared / np.where(constant, 1, deviation)
    return float(np.mean(np.where(constant, np.where(squared == 0, 1.0, 0.0), 1 - ratio)))


# Text


def loss(decoded: Array, targets: Array) -> float:
    """Mean cross entropy in nats per token. Text."""
    nats, tokens, _ = _text(decoded, targets, "loss")
    return nats / tokens


def perplexity(decoded: Array, targets: Array) -> float:
    """exp(loss): among how many equally likely tokens the model hesitates. Text."""
    nats, tokens, _ = _text(decoded, targets, "perplexity")
    return math.exp(min(nats / tokens, 700.0))  # e^710 is no longer a number


def bits_per_byte(decoded: Array, targets: Array) -> float:
    """Bits that the model spends on each byte of UTF-8: comparable across tokenizers and with compressors. Text."""
    nats, _, num_bytes = _text(decoded, targets, "bits_per_byte")
    if not num_bytes > 0:
        raise DataError("bits_per_byte: the number of bytes is not known; give evaluate num_bytes, or use loss.")
    return nats / math.log(2) / num_bytes


def _classes(decoded: Array, targets: Array, by: str) -> tuple[Array, Array]:
    """Predicted and true class numbers [N]."""
    _same_length(decoded, targets, by)
    if targets.ndim != 1 or targets.dtype.kind not in "iub":
        raise DataError(f"{by}: expected class numbers [N]; read {targets.dtype} of shape {targets.shape}.")
    if decoded.ndim == 2:
        _refuse_not_finite(decoded, by, "predictions")
        return np.argmax(decoded, axis=1), targets.astype(np.int64)
    if decoded.ndim == 1 and decoded.dtype.kind in "iub":
        return decoded.astype(np.int64), targets.astype(np.int64)
    raise DataError(
        f"{by}: expected probabilities [N, C] or integer class numbers [N]; read {decoded.dtype} of shape "
        f"{decoded.shape}. For values use mae or rmse."
    )


def _probabilities(decoded: Array, targets: Array, by: str) -> Array:
    """Probabilities [N, C] that go with class numbers below C."""
    _classes(decoded, targets, by)
    if decoded.ndim != 2:
        raise DataError(f"{by}: needs probabilities [N, C]; read class numbers alone.")
    if targets.min() < 0 or targets.max() >= decoded.shape[1]:
        raise DataError(f"{by}: targets run to class {targets.max()}, there are {decoded.shape[1]} probabilities.")
    return decoded


def _counts(decoded: Array, targets: Array, by: str) -> tuple[Array, Array, Array]:
    """Per class: rightly called, called, true."""
    matrix = confusion_matrix(*_classes(decoded, targets, by), decoded.shape[1] if decoded.ndim == 2 else 2)
    return np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)


def _averaged(part: Array, whole: Array, true: Array, called: Array, average: Average, by: str) -> float:
    """Shares part / whole by class (0 where the whole is 0), put together."""
    if average == "auto":
        average = "binary" if len(true) == 2 else "macro"
    if average == "micro":
        return float(part.sum() / max(whole.sum(), 1))
    shares = part / np.maximum(whole, 1)
    if average == "binary":
        if len(true) > 2:
            raise DataError(f'{by}: average = "binary" is for two classes, there are {len(true)}; use "macro".')
        return float(shares[1])
    if average == "macro":
        return float(np.mean(shares[(true + called) > 0]))
    if average == "weighted":
        return float(np.sum(shares * true) / np.sum(true))
    raise DataError(f'{by}: average is {average!r}; expected "auto", "binary", "macro", "micro" or "weighted".')


def _area(scores: Array, positive: Array, number: int) -> float:
    """Area under the curve by ranks, ties in the middle (Mann and Whitney 1947)."""
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        raise DataError(
            f"roc_auc: {num_positive} of {len(positive)} samples are of class {number}; it needs some that are and "
            "some that are not."
        )
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(middle_ranks[place][positive].sum())
    return (rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)


def _errors(decoded: Array, targets: Array, by: str) -> Array:
    """Predicted minus true, in float64; a column [N, 1] and [N] are the same."""
    _same_length(decoded, targets, by)
    if decoded.shape != targets.shape and decoded.size == targets.size == len(targets):
        decoded = decoded.reshape(targets.shape)
    if decoded.shape != targets.shape:
        raise DataError(f"{by}: predictions have shape {decoded.shape}, targets {targets.shape}; for classes use f1.")
    _refuse_not_finite(decoded, by, "predictions")
    _refuse_not_finite(targets, by, "targets")
    return decoded.astype(np.float64) - targets.astype(np.float64)


def _text(decoded: Array, targets: Array, by: str) -> tuple[float, float, float]:
    """Sums of nats, tokens and bytes."""
    _same_length(decoded, targets, by)
    if decoded.ndim != 1 or targets.ndim != 2 or targets.shape[1] != 2:
        raise DataError(
            f"{by}: expected nats [M] and the tokens and bytes of each piece [M, 2]; read {decoded.shape} and "
            f"{targets.shape}. This metric is for language models."
        )
    _refuse_not_finite(decoded, by, "nats")
    return float(decoded.sum()), float(targets[:, 0].sum()), float(targets[:, 1].sum())


def _same_length(decoded: Array, targets: Array, by: str) -> None:
    if len(decoded) != len(targets):
        raise DataError(f"{by}: {len(decoded)} predictions for {len(targets)} targets.")
    if not len(targets):
        raise DataError(f"{by}: there are no samples to measure on.")


def _refuse_not_finite(values: Array, by: str, what: str) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        place = np.argwhere(~np.isfinite(values))[0].tolist()
        raise DataError(f"{by}: {what} are not all finite; the first is {values[tuple(place)]} at {place}.")
