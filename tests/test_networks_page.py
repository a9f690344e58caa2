"""What docs/networks.md shows works as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from groundup.nn import init, losses

BLOCK = re.compile(r"<!-- (?P<kind>\w+):? ?(?P<about>.*?) ?-->\n```\w*\n(?P<code>.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def page(project: Path) -> str:
    return (project / "docs" / "networks.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("networks")
    for found in BLOCK.finditer(page):
        if found["kind"] == "file":
            (where / found["about"]).write_text(found["code"], encoding="utf-8")
    return where


def _groundup(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "groundup.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_its_commands_run(page: str, folder: Path) -> None:
    (code,) = [found["code"] for found in BLOCK.finditer(page) if found["kind"] == "run"]
    shown = []
    for line in code.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "groundup"
        done = _groundup(folder, *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        shown.append(done.stdout)
    assert re.search(r"Gate +32 -> 16", shown[0])
    assert re.search(r"1 SiLU", shown[0])
    assert re.search(r"layers\.0\.weight +he_normal +0\.3922", shown[1])
    assert shown[1].count("xavier_normal") == 3


def test_its_error_is_what_is_said(page: str, folder: Path) -> None:
    ((about, said),) = [(f["about"], f["code"]) for f in BLOCK.finditer(page) if f["kind"] == "error"]
    overrides = re.split(r" (?=\w+\.)", about)
    done = _groundup(folder, "show", "network.toml", "swap=[]", "init=[]", *overrides)
    assert done.stderr == f"error: {said}"


def test_its_tables_are_whole(page: str) -> None:
    _, initialisers, named = re.split(r"\n## ", page)
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in initialisers.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in row) == sorted(init.__all__)
    assert set(losses.__all__) <= set(re.findall(r"`(\w+)`", named))
