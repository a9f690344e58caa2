"""Importing groundup and asking for help are quick, and touch nothing heavy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

HEAVY = ("torch", "numpy", "polars", "pyarrow", "scipy", "sklearn", "tokenizers", "tiktoken", "PIL", "rich", "cyclopts")
IMPORT_S, HELP_S = 0.150, 0.300
TRIES = 7


def best_time_s(command: Sequence[str], enough_s: float) -> float:
    """The whole process, from start to exit, at its best of several tries; stops once it is quick enough."""
    best = float("inf")
    for _ in range(TRIES):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        best = min(best, time.perf_counter() - start)
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


def test_a_heavy_import_would_be_seen() -> None:
    assert modules_after("import numpy") == {"numpy"}
    assert best_time_s(["-c", "import time; time.sleep(0.2)"], IMPORT_S) > IMPORT_S
