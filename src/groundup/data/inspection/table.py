"""A whole table: its columns, how they go together, and what no model should see."""

from __future__ import annotations

import dataclasses

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.inspection.columns import Column, describe_column
from groundup.data.inspection.relations import (
    Correlations,
    Duplicates,
    Gaps,
    Target,
    Told,
    correlate,
    find_duplicates,
    find_gaps,
    find_target,
    find_twins,
    what_tells,
)
from groundup.data.inspection.roles import Drop, find_group, what_to_drop


@dataclasses.dataclass(frozen=True)
class Table:
    """What is known of a table."""

    rows: int
    columns: tuple[Column, ...]
    target: Target | None
    told: tuple[Told, ...]
    drops: tuple[Drop, ...]
    group: Column | None
    """A column whose rows belong together, so that they must share a split."""
    twins: tuple[tuple[str, str], ...]
    duplicates: Duplicates
    correlations: Correlations | None
    gaps: Gaps | None

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def features(self) -> list[Column]:
        """What a model may see: every column but the target and those that are left out."""
        left_out = {drop.column for drop in self.drops}
        target = self.target.name if self.target is not None else None
        return [c for c in self.columns if c.name not in left_out and c.name != target]

    @property
    def time(self) -> Column | None:
        """The first column of times."""
        return next((c for c in self.columns if c.times is not None), None)

    @property
    def cells_missing(self) -> int:
        """Over all columns."""
        return sum(column.missing for column in self.columns)


def describe_table(dataset: Dataset, target: str | None = None) -> Table:
    """Everything about a table. Raises DataError for one without rows, and for a target that cannot be learned."""
    if not len(dataset):
        raise DataError(f"{dataset.origin or 'the data'}: there are no rows to look at.")
    if not dataset.columns:
        raise DataError(f"{dataset.origin or 'the data'}: there are no columns to look at.")
    columns = tuple(describe_column(dataset, name) for name in dataset.columns)
    wanted = find_target(dataset, target) if target is not None else None
    told = tuple(what_tells(dataset, wanted, columns)) if wanted is not None else ()
    correlations = correlate(dataset, columns)
    return Table(
        rows=len(dataset),
        columns=columns,
        target=wanted,
        told=told,
        drops=tuple(what_to_drop(columns, wanted, told)),
        group=find_group(columns, target),
        twins=tuple(find_twins(dataset, columns, correlations)),
        duplicates=find_duplicates(dataset),
        correlations=correlations,
        gaps=find_gaps(dataset, columns),
    )
