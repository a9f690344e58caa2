"""What the README tells people to type works as it stands there, in both languages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]+) -->\n)?```(?P<kind>\w*)\n(?P<code>.*?)```", re.DOTALL)
READMES = ("README.md", "README.zh.md")


def blocks(text: str) -> list[tuple[str, str, str]]:
    """(mark, language, code) of every fenced block; the mark is the comment before it."""
    return [(found["mark"] or "", found["kind"], found["code"]) for found in BLOCK.finditer(text)]


def read(project: Path, name: str) -> str:
    return (project / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README shows."""
    where = tmp_path_factory.mktemp("newcomer")
    for mark, _, code in blocks(read(project, "README.md")):
        kind, _, name = mark.partition(": ")
        if kind == "file":
            (where / name).write_text(code, encoding="utf-8")
    return where


ONE_AFTER_THE_OTHER = """
import shlex, sys
from groundup.cli import main
for line in sys.argv[1].splitlines():
    program, *arguments = shlex.split(line, comments=True)
    assert program == "groundup", line
    assert main(arguments) == 0, line
"""


def test_the_commands_run(project: Path, folder: Path) -> None:
    (code,) = [code for mark, _, code in blocks(read(project, "README.md")) if mark == "run"]
    assert len(code.splitlines()) >= 5
    done = subprocess.run([sys.executable, "-c", ONE_AFTER_THE_OTHER, code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert '"label": "setosa"' in done.stdout
    left = {path.name for path in (folder / "runs" / "iris-001").iterdir()}
    assert {"recipe.toml", "run.json", "metrics.jsonl", "proof.json", "report.html", "checkpoints"} <= left


def test_the_python_runs(project: Path, folder: Path) -> None:
    (code,) = [code for mark, _, code in blocks(read(project, "README.md")) if mark == "python"]
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[-1].startswith("test ")


def test_a_misspelt_argument_is_refused_as_promised(folder: Path) -> None:
    command = [sys.executable, "-m", "groundup.cli", "check", "iris.toml", "training.objective.loss.gama=2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "error: recipe.training.objective.loss.gama: my_parts:focal takes no argument 'gama'. Did you mean 'gamma'?\n"
    )


@pytest.mark.parametrize("name", READMES)
def test_every_make_target_exists(project: Path, name: str) -> None:
    commands = [line.split("#")[0].split() for _, _, code in blocks(read(project, name)) for line in code.splitlines()]
    targets = [words[1] for words in commands if words[:1] == ["make"]]
    assert targets == ["quickstart", "test"]
    for target in targets:
        planned = subprocess.run(["make", "-n", target], cwd=project, capture_output=True, text=True)
        assert planned.returncode == 0, planned.stderr


@pytest.mark.parametrize("name", READMES)
def test_it_is_short_and_its_links_lead_somewhere(project: Path, name: str) -> None:
    text = read(project, name)
    assert len(text.splitlines()) < 200
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) > 8
    assert [link for link in links if "://" not in link and not (project / link).exists()] == []


def test_both_languages_show_the_same_code_and_figures(project: Path) -> None:
    english, chinese = (read(project, name) for name in READMES)
    marked = [[block for block in blocks(text) if block[0]] for text in (english, chinese)]
    assert marked[0] == marked[1]
    assert len(marked[0]) == 4
    rows = [re.findall(r"^\| \[`(\w+\.toml)`\].*\|(.*)\|$", text, re.MULTILINE) for text in (english, chinese)]
    number = re.compile(r"(?<!order-)\b\d+(?:\.\d+)?")
    figures = [[(recipe, number.findall(cell)) for recipe, cell in found] for found in rows]
    assert figures[0] == figures[1]
    assert [text.count("\n## ") for text in (english, chinese)] == [english.count("\n## ")] * 2


def test_the_table_names_every_recipe(project: Path) -> None:
    there = {path.name for path in (project / "recipes").glob("*.toml")}
    for name in READMES:
        assert set(re.findall(r"\(recipes/(\w+\.toml)\)", read(project, name))) == there


@pytest.mark.parametrize("name", [*READMES, "LOG.md", "CHANGELOG.md"])
def test_no_figure_is_left_open(project: Path, name: str) -> None:
    assert "TODO" not in read(project, name)
