"""A run that was stopped and resumed equals one that never stopped, bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHILD = Path(__file__).with_name("resume_child.py")


def child(mode: str, folder: Path, *tasks: str) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(CHILD), mode, str(folder), *tasks], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    child("straight", folder)
    return folder


def test_stopped_at_every_step_and_resumed_in_a_fresh_process(unbroken: Path) -> None:
    assert child("each", unbroken)["wrong"] == []


def test_killed_at_random_moments_until_done(unbroken: Path, tmp_path: Path) -> None:
    done = child("killed", tmp_path)
    assert done["kills"] >= 20
    for task in ("dense", "decoder"):
        last = Path(task) / "step-14"
        assert not (unbroken / task / "step-15").exists()
        names = ("model.safetensors", "training.safetensors", "state.json")
        for round_number in range(done["rounds"]):
            killed = tmp_path / f"round-{round_number}"
            for name in (*(last / name for name in names), Path(task) / "losses.jsonl"):
                assert (killed / name).read_bytes() == (unbroken / name).read_bytes(), name


@pytest.mark.slow
def test_compiled_runs_resume_exactly_too(tmp_path: Path) -> None:
    child("straight", tmp_path, "compiled")
    assert child("each", tmp_path, "compiled")["wrong"] == []
