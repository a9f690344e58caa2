"""A recipe for rows of a table: what is left out, filled, scaled, and a dense network of a fitting size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from groundup.core.errors import DataError
from groundup.core.use import Use
from groundup.data.drafting.toml import Draft, Said
from groundup.data.inspection.columns import Column
from groundup.data.inspection.table import Table

RAREST_CLASS = 5
"""A class on fewer rows can be neither learned nor measured."""

OFTEN_MISSING = 0.05
MANY_CATEGORIES = 40
"""A column with more gets numbers that say what the target is in each, not a column for each."""

LONG_TAIL = 2.0
"""Skewness from which on numbers without negative ones are taken by their logarithm."""

FAR_OUT = 3.0
"""Tukey's fence for values that are far out, in interquartile ranges."""

MANY_LISTED = 6
STEPS = 2500
"""Steps that suffice for a dense network of this size on most tables."""


def draft_table(table: Table, source: Mapping[str, Any], head: tuple[str, ...]) -> Draft:
    """The recipe. Raises DataError when no column is left that could tell the target."""
    target = table.target
    assert target is not None
    if not table.features:
        gone = "; ".join(f"{drop.column}: {drop.why}" for drop in table.drops)
        raise DataError(f"no column is left that could tell {target.name!r} ({gone or 'there is no other'}).")
    rows = table.rows - table.duplicates.rows - target.missing
    tables: dict[str, Mapping[str, Any]] = {
        "": {"name": source["name"]},
        "data": {
            "source": source["source"],
            **_cleaning(table),
            "split": _split(table, rows),
            **_preparation(table),
            "samples": _samples(table),
        },
        "model": _model(table, rows),
        "training": _training(table, rows),
        "evaluation": _evaluation(table, rows),
    }
    return Draft(head, tables)


def counted(names: list[str]) -> str:
    """A few names, and how many more."""
    shown = ", ".join(names[:MANY_LISTED])
    return shown + (f" and {len(names) - MANY_LISTED} more" if len(names) > MANY_LISTED else "")


def _cleaning(table: Table) -> dict[str, Any]:
    """Steps before the split, each with its reason; no key where there is none."""
    target, steps = table.target, []
    assert target is not None
    if table.duplicates.rows:
        again = f"{table.duplicates.rows:,} rows stand in the data more than once"
        steps.append(Said(Use("drop_exact_duplicates"), f"{again}; one in train and in test would be a leak."))
    if target.missing:
        why = f"{target.missing:,} rows have no {target.name}: a target is never invented."
        steps.append(Said(Use("drop_without", columns=[target.name]), why))
    rare = [(c, n) for c, n in zip(target.classes, target.counts, strict=True) if n < RAREST_CLASS]
    if rare:
        shown = ", ".join(f"{name} ({count} rows)" for name, count in rare[:4])
        steps.append(
            Said(Use("drop_rare", column=target.name, at_least=RAREST_CLASS), f"Too rare to be learned: {shown}.")
        )
    kept = [] if table.group is None else [table.group.name]
    drops = [drop for drop in table.drops if drop.column not in kept]
    if drops:
        lines = [f"{drop.column}: {drop.why}." for drop in drops[:20]]
        lines += [f"and {len(drops) - 20} more"] if len(drops) > 20 else []
        if any(drop.kind == "leak" for drop in drops):
            lines.append("A column that tells all is mostly known only afterwards; keep it if you do know it before.")
        steps.append(Said(Use("drop_columns", columns=[drop.column for drop in drops]), "\n".join(lines)))
    return {"clean": steps} if steps else {}


def shares(rows: int) -> dict[str, float]:
    """Validation and test: larger shares of small data, so that what is measured there means something."""
    valid, test = (0.16, 0.2) if rows < 2000 else (0.1, 0.2) if rows < 20_000 else (0.1, 0.1)
    return {"valid": valid, "test": test}


def _split(table: Table, rows: int) -> Said:
    target, held = table.target, shares(rows)
    assert target is not None
    size = f"{rows * held['test']:.0f} rows measure it at the end, {rows * held['valid']:.0f} watch over training."
    if table.group is not None:
        name = table.group.name
        why = (
            f"Rows of one {name} are alike ({table.group.distinct:,} of them): all go to one part, else test is known."
        )
        return Said(Use("grouped", column=name, **held), f"{why} {size}")
    if target.task == "classify":
        return Said(Use("stratified", column=target.name, **held), f"Each class in the same share everywhere. {size}")
    return Said(Use("random", **held), f"Each row by chance. {size}")


