"""The table of all data sets at hand is what reading them gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_table_is_what_reading_everything_gives(project: Path, shared_data: Path, tmp_path: Path) -> None:
    written = tmp_path / "data_sets.md"
    script = project / "benchmarks" / "read_everything.py"
    subprocess.run([sys.executable, script, shared_data, written], check=True, timeout=400)
    assert written.read_text(encoding="utf-8") == (project / "docs" / "data_sets.md").read_text(encoding="utf-8")
