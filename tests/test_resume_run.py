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

KILLS = 4


def start(*arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "groundup.cli", *arguments]
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_a_killed_run_ends_as_an_unbroken_one(project: Path, tmp_path: Path) -> None:
    recipe = str(project / "recipes" / "digits.toml")
    budget = ("training.epochs=6", "training.save_every=7")
    whole = start("train", recipe, *budget, "--out", "whole", cwd=tmp_path)
    assert whole.wait(300) == 0, whole.stderr and whole.stderr.read()
    moments = random.Random(5)
    process = start("train", recipe, *budget, "--out", "cut", cwd=tmp_path)
    checkpoints = tmp_path / "cut" / "checkpoints"
    kills = 0
    while process.poll() is None:
        if kills < KILLS and any(checkpoints.glob("step-*")):
            time.sleep(moments.uniform(0.05, 1.2))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                process = start("train", "--resume", "cut", cwd=tmp_path)
                time.sleep(moments.uniform(3.0, 6.0))  # it reads the data again first
        time.sleep(0.01)
    assert process.returncode == 0, process.stderr and process.stderr.read()
    assert kills >= 2
    last = [max((tmp_path / n / "checkpoints").glob("step-*"), key=lambda p: int(p.name[5:])) for n in ("whole", "cut")]
    assert last[0].name == last[1].name
    for file in ("model.safetensors", "training.safetensors"):
        assert (last[0] / file).read_bytes() == (last[1] / file).read_bytes(), file
    states = [json.loads((folder / "state.json").read_text(encoding="utf-8")) for folder in last]
    for state in states:
        state.pop("decisions")  # their reasons quote what was measured at the start
    assert states[0] == states[1]
    losses = [(tmp_path / name / "metrics.jsonl").read_text().count('"kind": "train"') for name in ("whole", "cut")]
    assert losses[0] == losses[1]
