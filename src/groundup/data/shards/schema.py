"""What the columns of train are, learned shard by shard, and held against the rows of validation and test."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Self

from groundup.core.dataset import Dataset
from groundup.core.novelty import OnNew
from groundup.core.schema import Schema
from groundup.data.shards.carry import Workshop, fit
from groundup.data.shards.folder import Shards


@dataclasses.dataclass(frozen=True)
class _Learner:
    """The schema as a step that learns by pieces."""

    on_new: OnNew
    learned: Any = None

    def fit(self, train: Dataset) -> Self:
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> dict[str, Any]:
        return Schema.partial(shard)

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        return Schema.merge(one, other)

    def finish(self, state: dict[str, Any]) -> Self:
        return dataclasses.replace(self, learned=Schema.finish(state, self.on_new))


@dataclasses.dataclass(frozen=True)
class _NoteNew:
    """A note on each column that has what train did not; without an example, so that counts of shards add up."""

    schema: Schema

    def __call__(self, dataset: Dataset) -> Dataset:
        names = dataset.row_names()
        lines = [one.said(names) for one in self.schema.find_new(dataset)] if len(dataset) else []
        return dataset.note(*(re.sub(r" \(.*\)(?=; )", "", line) for line in lines))

    CONTRACT = "row-local"


def learn_schema(
    shop: Workshop, parts: Mapping[str, Shards], on_new: OnNew, stage: str
) -> tuple[Schema, dict[str, Shards]]:
    """The schema of train, and the parts, of which the others are to be noted for what train did not have."""
    learner, _ = fit(shop, _Learner(on_new), parts["train"], stage)
    note = _NoteNew(learner.learned)
    noted = {split: part if split == "train" else part.then("", note) for split, part in parts.items()}
    return learner.learned, noted
