"""Labels that are likely wrong, by confident learning: where a model that has not seen a row is sure of another class.

Northcutt, Jiang, Chuang: Confident learning: estimating uncertainty in dataset labels, JAIR 70, 2021.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from scipy import sparse  # type: ignore[import-untyped]

from groundup.core.dataset import ROW, Dataset
from groundup.core.errors import DataError
from groundup.data.cleaning.pictures import looks
from groundup.data.cleaning.removing import without
from groundup.data.cleaning.words import is_spaceless

Array = np.ndarray[Any, Any]
Method = Literal["noise_rate", "confident_joint"]

MOST_CATEGORIES = 100
TERMS = 1 << 18


@dataclasses.dataclass(frozen=True)
class LabelErrors:
    """Rows whose label is likely wrong, the likeliest first."""

    classes: list[Any]
    labels: Array
    """[n] the given class of each row that was looked at, as its place in ``classes``."""
    probabilities: Array
    """[n, K] of a model that has not seen the row."""
    joint: Array
    """[K, K] how many rows of each given class (down) are likely of each true one (across); sums to n."""
    positions: Array
    """[m] places among the rows, by rising margin."""

    @property
    def suggested(self) -> Array:
        """[n] the likeliest class of each row."""
        found: Array = self.probabilities.argmax(axis=1)
        return found

    @property
    def margins(self) -> Array:
        """[n] p(given class) - max p(another one), from -1 to 1: the lower, the likelier an error."""
        return margins(self.labels, self.probabilities)

    def rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Of each likely error: the row's name, its label, the likeliest one, and the margin."""
        suggested, margin = self.suggested, self.margins
        return [
            {
                "row": names[i],
                "label": self.classes[int(self.labels[i])],
                "suggested": self.classes[int(suggested[i])],
                "margin": round(float(margin[i]), 4),
            }
            for i in self.positions.tolist()
        ]


def margins(labels: Array, probabilities: Array) -> Array:
    """p(given class) - max p(another one) [n], from -1 to 1."""
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    found: Array = probabilities[rows, labels] - others.max(axis=1)
    return found


def confident_joint(labels: Array, probabilities: Array, *, calibrated: bool = True) -> Array:
    """[K, K]: how many rows of given class i (down) are confidently of class j (across). Northcutt et al., eq. 1 to 3.

    A row counts for class j when p(j) is at least t_j, the mean p(j) of the rows that are given j; of several such
    classes the likeliest counts, of none it is passed over. At least one row of each class is taken to be right.
    ``calibrated``, each line is scaled to the number of rows with that label, and rounded so that its sum stays.
    """
    guessed = _confident_class(labels, probabilities)
    num_classes = probabilities.shape[1]
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (labels[guessed >= 0], guessed[guessed >= 0]), 1)
    np.fill_diagonal(counts, np.maximum(np.diagonal(counts), 1))
    if not calibrated:
        return counts
    given = np.bincount(labels, minlength=num_classes)
    return np.stack([_rounded(row * (n / row.sum())) for row, n in zip(counts, given, strict=True)])


def _confident_class(labels: Array, probabilities: Array) -> Array:
    """[n] the class that each row is confidently of, -1 where there is none."""
    num_classes = probabilities.shape[1]
    thresholds = np.array(
        [probabilities[labels == j, j].mean() if (labels == j).any() else np.inf for j in range(num_classes)]
    )
    confident = probabilities >= thresholds - 1e-6
    several = confident.sum(axis=1) > 1
    # Of several the likeliest of all classes, as in the authors' own implementation.
    guessed = np.where(several, probabilities.argmax(axis=1), confident.argmax(axis=1))
    return np.where(confident.any(axis=1), guessed, -1)


def _rounded(row: Array) -> Array:
    """Whole numbers with the same sum: what is furthest from its rounded value gives way."""
    whole = np.round(row)
    lacking = round(float(row.sum())) - int(whole.sum())
    if lacking:
        order = np.argsort(row - whole, kind="stable")
        chosen = order[::-1][:lacking] if lacking > 0 else order[:-lacking]
        whole[chosen] += np.sign(lacking)
    return whole.astype(np.int64)


def label_errors(labels: Array, probabilities: Array, method: Method = "noise_rate") -> Array:
    """Positions of the rows whose label is likely wrong, by rising margin.

    "confident_joint": the rows that are counted off its diagonal. "noise_rate" (prune by noise rate): of the rows of
    given class i as many as the calibrated joint has for i, j, those with the largest p(j) - p(i). No row whose label
    is the likeliest class is among them, and one row of each class always stays. Raises DataError for what is no
    probability, or labels that do not fit.
    """
    _check(labels, probabilities)
    wrong = np.zeros(len(labels), dtype=bool)
    if method == "confident_joint":
        guessed = _confident_class(labels, probabilities)
        wrong = (guessed >= 0) & (guessed != labels)
    else:
        joint = confident_joint(labels, probabilities)
        for i in range(len(joint)):
            rows = np.flatnonzero(labels == i)
            if len(rows) < 2:
                continue
            for j in np.flatnonzero(joint[i]).tolist():
                if i != j:
                    better = probabilities[rows, j] - probabilities[rows, i]
                    wrong[rows[np.argsort(-better, kind="stable")[: joint[i, j]]]] = True
    margin = margins(labels, probabilities)
    wrong &= margin < 0
    for i in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == i)
        if wrong[rows].all():
            wrong[rows[np.argmax(margin[rows])]] = False
    found = np.flatnonzero(wrong)
    return found[np.argsort(margin[found], kind="stable")]


