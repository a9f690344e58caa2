"""Importing groundup and asking for help are quick, and touch nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

HEAVY = ("torch", "numpy", "polars", "pyarrow", "scipy", "sklearn", "tokenizers", "tiktoken", "PIL", "rich", "cyclopts")
IMPORT_S, HELP_S = 0.150, 0.300
TRIES = 25


def best_time_s(command: Sequence[str], enough_s: float) -> float:
    """Processor time of the whole process at its best of several tries; stops once it is quick enough.

    Time on the wall would tell of the machine's other work too: these tests share its cores. On a machine that is
    shared with others processor time itself varies twofold, so that few tries may all fall into a slow spell.
    """
    best = float("inf")
    for _ in range(TRIES):
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        best = min(best, usage.ru_utime + usage.ru_stime)
        if best < enough_s:
            break
    return best


def modules_after(code: str) -> set[str]:
    """Which heavy packages a process has imported after running ``code``."""
    shown = f"{code}\nimport sys\nprint('\\n', *sys.modules)"
    printed = subprocess.run([sys.executable, "-c", shown], check=True, capture_output=True, text=True).stdout
    return set(printed.splitlines()[-1].split()) & set(HEAVY)


def test_importing_groundup_is_quick_and_touches_nothing_heavy() -> None:
    assert modules_after("import groundup; dir(groundup); groundup.__version__") == set()
    assert best_time_s(["-c", "import groundup"], IMPORT_S) < IMPORT_S


def test_help_is_quick_and_needs_no_torch() -> None:
    asked = "from groundup.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    assert modules_after(asked) <= {"cyclopts", "rich"}
    assert best_time_s(["-m", "groundup.cli", "--help"], HELP_S) < HELP_S


def test_a_recipe_is_read_without_torch() -> None:
    assert modules_after("from groundup import Recipe, Use; Use('MLP', hidden=[1])") == set()


def test_work_on_data_needs_no_torch() -> None:
    imported = (
        "import groundup.data.any_size, groundup.data.undoing, groundup.stages.preparing, groundup.stages.cleaning"
    )
    assert "torch" not in modules_after(imported)  # 200 MB of the memory that data may take


def test_a_heavy_import_would_be_seen() -> None:
    assert modules_after("import numpy") == {"numpy"}
    assert best_time_s(["-c", "sum(i * i for i in range(12_000_000))"], IMPORT_S) > IMPORT_S
