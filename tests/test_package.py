"""The facade: every verb and noun is there, none is imported before it is asked for, and none hides another."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import groundup


def test_every_name_is_there() -> None:
    for name in groundup.__all__:
        assert getattr(groundup, name) is not None
    assert set(dir(groundup)) == set(groundup.__all__)


def test_type_checkers_are_told_the_same(project: Path) -> None:
    tree = ast.parse((project / "src" / "groundup" / "__init__.py").read_text(encoding="utf-8"))
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    told = {alias.name: node.module for node in checked.body for alias in node.names}  # type: ignore[attr-defined]
    assert told == groundup._HOME_OF
    assert set(told) | {"__version__"} == set(groundup.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'groundup' has no attribute 'trian'"):
        groundup.trian  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import groundup.finetune, groundup.explain, groundup",
        "import groundup; groundup.finetune; import groundup.finetune, groundup.explain",
        "from groundup.finetune import lora; from groundup.explain import Explanation; import groundup",
        "import importlib, groundup; importlib.import_module('groundup.finetune')",
        "import groundup.workflow as w; import groundup.cli; import groundup",
    ],
)
def test_a_verb_is_not_hidden_by_the_folder_of_its_name(code: str) -> None:
    proof = (
        "\nfrom groundup import finetune, explain"
        "\nfrom groundup.workflow import finetune as verb"
        "\nassert groundup.finetune is finetune is verb"
        "\nassert callable(groundup.explain) and explain is groundup.explain"
        "\nfrom groundup.finetune import lora; import groundup.nn; assert groundup.nn.Dense"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code + proof], check=True)


def test_the_version_is_the_distributions() -> None:
    from importlib import metadata

    assert groundup.__version__ == metadata.version("groundup")
