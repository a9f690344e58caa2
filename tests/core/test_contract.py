"""What a step declares of the rows it must see."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from groundup.core.contract import contract, contract_of, declared
from groundup.core.dataset import Dataset


@contract("keyed", by=("site",))
def per_site(dataset: Dataset, width: int = 3) -> Dataset:
    return dataset


class Learns:
    def partial(self, shard: Dataset) -> Any: ...
    def merge(self, one: Any, other: Any) -> Any: ...
    def finish(self, state: Any) -> Any: ...


class Compares:
    def signature(self, shard: Dataset) -> Any: ...
    def removed(self, signatures: list[Any]) -> Any: ...


def test_what_is_declared_is_found_with_options_bound_too() -> None:
    bound = functools.partial(per_site, width=5)
    assert contract_of(per_site) == contract_of(bound) == "keyed"
    assert declared(bound, "by") == ("site",)
    assert declared(bound, "looks_ahead", False) is False


def test_what_learns_or_compares_by_pieces_need_not_say_so() -> None:
    assert contract_of(Learns()) == "fitted"
    assert contract_of(Compares()) == "pairwise"
    assert contract_of(lambda dataset: dataset) == "whole"


def test_an_unknown_contract_is_refused() -> None:
    with pytest.raises(ValueError, match="row-local"):
        contract("rowwise")  # type: ignore[arg-type]
