"""Who may import whom: a star around core, imports inside functions and every spelling counted, no cycles."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PARTS = ("data", "nn", "optim", "training", "evaluation", "proof", "planning", "serving")
MODULES = ("core", *PARTS, "models", "finetune", "terminal", "explain", "stages", "workflow", "cli", "testing", "")

ALLOWED: dict[str, set[str]] = {
    "core": set(),
    **{part: {"core"} for part in PARTS},
    "models": {"core", "nn"},
    "finetune": {"core", "nn"},
    "terminal": {"core"},
    "explain": {"core"},
    "stages": {"core", *PARTS, "models", "finetune", "terminal"},
    "workflow": {"core", *PARTS, "models", "finetune", "terminal", "stages"},
    "cli": {"workflow", "explain", "terminal", "core", ""},
    "testing": set(MODULES) - {"cli"},
    "": {"workflow", "explain", "core"},
}
"""Module of groundup -> those it may import beside itself; "" is ``groundup/__init__.py``, the facade.

``cli`` takes the error family and ``nearest`` from core, and the version from the facade.
"""

BY_NAME = {"core/use.py", "__init__.py", "explain.py"}
"""Files that import by a name that is not written there: the one rule of `Use`, the facade, the catalogue."""

NAME_AS_TEXT = {"core/use.py", "__init__.py"}
"""Files in which a module of ours may stand as text: the table of homes, and the facade's own."""

DYNAMIC = {"import_module", "__import__", "run_module", "resolve_name", "find_spec", "find_loader", "load_module"}

Found = tuple[int, str]


def part_of(module: str) -> str:
    """``groundup.nn.dense`` -> ``nn``; the package itself is "" (and so are its verbs and nouns)."""
    part = module.split(".")[1] if "." in module else ""
    return part if part in MODULES else ""


def imported(source: str, package: str, modules: set[str]) -> Iterator[Found]:
    """(line, module) for every import of ours; "?" for one whose name cannot be read from the source.

    ``package`` is the dotted name against which relative imports are resolved, ``modules`` every module there
    is, so that ``from groundup import nn`` is an import of nn.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if is_ours(alias.name):
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = absolute("." * node.level + (node.module or ""), package)
            if is_ours(base):
                for alias in node.names:
                    below = f"{base}.{alias.name}"
                    yield node.lineno, below if below in modules and not is_facade(below, modules) else base
        elif isinstance(node, ast.Call) and called(node) in DYNAMIC:
            yield from dynamic(node, package)
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("sys.modules"):
            name = text_of(node.slice)
            if name is not None and is_ours(name):
                yield node.lineno, name


def dynamic(node: ast.Call, package: str) -> Iterator[Found]:
    """An import that is a call: its name read where it is written out, else "?"."""
    given = node.args[0] if node.args else next((k.value for k in node.keywords if k.arg in ("name", "mod_name")), None)
    name = None if given is None else text_of(given)
    if name is None:
        yield node.lineno, "?"
        return
    name = absolute(name.partition(":")[0], package)
    if not is_ours(name):
        return
    yield node.lineno, name
    fromlist = (
        node.args[3] if len(node.args) > 3 else next((k.value for k in node.keywords if k.arg == "fromlist"), None)
    )
    for item in getattr(fromlist, "elts", []):
        below = text_of(item)
        yield node.lineno, "?" if below is None else f"{name}.{below}"


def is_ours(name: str) -> bool:
    return name == "groundup" or name.startswith("groundup.")


def is_facade(name: str, modules: set[str]) -> bool:
    """Whether ``from groundup import NAME`` gives a verb, though a folder has that name too."""
    return name in ("groundup.finetune", "groundup.explain") and name in modules


def absolute(name: str, package: str) -> str:
    """A relative name (``..core.use``) as an absolute one."""
    dots = len(name) - len(name.lstrip("."))
    if not dots:
        return name
    parents = package.split(".")[: len(package.split(".")) - dots + 1]
    return ".".join([*parents, *filter(None, [name[dots:]])])


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def text_of(node: ast.expr) -> str | None:
    """A string that is written out, also in pieces: ``"groundup." + "nn"``."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return None if left is None or right is None else left + right
    if isinstance(node, ast.JoinedStr):
        pieces = [text_of(piece) for piece in node.values]
        return None if None in pieces else "".join(piece for piece in pieces if piece)
    return None


def aliases(source: str) -> set[str]:
    """Names under which a file imports one of DYNAMIC: ``from importlib import import_module as get``."""
    return {
        alias.asname
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in DYNAMIC and alias.asname
    }


