"""Errors for users: each says where, what was read, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GroundupError(Exception):
    """The family of every error that a user can cause and mend; the command line exits with 1."""


class RecipeError(GroundupError):
    """A recipe that cannot be read or carried out; the message begins with the field's path."""


class DataError(GroundupError):
    """Data that cannot be used; the message names file, row or column."""


class CheckpointError(GroundupError):
    """A checkpoint that is missing, incomplete or changed since it was written."""


class ProofError(GroundupError):
    """A check that a run must pass and did not."""


class NonFiniteError(GroundupError):
    """A loss or gradient that is not a finite number; raised before the update is made."""


class MissingExtraError(GroundupError):
    """An optional library that this step needs and that is not installed."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint for a misspelt name: ``" Did you mean 'x'?"``, or what there is, or nothing."""
    known = sorted(set(choices))
    lowered = {choice.lower(): choice for choice in known}
    close = [lowered[name.lower()]] if name.lower() in lowered else []
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    close = close or [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)]
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" There is: {', '.join(known)}." if 0 < len(known) <= 40 else ""
