"""Names that say nothing, paths of one machine, and what runs code that somebody else wrote."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

EMPTY_WORDS = {"util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"}
PICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
PLACES = "|".join(("home", "root", "Users", "work", "tmp", "opt", "var", "mnt", "usr", "private"))
MACHINE_PATH = re.compile(rf"(?<![\w.:/}}])/(?:{PLACES})/\w|\b[A-Z]:\\{{1,2}}Users\b")
TEXT = {".py", ".toml", ".md", ".txt", ".svg", ".yml", ".yaml", ".cfg", ".ini", ".json", ".html", ".sh", ""}
LEFT_OUT = {".git", ".venv", "runs", "build", "dist", "node_modules"}


def words(name: str) -> set[str]:
    """``make_batchUtils`` -> make, batch, utils."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)}


def says_nothing(name: str) -> bool:
    return bool(words(name) & EMPTY_WORDS) or bool(re.match(r"_*(base_|Base[A-Z])", name))


def empty_names(source: str, path: str) -> Iterator[str]:
    """Modules, classes and functions whose names say nothing of what they are."""
    for part in Path(path).with_suffix("").parts:
        if says_nothing(part):
            yield f"{path}: the name {part!r}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and says_nothing(node.name):
            yield f"{path}:{node.lineno}: the name {node.name!r}"


def unsafe(source: str, path: str) -> Iterator[str]:
    """Code that unpickles, evaluates text, or trusts what was downloaded."""
    for node in ast.walk(ast.parse(source)):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            yield from (f"{where}: {a.name}" for a in node.names if a.name.partition(".")[0] in PICKLERS)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in PICKLERS:
                yield f"{where}: {node.module}"
            if node.module == "torch" and {a.name for a in node.names} & {"load", "save"}:
                yield f"{where}: torch.load and torch.save are called by their full name, so that they can be found"
        elif isinstance(node, ast.Call):
            yield from (f"{where}: {said}" for said in unsafe_call(node))
        elif isinstance(node, (ast.Name, ast.arg)) and "trust_remote_code" in (
            getattr(node, "id", ""),
            getattr(node, "arg", ""),
        ):
            yield f"{where}: trust_remote_code"


def unsafe_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if name == "torch.save":
        yield "torch.save writes a pickle; safetensors does not"
    if name in ("eval", "exec", "builtins.eval", "builtins.exec"):
        yield f"{name} of text"
    for keyword in ("trust_remote_code", "allow_pickle", "shell"):
        if given.get(keyword, "False") != "False":
            yield f"{keyword}={given[keyword]}"


@pytest.fixture(scope="module")
def sources(project: Path) -> dict[str, str]:
    root = project / "src" / "groundup"
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in sorted(root.rglob("*.py"))}


def test_names_say_what_things_are(sources: dict[str, str]) -> None:
    assert [line for path, source in sources.items() for line in empty_names(source, path)] == []


def test_nothing_unpickles_or_runs_foreign_code(sources: dict[str, str]) -> None:
    assert [line for path, source in sources.items() for line in unsafe(source, path)] == []


def texts(project: Path) -> Iterator[tuple[str, str]]:
    """(path, content) of every file that a person wrote."""
    for path in sorted(project.rglob("*")):
        parts = path.relative_to(project).parts
        hidden = any(part in LEFT_OUT or (part.startswith(".") and part != ".ci") for part in parts[:-1])
        generated = any(part == "__pycache__" or part.endswith(".egg-info") for part in parts)
        if path.is_file() and path.suffix in TEXT and parts[0] not in LEFT_OUT and not hidden and not generated:
            yield path.relative_to(project).as_posix(), path.read_text("utf-8")


def machine_paths(text: str) -> list[str]:
    """Absolute paths of somebody's machine; the line that names an interpreter, and addresses, are none."""
    lines = [line for line in text.splitlines() if not line.startswith("#!")]
    return [line.strip() for line in lines if MACHINE_PATH.search(re.sub(r"\w+://\S+", "", line))]


def test_no_file_holds_a_path_of_one_machine(project: Path) -> None:
    me = Path(__file__).relative_to(project).as_posix()
    found = {path: machine_paths(text) for path, text in texts(project) if path != me}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_no_file_names_a_package_index(project: Path) -> None:
    option = re.compile(r"--(extra-)?index-url|--find-links|--trusted-host")
    for name in ("Makefile", "constraints.txt", "pyproject.toml", ".ci/run"):
        text = (project / name).read_text("utf-8")
        assert not option.search(text)
        assert "://" not in text, name


def test_all_that_a_person_wrote_is_looked_at(project: Path) -> None:
    found = {path for path, _ in texts(project)}
    assert {"README.md", "Makefile", ".ci/run", "pyproject.toml", "src/groundup/core/use.py"} <= found
    assert not any(path.startswith((".venv", ".git/")) for path in found)


NAMES = {
    "a module": ("x = 1", "nn/utils.py"),
    "a folder": ("x = 1", "common/dense.py"),
    "a class": ("class BatchManager: ...", "nn/dense.py"),
    "a function": ("def load_helper(): ...", "nn/dense.py"),
    "a method": ("class A:\n    def shapeUtil(self): ...", "nn/dense.py"),
    "a base class": ("class BaseLayer: ...", "nn/dense.py"),
    "a base function": ("def base_layer(): ...", "nn/dense.py"),
}


@pytest.mark.parametrize(("source", "path"), NAMES.values(), ids=NAMES)
def test_an_empty_name_is_seen(source: str, path: str) -> None:
    assert list(empty_names(source, path))


def test_full_names_pass() -> None:
    assert (
        list(empty_names("class Baseline: ...\ndef database(): ...\ndef most_commonplace(): ...", "nn/dense.py")) == []
    )


UNSAFE = (
    "import pickle",
    "import os, pickle as p",
    "from pickle import loads",
    "def f():\n    import cloudpickle.x",
    "from joblib import load",
    "import torch\ntorch.load('x')",
    "import torch\ntorch.load('x', weights_only=False)",
    "from torch import load",
    "import torch\ntorch.save({}, 'x')",
    "np.load('x', allow_pickle=True)",
    "AutoModel.from_pretrained('x', trust_remote_code=True)",
    "def f(trust_remote_code=False): ...",
    "subprocess.run('ls', shell=True)",
    "eval('1')",
    "exec(code)",
)


@pytest.mark.parametrize("source", UNSAFE)
def test_what_is_unsafe_is_seen(source: str) -> None:
    assert list(unsafe(source, "planted.py"))


@pytest.mark.parametrize(
    "source", ["torch.load('x', weights_only=True)", "model.eval()", "np.load('x')", "'no pickle'"]
)
def test_what_is_safe_passes(source: str) -> None:
    assert list(unsafe(source, "planted.py")) == []


def test_paths_of_a_machine_are_seen() -> None:
    planted = ["x = '/home/ann/data.csv'", "open('/tmp/x')", "see /Users/bo/notes", r"'C:\Users\x'", "(/opt/data/x)"]
    assert [line for line in planted if not machine_paths(line)] == []
    fine = ["#!/usr/bin/env bash", "https://example.org/home/x", "../shared/data/x", "a /b", "runs/tmp/x", "src/usr/x"]
    assert [line for line in fine if machine_paths(line)] == []