def modules_as_text(source: str) -> Iterator[Found]:
    """Modules of ours that stand in a string, as an import path to be resolved would; docstrings do not count."""
    tree = ast.parse(source)
    free = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in free:
            match = re.fullmatch(r"groundup(\.\w+)+(:[\w.]*)?", node.value)
            if match:
                yield node.lineno, node.value.partition(":")[0]


def violations(source: str, path: str, modules: set[str]) -> list[str]:
    """What in this file the star forbids; ``path`` is relative to the package, such as ``nn/dense.py``."""
    names = ["groundup", *Path(path).with_suffix("").parts]
    package = ".".join(names[:-1])
    own = part_of(".".join(names)) if names[1] != "__init__" else ""
    found = []
    for line, module in imported(source, package, modules):
        if module == "?":
            if path not in BY_NAME:
                found.append(f"{path}:{line}: imports by a name that is not written here")
            continue
        other = part_of(module)
        if other != own and other not in ALLOWED[own]:
            found.append(f"{path}:{line}: {own or 'groundup'} may not import {module}")
    if path not in NAME_AS_TEXT:
        for line, module in modules_as_text(source):
            if part_of(module) not in {own, *ALLOWED[own]}:
                found.append(f"{path}:{line}: {own or 'groundup'} names {module} as text; pass a value instead")
    found += [f"{path}: imports {name!r}, another name of a call that imports" for name in sorted(aliases(source))]
    return found


@pytest.fixture(scope="module")
def sources(project: Path) -> dict[str, str]:
    """Path relative to the package -> source, of every file of ours."""
    root = project / "src" / "groundup"
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in sorted(root.rglob("*.py"))}


def names_of(sources: dict[str, str]) -> set[str]:
    """The dotted name of every module."""
    found = {"groundup"}
    for path in sources:
        parts = Path(path).with_suffix("").parts
        found.add(".".join(["groundup", *(parts[:-1] if parts[-1] == "__init__" else parts)]))
    return found


def test_the_house_has_the_rooms_that_the_star_names(sources: dict[str, str]) -> None:
    rooms = {path.partition("/")[0].removesuffix(".py") for path in sources} - {"__init__"}
    assert rooms == set(ALLOWED) - {""}


def test_nobody_imports_whom_the_star_forbids(sources: dict[str, str]) -> None:
    modules = names_of(sources)
    found = [line for path, source in sources.items() for line in violations(source, path, modules)]
    assert not found, "\n".join(found)


PLANTED = {
    "plain": "import groundup.nn.dense",
    "renamed": "import groundup.nn.dense as dense",
    "second of a line": "import os, groundup.nn",
    "from": "from groundup.nn.dense import Dense",
    "from the part": "from groundup.nn import dense",
    "from the package": "from groundup import nn",
    "a verb from the package": "from groundup import train",
    "a verb that is a folder too": "from groundup import finetune",
    "the package": "import groundup",
    "star": "from groundup.nn import *",
    "relative": "from ..nn.dense import Dense",
    "relative, the part": "from .. import nn",
    "relative, a package's": "from ..nn import dense",
    "inside a function": "def f():\n    from groundup.nn import dense\n    return dense",
    "inside a method": "class A:\n    def f(self):\n        import groundup.nn",
    "inside a try": "try:\n    import groundup.nn\nexcept ImportError:\n    pass",
    "for type checkers": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from groundup.nn import Dense",
    "import_module": 'import importlib\nimportlib.import_module("groundup.nn")',
    "import_module, renamed module": 'import importlib as i\ni.import_module("groundup.nn")',
    "import_module, bare": 'from importlib import import_module\nimport_module("groundup.nn.dense")',
    "import_module, renamed": 'from importlib import import_module as get\nget("os")',
    "import_module, by keyword": 'import importlib\nimportlib.import_module(name="groundup.nn")',
    "import_module, relative": 'import importlib\nimportlib.import_module("..nn", package=__package__)',
    "import_module, in pieces": 'import importlib\nimportlib.import_module("groundup." + "nn")',
    "import_module, an f-string": 'import importlib\nimportlib.import_module(f"groundup.nn")',
    "import_module, a variable": "import importlib\ndef f(name):\n    return importlib.import_module(name)",
    "__import__": '__import__("groundup.nn")',
    "__import__, fromlist": '__import__("groundup", globals(), locals(), ["nn"])',
    "builtins": 'import builtins\nbuiltins.__import__("groundup.nn.dense")',
    "resolve_name": 'import pkgutil\npkgutil.resolve_name("groundup.nn:Dense")',
    "runpy": 'import runpy\nrunpy.run_module("groundup.nn.dense")',
    "sys.modules": 'import sys\nnn = sys.modules["groundup.nn"]',
    "an import path as text": 'PATH = "groundup.nn:Dense"',
    "an import path in a call": 'use = Use("groundup.nn.dense:Dense")',
}
THERE = {"groundup", "groundup.core", "groundup.core.use", "groundup.nn", "groundup.nn.dense", "groundup.finetune"}
THERE |= {"groundup.optim", "groundup.optim.muon", "groundup.workflow", "groundup.explain"}