def _check(labels: Array, probabilities: Array) -> None:
    if probabilities.ndim != 2 or len(labels) != len(probabilities) or probabilities.shape[1] < 2:
        raise DataError(
            f"label_errors: {len(labels)} labels and probabilities of shape {list(probabilities.shape)}; expected one "
            "row of two or more classes for each label."
        )
    if not np.isfinite(probabilities).all() or probabilities.min(initial=0) < 0 or probabilities.max(initial=0) > 1:
        raise DataError("label_errors: probabilities must lie between 0 and 1.")


def folds_of(labels: Array, folds: int, seed: int = 0) -> Array:
    """[n] the fold of each row, drawn so that each class is spread evenly. Raises DataError for fewer than 2 folds."""
    if folds < 2:
        raise DataError(f"folds: read {folds}, expected 2 or more.")
    draw = np.random.default_rng(seed)
    fold = np.zeros(len(labels), dtype=np.int64)
    start = 0
    for label in np.unique(labels).tolist():
        rows = draw.permutation(np.flatnonzero(labels == label))
        fold[rows] = (np.arange(len(rows)) + start) % folds
        start += len(rows)
    return fold


def find_label_errors(
    dataset: Dataset, target: str, folds: int = 5, method: Method = "noise_rate", seed: int = 0
) -> LabelErrors:
    """The rows of a dataset whose label in ``target`` is likely wrong, by cross-validation of a logistic regression.

    Its inputs are every other column but ids: texts as TF-IDF of words and pairs of them (of one to three characters in
    Chinese and Japanese), numbers standardised, categories one-hot, images as 16 x 16 pixels. Everything is fitted
    without the fold that it answers for. Rows without a label are not looked at, and have no place in the result.
    Raises DataError when there is nothing to learn from, or a class has fewer than two rows.
    """
    labels, classes = given_labels(dataset, target, "find_label_errors")
    known = np.flatnonzero(labels >= 0)
    looked_at = dataset.take(known)
    probabilities = out_of_fold(looked_at, target, labels[known], folds, seed)
    return judged(labels[known], probabilities, classes, method)


def judged(labels: Array, probabilities: Array, classes: list[Any], method: Method = "noise_rate") -> LabelErrors:
    """What labels and a model's probabilities for rows that it has not seen say together."""
    positions = label_errors(labels, probabilities, method)
    return LabelErrors(classes, labels, probabilities, confident_joint(labels, probabilities), positions)


