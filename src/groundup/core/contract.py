"""What rows a step of data must see at once: declared, so that one definition runs on a table in memory and on shards.

A function declares it with ``@contract("row-local")``, a class by its field ``CONTRACT``. Nothing needs to be declared:
a step that says nothing sees all rows at once, and data that do not fit in memory then end in an error that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, Self, TypeVar, get_args, runtime_checkable

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError

Contract = Literal["row-local", "fitted", "sampled", "keyed", "pairwise", "whole"]
"""How much of the data a step must see.

- ``row-local``: what becomes of a row does not depend on any other row; shards are taken one by one.
- ``fitted``: learns by ``partial``, ``merge`` and ``finish`` (``Mergeable``); its call is row-local.
- ``sampled``: learns from a seeded sample of at most ``sample_rows`` rows of train, which it is handed (drawn by
  its ``seed``, if it has one); its call is row-local.
- ``keyed``: ``by`` names columns, as a field, a declared fact, or an option of a function; all rows of one key are
  seen together, in the order in which they were read. Without ``by``, ``halo`` (rows, or rows before and rows behind)
  tells how far a row depends on others in order of time; with neither, all rows are seen.
- ``pairwise``: compares rows with one another by keys (``ByKeys``), by keys and a second look (``ByLikeness``), or by
  short signatures (``Pairwise``), which are all in memory together; rows are then kept or dropped.
- ``whole``: anything else.

A class may declare it by a property, where it depends on options. What learns as well is fitted first, by pieces where
it has ``partial``, ``merge`` and ``finish``. Steps that are written as expressions too (``groundup.core.expressions``)
go over shards together, and read only the columns they need. A way to split may declare ``looks_at``: the columns, or
the options that name them, that it decides by; without it all rows must fit in memory.
"""

State = Any
"""What a fitted step knows of some rows: lists, dictionaries, strings, numbers, None and numpy arrays of numbers."""

Step = TypeVar("Step", bound=Callable[..., Any])


@runtime_checkable
class Mergeable(Protocol):
    """A step that learns from pieces: ``fit(train)`` is ``finish(partial(train))``.

    ``merge`` is called in the order of the shards, so that what is learned does not depend on who computed what.
    """

    def partial(self, shard: Dataset) -> State:
        """What these rows of train tell."""
        ...

    def merge(self, one: State, other: State) -> State:
        """What both tell together."""
        ...

    def finish(self, state: State) -> Self:
        """The same step with ``learned`` set."""
        ...


@runtime_checkable
class Pairwise(Protocol):
    """A step that removes rows for what other rows are like; only signatures are held in memory, never the rows."""

    def signature(self, shard: Dataset) -> State:
        """What is compared of these rows: a few bytes to a few hundred for each."""
        ...

    def removed(self, signatures: list[State]) -> list[dict[int, str]]:
        """For each shard, in order: position of each row that goes -> reason."""
        ...


@runtime_checkable
class ByKeys(Protocol):
    """A pairwise step that removes each row whose key an earlier row has; any number of rows can be compared."""

    def keys(self, shard: Dataset) -> Any:
        """[rows, 2] uint64 for each row of the shard, equal for equal rows alone."""
        ...

    def reason(self, first: str) -> str:
        """Why a row goes, given the name of the first row of its key, which stays."""
        ...


@runtime_checkable
class ByLikeness(Protocol):
    """A pairwise step that links rows which are alike, and keeps the first of each group; any number can be compared.

    Rows are held against one another where they share a key. With ``tags`` in its signature a step has
    ``screen(one, other)`` as well, which tells by the tags of pairs which of them may be alike.
    """

    def signature(self, shard: Dataset) -> State:
        """``same`` [n] uint64, equal for rows that are the same (0: never alike), and ``keys`` [n, bands] uint64.

        It may hold ``tags`` [n] uint64, and the evidence of all rows as ``values`` and ``lengths``.
        """
        ...

    def evidence(self, shard: Dataset, positions: Any) -> tuple[Any, Any]:
        """What the rows at these positions are compared by: values, one row behind the other, and how many each has."""
        ...

    def likeness(self, values: Any, offsets: Any, one: Any, other: Any) -> Any:
        """How alike pairs are, by their places in evidence with these ``offsets``: up to 1, and 0 for what is not."""
        ...

    def reason(self, first: str, likeness: float) -> str:
        """Why a row goes, given the name of the row that it is like."""
        ...


def contract(kind: Contract, **declared: Any) -> Callable[[Step], Step]:
    """Declare what a function needs to see; ``declared`` are further facts, such as ``looks_ahead=True``.

    >>> @contract("row-local")
    ... def lower(dataset: Dataset) -> Dataset: ...
    """
    if kind not in get_args(Contract):
        raise ValueError(f"contract: read {kind!r}, expected one of {', '.join(get_args(Contract))}.")

    def declare(step: Step) -> Step:
        for name, value in {"CONTRACT": kind, **declared}.items():
            setattr(step, name, value)
        return step

    return declare


def contract_of(step: Any) -> Contract:
    """What a made step declares; options may be bound to it. What learns by pieces need not say so."""
    declared: Contract | None = getattr(getattr(step, "func", step), "CONTRACT", None)
    if declared is not None:
        return declared
    if isinstance(step, Mergeable):
        return "fitted"
    return "pairwise" if isinstance(step, Pairwise) else "whole"


def declared(step: Any, name: str, default: Any = None) -> Any:
    """A fact that a made step declares beside its contract, such as ``looks_ahead`` or ``by``."""
    return getattr(step, name, getattr(getattr(step, "func", step), name, default))


def refuse_before_split(step: Any, name: str, where: str) -> None:
    """Raises DataError for a step that would carry values from one split into another, if it came before the split.

    That is what learns from rows, and what looks ahead in time.
    """
    if hasattr(step, "fit") or isinstance(step, Mergeable):
        raise DataError(
            f"{where}: {name} learns from the rows it sees, and before the split it would see those of validation and "
            "test. Put it under prepare, where it is fitted on train alone."
        )
    if declared(step, "looks_ahead", False) is True:
        raise DataError(
            f"{where}: {name} looks ahead in time: before the split it would carry what is to be predicted into what "
            "is known. Take its causal form, or put it under prepare, where each part is seen by itself."
        )
