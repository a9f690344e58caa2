"""A whole run, killed at random moments and resumed by the command line, ends bit for bit as an unbroken one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from groundup.core.run import Run

KILLS = 4


def start(*arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "groundup.cli", *arguments]
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def newest(checkpoints: Path) -> int:
    """The last step of which there is a checkpoint, 0 before the first."""
    names = [path.name.removeprefix("step-") for path in checkpoints.glob("step-*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


@pytest.mark.slow
def test_a_killed_run_ends_as_an_unbroken_one(project: Path, tmp_path: Path) -> None:
    recipe = str(project / "recipes" / "digits.toml")
    budget = ("training.epochs=12", "training.save_every=7")
    whole = start("train", recipe, *budget, "--out", "whole", cwd=tmp_path)
    assert whole.wait(300) == 0
    moments = random.Random(5)
    process = start("train", recipe, *budget, "--out", "cut", cwd=tmp_path)
    checkpoints = tmp_path / "cut" / "checkpoints"
    seen, kills = newest(checkpoints), 0
    while process.poll() is None:
        if kills < KILLS and newest(checkpoints) > seen:  # it has gone on from where it was
            time.sleep(moments.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
            process.wait()
            seen, kills = newest(checkpoints), kills + 1
            process = start("train", "--resume", "cut", cwd=tmp_path)
        time.sleep(0.002)
    assert process.returncode == 0
    assert kills == KILLS
    steps = [newest(tmp_path / name / "checkpoints") for name in ("whole", "cut")]
    assert steps[0] == steps[1]
    last = [tmp_path / name / "checkpoints" / f"step-{steps[0]}" for name in ("whole", "cut")]
    for file in ("model.safetensors", "training.safetensors"):
        assert (last[0] / file).read_bytes() == (last[1] / file).read_bytes(), file
    states = [json.loads((folder / "state.json").read_text(encoding="utf-8")) for folder in last]
    for state in states:
        state.pop("decisions")  # their reasons quote what was measured at the start
    assert states[0] == states[1]
    logged = [Run.open(tmp_path / name).logged() for name in ("whole", "cut")]
    for lines in logged:
        for line in lines:
            line.pop("time_s")
    assert logged[0] == logged[1]
