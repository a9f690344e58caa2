"""What a model must beat: simple methods on the very same samples, measured in the same run.

Each is ``(train, test) -> answers`` in the shape that metrics take, or a table of metrics where it measures itself.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from groundup.core.errors import DataError
from groundup.evaluation.ngram import NGram

__all__ = ["linear", "logistic_regression", "majority", "mean", "order3", "repeat_last", "xz"]

Array = np.ndarray[Any, Any]


class Samples(Protocol):
    """Samples of any kind but text."""

    def arrays(self) -> tuple[Array, Array]:
        """Inputs [N, ...] as the model sees them, and targets [N] or [N, H] in the user's units."""
        ...


class Series(Samples, Protocol):
    """Windows of a series."""

    def last(self) -> Array:
        """The last known value of the target [N] at each forecast origin, in the user's units."""
        ...


class Text(Protocol):
    """Documents, and the tokens that a language model sees of them."""

    tokens: Array
    """[N] all documents one after another."""
    starts: Array
    """[D] where each document begins."""
    given: Array
    """[D] how many first tokens of each are not predicted."""
    texts: Sequence[str]
    num_bytes: int
    """Bytes of UTF-8 that the predicted tokens stand for."""


def majority(train: Samples, test: Samples) -> Array:
    """Train's shares of the classes, whatever the input: the likeliest is its commonest. Probabilities [N, C]."""
    targets = _class_numbers(train, "majority")
    return np.tile(np.bincount(targets) / len(targets), (len(test.arrays()[0]), 1))


def mean(train: Samples, test: Samples) -> Array:
    """Train's mean of each target, whatever the input. Values [N] or [N, H]."""
    targets = train.arrays()[1].astype(np.float64)
    average = targets.mean(axis=0)
    return np.broadcast_to(average, (len(test.arrays()[0]), *average.shape)).copy()


def logistic_regression(train: Samples, test: Samples, regularisation: float = 1.0, iterations: int = 2000) -> Array:
    """Scikit-learn's, on the flattened inputs. Probabilities [N, C].

    ``regularisation`` is the weight of the L2 penalty, 1 as scikit-learn's default.
    """
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    targets = _class_numbers(train, "logistic_regression")
    if len(np.unique(targets)) < 2:
        raise DataError(f"logistic_regression: every target of train is class {targets[0]}; it needs two or more.")
    model = LogisticRegression(C=1 / regularisation, max_iter=iterations)
    model.fit(_flat(train.arrays()[0]), targets)
    inputs = _flat(test.arrays()[0])
    found = np.zeros((len(inputs), int(model.classes_.max()) + 1))
    if len(inputs):
        found[:, model.classes_] = model.predict_proba(inputs)
    return found


def linear(train: Samples, test: Samples, ridge: float = 1e-4) -> Array:
    """Least squares from the flattened inputs to each target, in the user's units. Values [N] or [N, H].

    ``ridge`` times the mean variance of the inputs is the penalty on squared weights per sample; the
    intercept has none.
    """
    inputs, targets = train.arrays()
    flat, goals = _flat(inputs), targets.reshape(len(targets), -1).astype(np.float64)
    center, middle = flat.mean(axis=0), goals.mean(axis=0)
    flat = flat - center
    products = flat.T @ flat
    penalty = max(ridge * np.trace(products) / products.shape[0], np.finfo(np.float64).tiny)
    products[np.diag_indices_from(products)] += penalty
    weights = np.linalg.solve(products, flat.T @ (goals - middle))
    answers: Array = (_flat(test.arrays()[0]) - center) @ weights + middle
    return answers.reshape(len(answers), *targets.shape[1:])


def repeat_last(train: Series, test: Series) -> Array:
    """The last known value of the target at the forecast origin, for every step after it. Values [N, H]."""
    if not hasattr(test, "last"):
        raise DataError("repeat_last: this baseline is for windows of a series; these samples have no last value.")
    last, shape = test.last(), test.arrays()[1].shape
    return np.broadcast_to(last.reshape(len(last), *[1] * (len(shape) - 1)), shape).copy()


def order3(train: Text, test: Text) -> dict[str, float]:
    """An n-gram model over the same tokens, with the same tokens predicted: loss and bits per byte.

    "Order 3" is said of trigrams and of models that see three tokens back; both are measured, and the better
    counts. Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1999), no context across documents.
    """
    vocab_size = 1 + max(int(tokens.max()) for tokens in (train.tokens, test.tokens) if len(tokens))
    place = np.arange(len(test.tokens)) - np.repeat(test.starts, _lengths(test))
    predicted = place >= np.repeat(test.given, _lengths(test))
    if not predicted.any():
        raise DataError("order3: the held-out text has no token that is predicted.")
    sums = {
        order: float(
            NGram.fit(train.tokens, train.starts, order, vocab_size).nats(test.tokens, test.starts)[predicted].sum()
        )
        for order in (3, 4)
    }
    best = min(sums.values())
    per_byte = 1 / (math.log(2) * test.num_bytes)
    return {
        "bits_per_byte": best * per_byte,
        "loss": best / int(predicted.sum()),
        "bits_per_byte_trigrams": sums[3] * per_byte,
        "bits_per_byte_three_back": sums[4] * per_byte,
    }


def xz(train: Text, test: Text, context_megabytes: int = 64) -> dict[str, float]:
    """Bits per byte of the held-out text compressed by LZMA, alone and with the training text before it.

    The second is size(train + test) - size(train), with a dictionary that holds both: the compressor may
    learn from train as the model did. The better of the two counts. No header or checksum is counted. Of a
    larger train its last ``context_megabytes`` are taken.
    """
    before = "".join(train.texts).encode("utf-8", "surrogatepass")[-context_megabytes * 2**20 :]
    text = "".join(test.texts).encode("utf-8", "surrogatepass")
    if not text:
        raise DataError("xz: there is no held-out text.")
    with ThreadPoolExecutor(3) as pool:  # the compressor lets go of the interpreter's lock
        alone, both, train_alone = pool.map(compressed_size, (text, before + text, before))
    found = {
        "bits_per_byte_alone": 8 * alone / len(text),
        "bits_per_byte_after_train": 8 * (both - train_alone) / len(text),
    }
    return {"bits_per_byte": min(found.values()), **found}


def compressed_size(text: bytes) -> int:
    """Bytes that LZMA needs, as strong as it goes.

    Preset 9 extreme with ``pb=0, lc=4``, the settings for text: on Python sources 0.2% smaller than the
    preset alone, 0.8% smaller than preset 6, which xz takes by default, at 0.6 s per MB.
    """
    dictionary = max(2**16, 1 << (max(1, len(text) - 1)).bit_length())
    filters: Sequence[Mapping[str, int]] = [
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary, "lc": 4, "pb": 0}
    ]
    compressor = lzma.LZMACompressor(format=lzma.FORMAT_RAW, filters=filters)
    return len(compressor.compress(text)) + len(compressor.flush())


def _lengths(text: Text) -> Array:
    return np.diff(np.append(text.starts, len(text.tokens)))


def _flat(inputs: Array) -> Array:
    """[N, ...] as [N, F] float64."""
    return inputs.reshape(len(inputs), -1).astype(np.float64)


def _class_numbers(samples: Samples, by: str) -> Array:
    targets = samples.arrays()[1]
    if targets.ndim != 1 or targets.dtype.kind not in "iub":
        raise DataError(f"{by}: is for classes; these targets are {targets.dtype} of shape {targets.shape}.")
    if not len(targets):
        raise DataError(f"{by}: train has no samples.")
    return targets.astype(np.int64)
