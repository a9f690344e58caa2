"""Functions in Python sources as (prompt, completion): signature with docstring, and the body that carries it out."""

from __future__ import annotations

import ast
import collections
import dataclasses
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True)
class Example:
    """``prompt + completion`` is the function's source: the prompt ends with the docstring, the completion begins
    with the newline behind it."""

    prompt: str
    completion: str


def examples(text: str, min_lines: int, skipped: collections.Counter[str]) -> Iterator[Example]:
    """The functions and methods of one file that have a docstring and a body of at least ``min_lines`` lines.

    Functions inside functions are part of their outer one's body. Decorators are left out and the source is dedented.
    What is passed over is counted in ``skipped`` by its reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes in what we only read
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        skipped["files that do not parse as Python"] += 1
        return
    lines = _split_lines(text)
    for function in _functions(tree.body):
        found = _example(function, lines, min_lines)
        if isinstance(found, Example):
            yield found
        else:
            skipped[found] += 1


def _split_lines(text: str) -> list[str]:
    """Lines as the parser counts them: form feeds and Unicode separators end none."""
    return re.split(r"\r\n|\n|\r", text)


def _functions(body: Sequence[ast.stmt]) -> Iterator[Function]:
    """Functions of a module, of its classes, and of branches within either."""
    for statement in body:
        if isinstance(statement, Function):
            yield statement
        elif isinstance(statement, ast.ClassDef):
            yield from _functions(statement.body)
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            for name in ("body", "orelse", "finalbody"):
                yield from _functions(getattr(statement, name, []))
            for handler in getattr(statement, "handlers", []):
                yield from _functions(handler.body)


def _example(function: Function, lines: list[str], min_lines: int) -> Example | str:
    """The example, or why there is none."""
    if ast.get_docstring(function, clean=False) is None:
        return "functions without a docstring"
    docstring, body = function.body[0], function.body[1:]
    if all(map(_is_trivial, body)):
        return "functions without a body of their own"
    assert docstring.end_lineno is not None
    assert function.end_lineno is not None
    last = docstring.end_lineno
    if docstring.lineno == function.lineno or body[0].lineno == last:
        return "functions written on one line with their docstring"
    margin = lines[function.lineno - 1][: function.col_offset]
    source = [_dedented(line, margin) for line in lines[function.lineno - 1 : function.end_lineno]]
    split = last - function.lineno + 1
    prompt = "\n".join(source[:split]).rstrip()
    completion = "\n" + "\n".join(source[split:]).rstrip()
    if sum(1 for line in source[split:] if line.strip()) < min_lines:
        return f"functions with a body of fewer than {min_lines} lines"
    whole = lines[function.lineno - 1 : function.end_lineno]
    # Taking one margin off every line harms nothing; a line that had less of it, as within a string, might.
    if all(line.startswith(margin) or not line.strip() for line in whole) or _parses(prompt + completion + "\n"):
        return Example(prompt, completion)
    return "functions that do not stand alone"


def _parses(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True


def _is_trivial(statement: ast.stmt) -> bool:
    """``pass``, a bare constant such as ``...``, or ``raise NotImplementedError``."""
    if isinstance(statement, ast.Raise):
        error = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(error, ast.Name) and error.id == "NotImplementedError"
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _dedented(line: str, margin: str) -> str:
    """The line without the function's own indentation; one further left, as within strings, loses what it has."""
    return line.removeprefix(margin) if line.startswith(margin) else line.lstrip(" \t")


def prompt_of(text: str) -> str:
    """A prompt as the examples have it: dedented, without decorators, ending with its docstring."""
    lines = textwrap.dedent(text).strip().split("\n")
    start = next((i for i, line in enumerate(lines) if re.match(r"(?:async\s+)?def\b", line)), 0)
    return "\n".join(lines[start:])
