"""Row-local steps that are put off until rows are next read, and then carried out together where they can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from groundup.core.dataset import Dataset, apply
from groundup.core.expressions import together
from groundup.data.shards.changes import Place, write_change


@dataclasses.dataclass(frozen=True)
class Pending:
    """A row-local step that is still to be carried out."""

    name: str
    """In the ledger; what has none is only looked at, and its notes are booked with the step behind it."""
    step: Any
    learned_from: Mapping[str, int] = dataclasses.field(default_factory=dict)


def carried_out(dataset: Dataset, chain: Sequence[Pending], place: Place | None = None) -> Dataset:
    """The rows behind every step, each booked in the ledger; what each changed is written down at a place."""
    while chain:
        num, books = 0, [(pending.name, pending.learned_from) for pending in chain]
        if place is None:
            dataset, num = together(dataset, [pending.step for pending in chain], books)
        if not num:
            dataset, num = _booked(dataset, chain[0], place), 1
        chain = chain[num:]
    return dataset


def looked_at(dataset: Dataset, chain: Sequence[Pending]) -> Dataset:
    """The rows behind every step, nothing booked."""
    while chain:
        dataset, num = together(dataset, [pending.step for pending in chain])
        if not num:
            dataset, num = dataclasses.replace(chain[0].step(dataset), pending=(), notes=()), 1
        chain = chain[num:]
    return dataset


def _booked(dataset: Dataset, pending: Pending, place: Place | None) -> Dataset:
    if not pending.name:
        return pending.step(dataset)  # type: ignore[no-any-return]
    after = apply(pending.step, dataset, pending.name, pending.learned_from)
    if place is not None:
        write_change(place.of(len(dataset.history)), dataset, after, pending.name)
    return after
