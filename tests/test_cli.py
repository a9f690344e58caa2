"""The command line as a person meets it: what it passes on, what it says when something is wrong, how it ends."""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup import cli, workflow
from groundup.core.errors import DataError

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calls]:
    """Replace a verb by one that records how it was called and then gives or raises ``result``."""

    def replace(name: str, result: Any = None) -> Calls:
        calls: Calls = []
        real = cli.VERBS[name]

        @functools.wraps(real)
        def verb(*words: Any, **options: Any) -> Any:
            calls.append((words, options))
            if isinstance(result, BaseException):
                raise result
            return result

        if hasattr(workflow, name):
            monkeypatch.setattr(workflow, name, verb)
        monkeypatch.setattr(cli, "VERBS", {**cli.VERBS, name: verb})
        return calls

    return replace


@pytest.mark.parametrize(
    ("line", "words", "options"),
    [
        (["train", "a.toml"], (Path("a.toml"),), {}),
        (["train", "a.toml", "x.lr=-1", "b=[1, 2]"], (Path("a.toml"), "x.lr=-1", "b=[1, 2]"), {}),
        (["train", "a.toml", "x=1", "--out", "o", "y=2"], (Path("a.toml"), "x=1", "y=2"), {"out": Path("o")}),
        (["train", "--out=o", "a.toml"], (Path("a.toml"),), {"out": Path("o")}),
        (["train", "--resume", "runs/a-001"], (), {"resume": Path("runs/a-001")}),
        (
            ["run", "a b.toml", 'prompts=["def f():", "# 中文"]'],
            (Path("a b.toml"), 'prompts=["def f():", "# 中文"]'),
            {},
        ),
        (["finetune", "runs/a", "seed=1"], (Path("runs/a"), "seed=1"), {}),
        (["evaluate", "runs/a"], (Path("runs/a"),), {}),
        (["check", "a.toml", "x=true"], (Path("a.toml"), "x=true"), {}),
        (["plan", "a.py"], (Path("a.py"),), {}),
        (["predict", "r", "3,male,,7.25", "b.png"], (Path("r"), "3,male,,7.25", "b.png"), {}),
        (["predict", "r", "-3.5"], (Path("r"), "-3.5"), {}),
        (["predict", "r", "-3,male", "-x"], (Path("r"), "-3,male", "-x"), {}),
        (["predict", "r", "--", "--out", "--help"], (Path("r"), "--out", "--help"), {}),
        (["predict", "r", ""], (Path("r"), ""), {}),
        (["explain", "AdamW"], ("AdamW",), {}),
        (["fetch", "org/m"], ("org/m",), {}),
        (
            ["convert", "a.pt", "Net", "x=1", "--mapping", "m"],
            (Path("a.pt"), Path("Net"), "x=1"),
            {"mapping": Path("m")},
        ),
        (["list"], (), {}),
        (["list", "optimizer"], ("optimizer",), {}),
    ],
)
def test_a_verb_gets_what_was_typed(
    replaced: Callable[..., Calls], line: list[str], words: tuple[Any, ...], options: dict[str, Any]
) -> None:
    calls = replaced(line[0])
    assert cli.main(line) == 0
    assert calls == [(words, options)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["trian", "a.toml"], 'Did you mean "train"?'),
        (["run"], "RECIPE"),
        (["train"], "name a recipe to start from, or a run to go on with by --resume: one of the two."),
        (["train", "a.toml", "--resume", "r"], "one of the two"),
        (["train", "a.toml", "--ouut", "o"], "there is no option --ouut. Did you mean '--out'?"),
        (["train", "a.toml", "-o", "x"], "-o"),
        (["train", "a.toml", "--out"], "--out requires an argument"),
        (["check", "a.toml", "--out", "o"], "--out"),
        (["evaluate", "r", "x=1"], "x=1"),
        (["predict", "r"], "name at least one input."),
        (["predict", "r", "--json", "x"], "there is no option --json"),
        (["explain"], "NAME"),
        (["--loud"], "there is no option --loud"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_the_usage(
    capsys: pytest.CaptureFixture[str], line: list[str], said: str
) -> None:
    assert cli.main(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err
    verb = line[0] if line[0] in cli.VERBS else "{run,train,"
    assert f"\nusage: groundup {verb}" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("line", [[], ["--help"], ["-h"], ["train", "--help"], ["predict", "r", "--help"]])
def test_help_ends_well(capsys: pytest.CaptureFixture[str], line: list[str]) -> None:
    assert cli.main(line) == 0
    assert "Usage: groundup" in capsys.readouterr().out


def test_help_says_what_every_verb_and_word_is(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--help"])
    out = capsys.readouterr().out
    places = [out.index(f"│ {name} ") for name in cli.VERBS]
    assert places == sorted(places), "in the order of the river"
    for name, verb in cli.VERBS.items():
        assert verb.__doc__, name
        cli.main([name, "--help"])
        shown = capsys.readouterr().out
        for parameter in cli._words(verb):
            assert parameter.name.upper() in shown.upper()
            meaning = cli.MEANINGS.get(f"{name} {parameter.name}", cli.MEANINGS.get(parameter.name, ""))
            assert meaning
            assert meaning[:20] in " ".join(shown.replace("│", "").split())
        assert "``" not in shown


def test_every_word_of_every_verb_can_be_typed() -> None:
    import inspect

    for name, verb in cli.VERBS.items():
        untyped = [p for p in inspect.signature(verb).parameters.values() if p.name not in cli.MEANINGS]
        assert [p.name for p in untyped if p.default is p.empty] == [], name


def test_version(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    import tomllib

    assert cli.main(["--version"]) == 0
    version = tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr().out.strip() == version


def test_an_error_of_the_user_is_one_message_and_1(
    replaced: Callable[..., Calls], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced("check", DataError("rows.csv, row 3: there is [no] number."))
    assert cli.main(["check", "a.toml"]) == 1
    assert capsys.readouterr() == ("", "error: rows.csv, row 3: there is [no] number.\n")
    monkeypatch.setenv("GROUNDUP_TRACEBACK", "1")
    with pytest.raises(DataError):
        cli.main(["check", "a.toml"])


def test_a_full_disk_is_one_message_and_1(replaced: Callable[..., Calls], capsys: pytest.CaptureFixture[str]) -> None:
    replaced("train", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a-001/run.json"))
    assert cli.main(["train", "a.toml"]) == 1
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device: 'runs/a-001/run.json'\n"


def test_a_fault_of_ours_keeps_its_traceback_and_the_users_is_named() -> None:
    def raised(where: Path) -> Exception:
        try:
            exec(compile("\n1 / 0", str(where), "exec"))
        except ZeroDivisionError as error:
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            return error
        raise AssertionError

    assert cli._own_place(raised(Path(cli.__file__).parent / "training" / "loop.py")) is None
    assert cli._own_place(raised(Path("my_parts.py"))) == "my_parts.py, line 2"


def test_an_interrupted_run_says_how_to_go_on(
    replaced: Callable[..., Calls],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    replaced("train", KeyboardInterrupt())
    assert cli.main(["train", "a.toml"]) == 130
    assert capsys.readouterr().err == "\ninterrupted. No checkpoint was written yet.\n"
    for number, folder in enumerate(("runs/a-001", "runs/a-002", "elsewhere")):
        (tmp_path / folder / "checkpoints" / "step-5").mkdir(parents=True)
        (tmp_path / folder / "checkpoints" / "step-5" / "manifest.json").touch()
        (tmp_path / folder / "run.json").touch()
        os.utime(tmp_path / folder / "run.json", (number, number))
    assert cli.main(["train", "a.toml"]) == 130
    assert capsys.readouterr().err.endswith("groundup train --resume runs/a-002\n".replace("/", os.sep))
    assert cli.main(["train", "a.toml", "--out", "elsewhere"]) == 130
    assert capsys.readouterr().err.endswith("groundup train --resume elsewhere\n")
    told = KeyboardInterrupt()
    told.add_note("step 7 is saved.")
    replaced("train", told)
    assert cli.main(["train", "a.toml"]) == 130
    assert capsys.readouterr().err == "\ninterrupted. step 7 is saved.\n"


def test_predictions_are_json_lines(replaced: Callable[..., Calls], capsys: pytest.CaptureFixture[str]) -> None:
    found = [{"label": "好", "probability": 0.5}, {"label": "b", "probability": 0.25}]
    replaced("predict", found)
    assert cli.main(["predict", "r", "x", "y"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == found


def groundup(*line: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "groundup.cli", *line], capture_output=True, text=True, **options)


def test_the_process_ends_as_main_does(tmp_path: Path) -> None:
    assert groundup("--version").returncode == 0
    assert groundup("nothing").returncode == 2
    missing = groundup("check", "none.toml", cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "error: none.toml: there is no such recipe file.\n"
    assert list(tmp_path.iterdir()) == [], "nothing half-written is left behind"


def test_formulas_are_listed_as_they_stand(capsys):
    assert cli.main(["list", "loss"]) == 0
    assert "softmax(output)[target]" in capsys.readouterr().out


@pytest.mark.parametrize("line", [["list", "layers"], ["explain", "AdamW"]])
def test_a_reader_that_leaves_early_gets_no_traceback(line: list[str]) -> None:
    command = [sys.executable, "-m", "groundup.cli", *line]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
