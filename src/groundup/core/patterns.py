"""Names chosen by pattern (swapping, freezing, LoRA, parameter groups); a pattern without a match is an error."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from groundup.core.errors import RecipeError, nearest


def matching(names: Iterable[str], pattern: str, where: str) -> list[str]:
    """The names that ``pattern`` matches, in their order.

    As in a shell, ``*`` stands for any text (dots included), ``?`` for one character and ``[ab]`` for one
    of these; case counts. Raises RecipeError that begins with ``where`` and gives the nearest name when
    nothing matches.

    >>> matching(["blocks.0.norm.weight", "blocks.1.norm.weight"], "blocks.*.weight", "init")
    ['blocks.0.norm.weight', 'blocks.1.norm.weight']
    """
    known = list(names)
    found = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
    if not found:
        # Layers that differ in their number alone are one choice, so that the hint stays short.
        choices = {re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) for name in known if name}
        hint = nearest(pattern, choices) or f" There are {len(known)} names, such as {next(iter(choices), None)!r}."
        raise RecipeError(f"{where}: the pattern {pattern!r} matches nothing.{hint}")
    return found