def _preparation(table: Table) -> dict[str, Any]:
    """Steps that are fitted on train, each with its reason; no key where there is none."""
    features = [c for c in table.features if table.group is None or c.name != table.group.name]
    numbers = [c for c in features if c.kind == "number"]
    categories = [c for c in features if c.kind == "category"]
    booleans = [c for c in features if c.kind == "boolean"]
    steps = [
        *filling(numbers, categories, booleans, indicators=table.group is None),
        *drawing_in(numbers),
        *_numbering(categories),
    ]
    if numbers:
        named = {"columns": [c.name for c in numbers]} if table.group is not None else {}
        steps.append(Said(Use("Standardize", **named), "Mean 0, deviation 1: networks learn best from such inputs."))
    return {"prepare": steps} if steps else {}


def filling(numbers: list[Column], categories: list[Column], booleans: list[Column], *, indicators: bool) -> list[Said]:
    """Steps that fill gaps: numbers by the median, categories by one of their own or the commonest."""
    steps = []
    often = [c for c in numbers if c.missing_share >= OFTEN_MISSING] if indicators else []
    if often:
        told = counted([f"{c.name} {c.missing_share:.0%}" for c in often])
        use = Use("Fill", columns=[c.name for c in often], method="median", indicator=True)
        steps.append(Said(use, f"Missing: {told}. That it is missing may tell something too: indicator."))
    rest = [c for c in numbers if c not in often]
    if rest:
        gaps = [f"{c.name} {c.missing:,}" for c in rest if c.missing]
        told = f"missing here: {counted(gaps)}" if gaps else "nothing is missing here, but at prediction it may be"
        use = Use("Fill", columns=[c.name for c in rest], method="median")
        steps.append(Said(use, f"The median is not moved by outliers; {told}."))
    own = [c for c in categories if c.missing_share >= OFTEN_MISSING and "missing" not in dict(c.top)]
    if own:
        told = counted([f"{c.name} {c.missing_share:.0%}" for c in own])
        use = Use("Fill", columns=[c.name for c in own], method="constant", value="missing")
        steps.append(Said(use, f"Often missing, so that it becomes a category of its own: {told}."))
    few = [c for c in (*categories, *booleans) if c.missing and c not in own]
    if few:
        told = counted([f"{c.name} {c.missing:,}" for c in few])
        use = Use("Fill", columns=[c.name for c in few], method="mode")
        steps.append(Said(use, f"Seldom missing: the commonest value takes its place ({told})."))
    return steps


def has_long_tail(column: Column) -> bool:
    """Whether its numbers are best seen by their logarithm."""
    numbers = column.numbers
    if numbers is None or numbers.smallest < 0 or column.distinct <= 10:
        return False
    return numbers.skew > LONG_TAIL and numbers.largest > 10


def drawing_in(numbers: list[Column]) -> list[Said]:
    """Long tails by their logarithm, single values that are far out to the edge of the rest."""
    steps = []
    long = [c.name for c in numbers if has_long_tail(c)]
    if long:
        why = f"{counted(long)}: the logarithm puts many small values as far apart as few large ones."
        steps.append(Said(Use("LogScale", columns=long), why))
    far = [c for c in numbers if c.name not in long and _is_far_out(c)]
    if far:
        why = f"{counted([c.name for c in far])}: single values lie far out, and are drawn in to {FAR_OUT:g} IQR."
        use = Use("ClipOutliers", columns=[c.name for c in far], method="iqr", k=FAR_OUT)
        steps.append(Said(use, why))
    return steps


def _is_far_out(column: Column) -> bool:
    numbers = column.numbers
    if numbers is None or column.distinct <= 10:
        return False
    q25, q75 = numbers.quantiles[3], numbers.quantiles[5]
    reach = FAR_OUT * (q75 - q25)
    return reach > 0 and (numbers.largest > q75 + reach or numbers.smallest < q25 - reach)


def _numbering(categories: list[Column]) -> list[Said]:
    many = [c for c in categories if c.distinct > MANY_CATEGORIES]
    categories = [c for c in categories if c not in many]
    steps = []
    if many:
        told = counted([f"{c.name} ({c.distinct})" for c in many])
        why = (
            f"Too many categories for a column each: {told}. Each becomes the target's mean over the other rows of it."
        )
        steps.append(Said(Use("TargetEncode", columns=[c.name for c in many]), why))
    if not categories:
        return steps
    told = counted([f"{c.name} ({c.distinct})" for c in categories])
    use = Use("OneHot", columns=[c.name for c in categories])
    return [*steps, Said(use, f"A column for each category: {told}. One that train did not have is false in all.")]


def _samples(table: Table) -> Said:
    target = table.target
    assert target is not None
    if target.task == "classify":
        why = f"{len(target.classes)} classes; the commonest is {target.commonest_share:.0%} of the rows."
        numbers = all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in target.classes)
        if numbers and len(target.classes) > 2:
            why += '\nIf these numbers are amounts or grades rather than names, add task = "regress".'
    else:
        why = "A number; the model sees it standardised, and figures and predictions come in its own units."
    if table.group is None:
        return Said(Use("Rows", target=target.name), why)
    features = [c for c in table.features if c.name != table.group.name]
    inputs = [f"{_literal(c.name)}=*" if c.kind == "category" else c.name for c in features]
    return Said(Use("Rows", target=target.name, inputs=inputs), f"{why} {table.group.name} is no input.")


