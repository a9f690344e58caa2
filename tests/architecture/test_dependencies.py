"""What src imports is what pyproject lists, in both directions, and every pinned version is one that it allows."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest


def distribution(name: str) -> str:
    """A distribution's name in its canonical form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def third_party(source: str) -> dict[str, bool]:
    """Top-level module -> whether the file needs it to be imported: at module level, outside any ``try``."""
    tree = ast.parse(source)
    needed = {id(node) for node in tree.body}
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top != "groundup":
                found[top] = found.get(top, False) or id(node) in needed
    return found


@pytest.fixture(scope="module")
def settings(project: Path) -> dict[str, Any]:
    return tomllib.loads((project / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def imported(project: Path) -> dict[str, bool]:
    """Distribution -> whether a module of ours cannot be imported without it."""
    owners = metadata.packages_distributions()
    found: dict[str, bool] = {}
    for path in sorted((project / "src").rglob("*.py")):
        for module, needed in third_party(path.read_text("utf-8")).items():
            for owner in owners.get(module, [module])[:1]:
                found[distribution(owner)] = found.get(distribution(owner), False) or needed
    return found


def required(lines: list[str]) -> set[str]:
    found = [re.match(r"[\w.-]+", line) for line in lines]
    return {distribution(match.group()) for match in found if match}


def extras(settings: dict[str, Any]) -> set[str]:
    groups = settings["project"].get("optional-dependencies", {})
    return {name for group, lines in groups.items() if group != "dev" for name in required(lines)}


def test_everything_imported_is_listed(settings: dict[str, Any], imported: dict[str, bool]) -> None:
    core = required(settings["project"]["dependencies"])
    assert {name for name, needed in imported.items() if needed} <= core
    assert set(imported) <= core | extras(settings)


def test_everything_listed_is_imported(settings: dict[str, Any], imported: dict[str, bool]) -> None:
    assert required(settings["project"]["dependencies"]) - set(imported) == set()


def test_every_version_is_pinned_within_what_is_allowed(project: Path, settings: dict[str, Any]) -> None:
    from packaging.requirements import Requirement

    lines = [line for line in (project / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "one name==version a line, and nothing else"
    pins = {distribution(line.partition("==")[0]): line.partition("==")[2] for line in lines}
    groups = settings["project"]["optional-dependencies"].values()
    listed = map(Requirement, [*settings["project"]["dependencies"], *(line for group in groups for line in group)])
    for requirement in (one for one in listed if one.name != "groundup"):  # dev names our own extras
        assert requirement.specifier.contains(pins[distribution(requirement.name)]), requirement


def test_third_party_imports_are_found_wherever_they_are() -> None:
    source = "import os, torch.nn\nfrom PIL import Image\ndef f():\n    import cv2\n    from groundup import nn\n"
    assert third_party(source) == {"torch": True, "PIL": True, "cv2": False}