def given_labels(dataset: Dataset, target: str, by: str) -> tuple[Array, list[Any]]:
    """([n] the place of each label among the classes, -1 where there is none; the classes, sorted)."""
    dataset.need(target, by=by)
    values = dataset.frame[target]
    counts = values.drop_nulls().value_counts().sort(target)
    classes = counts[target].to_list()
    rare = counts.filter(pl.col("count") < 2)[target].to_list()
    if len(classes) < 2 or rare or len(classes) > max(2, len(values) // 4):
        said = f"{len(classes)} classes" + (f", of which {rare[0]!r} stands on one row" if rare else "")
        raise DataError(f"{by}: {target!r} has {said}; expected two or more, each on several rows.")
    place = {value: i for i, value in enumerate(classes)}
    return np.array([-1 if value is None else place[value] for value in values.to_list()], dtype=np.int64), classes


def out_of_fold(dataset: Dataset, target: str, labels: Array, folds: int = 5, seed: int = 0) -> Array:
    """[n, K] probabilities of a logistic regression that was fitted without the fold of each row."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    fold = folds_of(labels, folds, seed)
    found = np.zeros((len(labels), int(labels.max()) + 1))
    columns = _columns(dataset, target)
    for number in np.unique(fold).tolist():
        train, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        inputs = sparse.hstack([column(train) for column in columns], format="csr")
        model = LogisticRegression(max_iter=200).fit(inputs[train], labels[train])
        found[np.ix_(held, model.classes_)] = model.predict_proba(inputs[held])
    return found


Column = Callable[[Array], Any]
"""Positions of the rows to fit on -> a sparse matrix of all rows."""


def _columns(dataset: Dataset, target: str) -> list[Column]:
    """Every column but the target and ids, as numbers for a linear model."""
    found: list[Column] = []
    for name in dataset.columns:
        kind = dataset.kinds[name]
        if name == target or kind == "id" or dataset.frame[name].null_count() == len(dataset):
            continue
        made = _text if kind == "text" else _images if kind == "image" else _values
        found.append(made(dataset, name))
    if not found:
        raise DataError(f"find_label_errors: {dataset.origin or 'the data'} has no column beside {target!r} to use.")
    return found


def _text(dataset: Dataset, name: str) -> Column:
    """TF-IDF of hashed terms: counts are the same for every fold, their weights are not."""
    from sklearn.feature_extraction.text import (  # type: ignore[import-untyped]
        HashingVectorizer,
        TfidfTransformer,
    )

    texts = [text or "" for text in dataset.frame[name].to_list()]
    analyzer, sizes = ("char", (1, 3)) if is_spaceless("".join(texts[:200])) else ("word", (1, 2))
    counts = HashingVectorizer(
        analyzer=analyzer,
        ngram_range=sizes,
        n_features=TERMS,
        token_pattern=r"\w+",
        norm=None,
        alternate_sign=False,
    ).transform(texts)

    def weighted(train: Array) -> Any:
        several = np.flatnonzero(np.bincount(counts[train].indices, minlength=TERMS) > 1)
        if not len(several):
            return sparse.csr_matrix((len(texts), 1))
        weights = TfidfTransformer(sublinear_tf=True).fit(counts[train][:, several])
        # A text has length 1; as long as a few standardised numbers is what lets a linear model tell them apart.
        return weights.transform(counts[:, several]) * 4.0

    return weighted


def _images(dataset: Dataset, name: str) -> Column:
    pixels = looks(dataset, name).small.astype(np.float64) / 255
    return lambda train: sparse.csr_matrix(pixels - pixels[train].mean(axis=0))


def _values(dataset: Dataset, name: str) -> Column:
    column = dataset.frame[name]
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean or column.dtype.is_temporal()):
        return _categories(column)
    cells = column.to_physical().cast(pl.Float64).to_numpy().astype(np.float64)
    missing = ~np.isfinite(cells)

    def standardised(train: Array) -> Any:
        known = cells[train][~missing[train]]
        middle, spread = (float(np.median(known)), float(np.std(known)) or 1.0) if len(known) else (0.0, 1.0)
        scaled = np.where(missing, 0.0, (np.where(missing, middle, cells) - middle) / spread)
        return sparse.csr_matrix(np.stack([scaled.clip(-10, 10), missing], axis=1))

    return standardised


def _categories(column: pl.Series) -> Column:
    """One-hot; which values are the commonest is told by the rows to fit on."""
    distinct = column.unique().drop_nulls().sort().to_list()
    number = {value: i for i, value in enumerate(distinct)}
    codes = np.array([number.get(value, -1) for value in column.to_list()])

    def one_hot(train: Array) -> Any:
        counts = np.bincount(codes[train][codes[train] >= 0], minlength=len(distinct))
        kept = np.flatnonzero(counts)[np.argsort(-counts[counts > 0], kind="stable")][:MOST_CATEGORIES]
        place = np.full(len(distinct) + 1, -1)
        place[kept] = np.arange(len(kept))
        rows = np.flatnonzero(place[codes] >= 0)
        ones = (np.ones(len(rows)), (rows, place[codes[rows]]))
        return sparse.csr_matrix(ones, shape=(len(codes), max(1, len(kept))))

    return one_hot


@dataclasses.dataclass(frozen=True)
class DropLabelErrors:
    """Drops rows of train whose label in ``target`` is likely wrong, by confident learning (Northcutt et al. 2021).

    They are found by ``find_label_errors`` within train alone: cross-validation of a logistic regression, and the
    confident joint of its answers. No row of another split is touched; with ``action`` "report" none is dropped, and
    the ledger names them. ``most`` is the largest share of train that may go: beyond it the likeliest go.
    """

    target: str
    action: Literal["drop", "report"] = "drop"
    method: Method = "noise_rate"
    folds: int = 5
    most: float = 0.2
    learned: Mapping[str, Any] | None = None

    def fit(self, train: Dataset) -> Self:
        """Find them in train."""
        found = find_label_errors(train, self.target, self.folds, self.method)
        known = np.flatnonzero(train.frame[self.target].is_not_null().to_numpy())
        positions = found.positions[: int(self.most * len(train))]
        rows = train.frame[ROW].to_numpy()[known]
        listed = found.rows([""] * len(known))[: len(positions)]
        reasons = {
            str(
                rows[i]
            ): f"label error: {one['label']!r} where {one['suggested']!r} is likely, margin {one['margin']:.2f}"
            for i, one in zip(positions.tolist(), listed, strict=True)
        }
        return dataclasses.replace(self, learned={"rows": len(known), "reasons": reasons})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without them, where it is train."""
        if self.learned is None:
            raise DataError("DropLabelErrors: has learned nothing yet; call fit(train) first.")
        if dataset.split != "train":
            return dataset
        known = self.learned["reasons"]
        reasons = {i: known[str(row)] for i, row in enumerate(dataset.frame[ROW].to_list()) if str(row) in known}
        names = dataset.row_names()
        noted = dataset.note(f"{len(reasons)} of {self.learned['rows']} labels are likely wrong")
        if self.action == "drop":
            return without(noted, reasons)
        return noted.note(*(f"{names[i]}: {reason}" for i, reason in list(reasons.items())[:50]))


def _said(one: Mapping[str, Any]) -> str:
    return f"label error: {one['label']!r} where {one['suggested']!r} is likely, margin {one['margin']:.2f}"
