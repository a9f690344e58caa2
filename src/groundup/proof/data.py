"""Checks of what a model is about to learn from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groundup.core.batch import Batch
from groundup.core.report import Check

MASKED = -100
"""The target that marks a position as not learned from."""

SHOWN = 5
"""How many rows a message names."""


def masks(batches: Iterable[Batch]) -> Check:
    """Every sample has a target to learn from, and none is NaN: a mask that hides all trains on nothing."""
    name = "loss mask"
    empty: list[str] = []
    broken: list[str] = []
    samples = positions = learned = 0
    for batch in batches:
        for values in batch.targets.values():
            flat = values.reshape(len(values), -1)
            kept = flat != MASKED if not flat.is_floating_point() else torch.ones_like(flat, dtype=torch.bool)
            empty += _names(batch, ~kept.any(dim=1))
            if flat.is_floating_point():
                broken += _names(batch, ~flat.isfinite().all(dim=1))
            samples, positions, learned = samples + len(flat), positions + kept.numel(), learned + int(kept.sum())
    if not samples:
        return Check(name, False, "there are no targets", "Look at the samples: they must give targets for training.")
    if broken:
        mend = "Drop those rows before the split; a target is never invented."
        return Check(
            name, False, f"{len(broken)} of {samples} samples have a target that is no number: {_few(broken)}", mend
        )
    if empty:
        return Check(
            name,
            False,
            f"{len(empty)} of {samples} samples have no target to learn from: {_few(empty)}",
            "Look at how the mask is made: what is to be learned may be cut off by the sequence's length.",
        )
    return Check(
        name, True, f"{learned:,} of {positions:,} targets are learned ({learned / positions:.1%}), some in each sample"
    )


def end_of_text_learned(batch: Batch, end: int) -> Check:
    """The end of text is among the targets: else a model never learns to stop."""
    targets = batch.targets["targets"]
    ends = int((targets == end).sum())
    learned = int((targets != MASKED).sum())
    return Check(
        "end of text",
        ends > 0,
        f"token {end} is a target {ends:,} times among {learned:,}",
        "" if ends else "Close each document with the end of text, unmasked, or show longer sequences or more of them.",
    )


def no_leaks(found: Sequence[tuple[Any, ...]], allowed: int = 0, *, refuse: bool = True) -> Check:
    """No sample of validation or test stands in an earlier split as well, exactly or nearly.

    ``found`` are (split, row, like, similarity, ...). ``allowed`` is for tables whose distinct rows may be equal.
    Without ``refuse`` the check holds whatever is found, and says that figures are given apart.
    """
    listed = [f"{split} {row} is {similarity:.0%} like {like}" for split, row, like, similarity, *_ in found]
    if found and not refuse:
        apart = "the recipe asks for figures on clean and on leaked rows apart"
        return Check("leaks", True, f"{len(found)} rows stand in two splits: {_few(listed)}; {apart}")
    if len(found) <= allowed:
        seen = (
            f"{len(found)} rows are (up to {allowed} allowed): {_few(listed)}"
            if found
            else "no row of valid or test is"
        )
        return Check("leaks", True, f"{seen} in an earlier split" if not found else seen)
    return Check(
        "leaks",
        False,
        f"{len(found)} rows stand in two splits: {_few(listed)}",
        "Drop duplicates before the split, split by what the copies share (a file, a person, a day), or set "
        'recipe.data.leaks = "report" for figures on clean and on leaked rows apart.',
    )


def constant_target(targets: np.ndarray[Any, Any] | Tensor, column: str = "the target") -> Check:
    """The target takes more than one value: else there is nothing to learn, and any metric looks perfect."""
    values = targets.detach().cpu().numpy() if isinstance(targets, Tensor) else np.asarray(targets)
    if not values.size:
        return Check("target varies", False, f"{column} has no values", "Look at the split: its train part is empty.")
    distinct = len(np.unique(values))
    if distinct == 1:
        only = values.reshape(-1)[0]
        mend = "Choose another target, or look at the filters before it: they may have left one class."
        return Check("target varies", False, f"{column} is {only} in all {len(values):,} samples", mend)
    return Check("target varies", True, f"{column} takes {distinct:,} values in {len(values):,} samples")


def _names(batch: Batch, marked: Tensor) -> list[str]:
    """The rows that the marked samples came from."""
    places = marked.nonzero().reshape(-1).tolist()
    if batch.rows is None:
        return [f"sample {place} of its batch" for place in places]
    return [f"row {batch.rows[place]}" for place in places]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
