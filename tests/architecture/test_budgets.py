"""How long and how wide things may grow. The limits may only tighten."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

LONG_FUNCTION, LONGEST_FUNCTION, SHARE_SHORT = 50, 80, 0.95
LONGEST_CLASS, MOST_METHODS = 300, 15
MOST_PARAMETERS, MOST_IN_CONSTRUCTOR = 7, 12
MOST_OPEN_KEYWORDS = 0.02
WORKFLOW_LINES, STAGE_LINES = 600, 250
"""Of the first file to read, and of each stage that it is made of."""

TABLES = {
    "core/recipe.py:Training": "the table [training] of a recipe: a field is a key that a person writes",
}
"""Dataclasses with more fields than a constructor may have parameters, and why."""

PUBLISHED = re.compile(r"models/\w+\.py:\w*(Config|Llama\w*)")
"""Families keep the field names of the config.json that is published for them, however many there are."""


@dataclasses.dataclass(frozen=True)
class Function:
    """One ``def``, wherever it stands."""

    where: str
    lines: int
    parameters: int
    constructor: bool
    open_keywords: bool


@dataclasses.dataclass(frozen=True)
class Class:
    """One ``class``; ``fields`` are what its constructor takes when it is a dataclass."""

    where: str
    lines: int
    methods: int
    fields: int


Node = ast.FunctionDef | ast.AsyncFunctionDef


def measured(source: str, path: str) -> Iterator[Function | Class]:
    """Every function and class of a file; nested ones count by themselves too. Decorators are not lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Node):
            arguments = node.args
            count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
            named = [a.arg for a in (*arguments.posonlyargs, *arguments.args)][:1]
            count -= named in (["self"], ["cls"])
            count += arguments.vararg is not None
            yield Function(
                f"{path}:{node.lineno} {node.name}",
                lines_of(node),
                count + (arguments.kwarg is not None),
                node.name in ("__init__", "__new__"),
                arguments.kwarg is not None,
            )
        elif isinstance(node, ast.ClassDef):
            methods = sum(isinstance(item, Node) for item in node.body)
            yield Class(f"{path}:{node.name}", lines_of(node), methods, fields_of(node))