def _literal(name: str) -> str:
    """A name whose own signs are not read as a pattern's."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def _model(table: Table, rows: int) -> dict[str, Any]:
    hidden, dropout = ([64, 32], 0.2) if rows < 2000 else ([128, 64], 0.1) if rows < 20_000 else ([256, 128], 0.1)
    width = sum(max(c.distinct, 1) if c.kind == "category" else 1 for c in table.features)
    why = f"Two layers on about {width} inputs: wider for more rows, as {rows:,} rows can teach so much and no more."
    return {
        "use": Said("MLP", why),
        "hidden": hidden,
        "dropout": Said(dropout, "Forgets so many of its signals at each step, so that it does not learn by heart."),
    }


def _training(table: Table, rows: int) -> dict[str, Any]:
    target = table.target
    assert target is not None
    train = max(1, round(rows * (1 - sum(shares(rows).values()))))
    batch = 32 if train < 5000 else 128 if train < 20_000 else 256 if train < 200_000 else 1024
    epochs = int(min(100, max(3, round(STEPS * batch / train))))
    return {
        "objective": _objective(table),
        "optimizer": Said(Use("AdamW", lr=2e-3, weight_decay=0.05), "Learns steadily without being tuned."),
        "schedule": Said(Use("cosine", warmup=0.05), "The rate rises for a moment, then falls to nothing."),
        "batch_size": batch,
        "epochs": Said(epochs, f"About {math.ceil(train / batch) * epochs:,} steps over {train:,} rows."),
        "keep": Said("best", "The weights that did best on the validation part, not the last ones."),
    }


def is_imbalanced(counts: tuple[int, ...]) -> bool:
    """Whether the rarest class has less than a quarter of its even share."""
    kept = [count for count in counts if count >= RAREST_CLASS]
    return len(kept) > 1 and min(kept) / sum(kept) < 0.25 / len(kept)


def class_weights(counts: tuple[int, ...]) -> list[float]:
    """sqrt(rows / (classes * rows of the class)): between no weights and those that make all classes equal."""
    kept = [count for count in counts if count >= RAREST_CLASS]
    return [round(math.sqrt(sum(kept) / (len(kept) * count)), 3) for count in kept]


def weighted(counts: tuple[int, ...]) -> Use:
    """The objective that counts rare classes more; ``counts`` in the order of the classes."""
    return Use("supervised", loss="cross_entropy", class_weights=class_weights(counts))


def _objective(table: Table) -> Said:
    target = table.target
    assert target is not None
    if target.task == "classify" and is_imbalanced(target.counts):
        why = (
            f"Classes are uneven (the rarest {_rarest(table):.1%}), so rare ones count more: by the root of how rare. "
            "Without class_weights the probabilities come nearer to true shares, and rare classes are found less often."
        )
        return Said(weighted(target.counts), why)
    if target.task == "classify":
        return Said(Use("supervised", loss="cross_entropy"), "The loss of probabilities over classes.")
    numbers = table.column(target.name).numbers
    if numbers is not None and abs(numbers.skew) > 4:
        why = f"{target.name} has a long tail (skewness {numbers.skew:.1f}): far values count by distance alone."
        return Said(Use("supervised", loss="huber"), why)
    return Said(Use("supervised", loss="mse"), "Squared error: what the mean minimises.")


def _rarest(table: Table) -> float:
    assert table.target is not None
    kept = [count for count in table.target.counts if count >= RAREST_CLASS]
    return min(kept) / sum(kept)


def _evaluation(table: Table, rows: int) -> dict[str, Any]:
    target = table.target
    assert target is not None
    quick = rows <= 60_000
    if target.task == "regress":
        baselines = ["mean", "linear"]
        why = (
            "Mean absolute and root mean squared error in the target's own units, and the share of variance explained."
        )
        return {
            "metrics": Said(["mae", "rmse", "r2"], why),
            "baselines": Said(baselines, "What must be beaten: always the mean, and a straight line."),
        }
    metrics = ["accuracy", "f1", "log_loss"]
    why = "How many are right; precision and recall in one; and how good the probabilities are."
    if is_imbalanced(target.counts):
        metrics = ["balanced_accuracy", *metrics]
        why = f"Always saying the commonest class is right on {target.commonest_share:.0%}, so classes count alike."
    if len(target.classes) == 2:
        metrics.append("roc_auc")
    baselines = ["majority", "logistic_regression"] if quick else ["majority"]
    told = "always the commonest class" + (", and logistic regression on the same inputs" if quick else "")
    return {"metrics": Said(metrics, why), "baselines": Said(baselines, f"What must be beaten: {told}.")}