@pytest.mark.parametrize("source", PLANTED.values(), ids=PLANTED)
def test_the_checker_sees_every_spelling(source: str) -> None:
    assert violations(source, "optim/muon.py", THERE)


def test_a_file_that_is_a_packages_own_resolves_relative_imports() -> None:
    assert violations("from ..nn import dense", "optim/__init__.py", THERE)
    assert not violations("from .muon import Muon", "optim/__init__.py", THERE)


FINE = {
    "core": "from groundup.core.use import Use\nimport groundup.core.errors",
    "core, relative": "from ..core import use",
    "its own": "from groundup.optim.muon import Muon\nfrom . import muon",
    "strangers": "import torch\nfrom importlib import import_module\nimport_module('torch.nn')\n__import__('os')",
    "a docstring": '"""groundup.nn"""\ndef f():\n    """groundup.nn.dense"""',
    "a like name": "import groundup_extras.nn",
}


@pytest.mark.parametrize("source", FINE.values(), ids=FINE)
def test_the_checker_lets_pass_what_is_allowed(source: str) -> None:
    assert violations(source, "optim/groups.py", THERE) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/use.py", "from groundup.optim import Muon"),
        ("cli.py", "from groundup.training import fit"),
        ("terminal.py", "from groundup import workflow"),
        ("explain.py", "from groundup.nn import dense"),
        ("workflow.py", "from groundup import cli"),
        ("workflow.py", "import groundup.testing"),
        ("stages/proving.py", "from groundup import workflow"),
        ("stages/proving.py", "from groundup.cli import main"),
        ("data/loading.py", "from groundup.stages import preparing"),
        ("explain.py", "from groundup.stages import preparing"),
        ("models/llama.py", "from groundup.finetune import lora"),
        ("finetune/lora.py", "from groundup.models import llama"),
        ("data/loading.py", "from groundup.training import objectives"),
        ("__init__.py", "import groundup.nn"),
    ],
)
def test_each_arm_of_the_star_is_held(path: str, source: str) -> None:
    modules = THERE | {
        "groundup.cli",
        "groundup.stages",
        "groundup.stages.preparing",
        "groundup.training",
        "groundup.testing",
        "groundup.models",
        "groundup.models.llama",
    }
    assert violations(source, path, modules)


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected groups of more than one module (or of one that imports itself); Tarjan 1972."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = [stack.pop()]
            while group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1 or node in graph.get(node, ()):
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return found


def graph_of(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module -> modules of ours that it imports, wherever in the file."""
    modules = names_of(sources)
    graph: dict[str, set[str]] = {}
    for path, source in sources.items():
        names = ["groundup", *Path(path).with_suffix("").parts]
        name = ".".join(names[:-1] if names[-1] == "__init__" else names)
        targets = {module for _, module in imported(source, ".".join(names[:-1]), modules)}
        graph[name] = {longest(target, modules) for target in targets} & modules
    return graph


def longest(name: str, modules: set[str]) -> str:
    """The module that a dotted name lies in."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def test_there_are_no_import_cycles(sources: dict[str, str]) -> None:
    assert cycles(graph_of(sources)) == []


def test_a_planted_cycle_is_found() -> None:
    planted = {
        "__init__.py": "",
        "nn/__init__.py": "from groundup.nn.dense import Dense",
        "nn/dense.py": "def f():\n    from groundup.nn import conv",
        "nn/conv.py": "from groundup.nn.dense import Dense",
        "optim/__init__.py": "from groundup.optim.muon import Muon",
        "optim/muon.py": "import torch",
    }
    assert cycles(graph_of(planted)) == [["groundup.nn.conv", "groundup.nn.dense"]]
    planted["optim/muon.py"] = "from groundup.optim import Muon"
    assert ["groundup.optim", "groundup.optim.muon"] in cycles(graph_of(planted))