def lines_of(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def fields_of(node: ast.ClassDef) -> int:
    """Annotated fields of a dataclass that its constructor takes; 0 for any other class."""
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return 0
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    plain = [f for f in fields if "ClassVar" not in ast.unparse(f.annotation)]
    return sum(f.value is None or "init=False" not in ast.unparse(f.value) for f in plain)


def too_much(found: list[Function | Class]) -> list[str]:
    """What exceeds a limit that holds for each one."""
    said = []
    for item in found:
        if isinstance(item, Class):
            kind = item.where
            if item.lines > LONGEST_CLASS:
                said.append(f"{item.where}: {item.lines} lines, at most {LONGEST_CLASS}")
            if item.methods > MOST_METHODS:
                said.append(f"{item.where}: {item.methods} methods, at most {MOST_METHODS}")
            if item.fields > MOST_IN_CONSTRUCTOR and kind not in TABLES and not PUBLISHED.fullmatch(kind):
                said.append(f"{item.where}: {item.fields} fields, at most {MOST_IN_CONSTRUCTOR}")
            continue
        most = MOST_IN_CONSTRUCTOR if item.constructor else MOST_PARAMETERS
        published = item.constructor and item.where.startswith("models/")
        if item.lines > LONGEST_FUNCTION:
            said.append(f"{item.where}: {item.lines} lines, at most {LONGEST_FUNCTION}")
        if item.parameters > most and not published:
            said.append(f"{item.where}: {item.parameters} parameters, at most {most}")
    return said


def shares(found: list[Function | Class]) -> tuple[float, float]:
    """Of all functions: the share of those at most LONG_FUNCTION lines, and of those with ``**`` parameters."""
    functions = [item for item in found if isinstance(item, Function)]
    short = sum(item.lines <= LONG_FUNCTION for item in functions) / len(functions)
    return short, sum(item.open_keywords for item in functions) / len(functions)


@pytest.fixture(scope="module")
def everything(project: Path) -> list[Function | Class]:
    """Every function and class of ours."""
    root = project / "src" / "groundup"
    paths = sorted(root.rglob("*.py"))
    return [item for path in paths for item in measured(path.read_text("utf-8"), path.relative_to(root).as_posix())]


def test_nothing_exceeds_its_budget(everything: list[Function | Class]) -> None:
    assert not too_much(everything), "\n".join(too_much(everything))


def test_most_functions_are_short(everything: list[Function | Class]) -> None:
    long = [f"{f.where}: {f.lines}" for f in everything if isinstance(f, Function) and f.lines > LONG_FUNCTION]
    assert shares(everything)[0] >= SHARE_SHORT, "\n".join(long)


def test_hardly_a_function_takes_open_keywords(everything: list[Function | Class]) -> None:
    wide = [f.where for f in everything if isinstance(f, Function) and f.open_keywords]
    assert shares(everything)[1] <= MOST_OPEN_KEYWORDS, "\n".join(wide)


def test_the_whole_river_stays_one_page(project: Path) -> None:
    root = project / "src" / "groundup"
    lines = {
        path: len(path.read_text("utf-8").splitlines()) for path in [root / "workflow.py", *root.glob("stages/*.py")]
    }
    most = {path: WORKFLOW_LINES if path.name == "workflow.py" else STAGE_LINES for path in lines}
    assert len(lines) > 10
    assert not [f"{path.name}: {count}, at most {most[path]}" for path, count in lines.items() if count > most[path]]


def test_each_exception_is_still_needed(everything: list[Function | Class]) -> None:
    fields = {item.where: item.fields for item in everything if isinstance(item, Class)}
    assert {name for name in TABLES if fields.get(name, 0) <= MOST_IN_CONSTRUCTOR} == set()


def function(lines: int, parameters: str = "") -> str:
    return f"def f({parameters}):\n" + "    x = 1\n" * (lines - 1)


names = ", ".join(f"p{i}" for i in range(8))
PLANTED = {
    "a long function": function(LONGEST_FUNCTION + 1),
    "a long method": "class A:\n    def f(self):\n" + "        x = 1\n" * LONGEST_FUNCTION,
    "a long inner function": "def g():\n    def f():\n" + "        x = 1\n" * LONGEST_FUNCTION,
    "a long async function": "async " + function(LONGEST_FUNCTION + 1),
    "eight parameters": function(2, names),
    "eight by keyword": function(2, "*, " + names),
    "seven and a star": function(2, names.rpartition(",")[0] + ", *rest"),
    "a long class": "class A:\n" + "    x = 1\n" * LONGEST_CLASS,
    "sixteen methods": "class A:\n" + "".join(f"    def f{i}(self): ...\n" for i in range(MOST_METHODS + 1)),
    "a wide constructor": "class A:\n    def __init__(self, " + ", ".join(f"p{i}" for i in range(13)) + "): ...",
    "a wide dataclass": "@dataclasses.dataclass(frozen=True)\nclass A:\n"
    + "".join(f"    f{i}: int\n" for i in range(13)),
}


@pytest.mark.parametrize("source", PLANTED.values(), ids=PLANTED)
def test_each_limit_is_seen_to_be_exceeded(source: str) -> None:
    assert too_much(list(measured(source, "data/planted.py")))


FINE = {
    "the longest function": function(LONGEST_FUNCTION),
    "seven and self": "class A:\n    def f(self, a, b, c, d, e, f, g): ...",
    "twelve in a constructor": "class A:\n    def __init__(self, " + ", ".join(f"p{i}" for i in range(12)) + "): ...",
    "the longest class": "class A:\n" + "    x = 1\n" * (LONGEST_CLASS - 1),
    "a wide class that is no dataclass": "class A:\n" + "".join(f"    f{i}: int\n" for i in range(13)),
}


@pytest.mark.parametrize("source", FINE.values(), ids=FINE)
def test_the_limit_itself_is_allowed(source: str) -> None:
    assert too_much(list(measured(source, "data/planted.py"))) == []


def test_shares_are_counted() -> None:
    found = [item for lines in (2, 51, 50, 51) for item in measured(function(lines), "data/planted.py")]
    found += list(measured("def f(**open): ...", "data/planted.py"))
    assert shares(found) == (0.6, 0.2)
