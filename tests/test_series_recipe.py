"""Through a whole recipe: a series that drifts, windows normalised by themselves, changed in training, served alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import groundup

TOML = """
name = "series"
[data]
source = { use = "csv", path = "series.csv" }
split = { use = "contiguous", valid = 0.2, test = 0.2 }
samples = { use = "Windows", target = "y", length = 24, horizon = 4 }
augment = ["Jitter", "Scaling", "MagnitudeWarp", "TimeWarp", "WindowSlice", "MixUp"]
[model]
use = "RevIN"
model = { use = "LSTM", hidden = 8 }
[training]
objective = { use = "supervised", loss = "mse" }
optimizer = { use = "AdamW", lr = 1e-2 }
batch_size = 32
steps = 30
[evaluation]
metrics = ["rmse"]
baselines = ["repeat_last"]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    draw, time = np.random.default_rng(0), np.arange(600)
    y = 0.05 * time + np.sin(time / 4) + 0.1 * draw.normal(size=600)
    pl.DataFrame({"y": y, "x": draw.normal(size=600)}).write_csv(tmp_path / "series.csv")
    (tmp_path / "series.toml").write_text(TOML)
    return tmp_path / "series.toml"


def test_a_series_that_drifts_is_forecast_by_windows_of_their_own_level(recipe: Path, tmp_path: Path) -> None:
    folder = groundup.train(recipe, out=tmp_path / "run")
    plain = groundup.train(recipe, 'model={ use = "LSTM", hidden = 8 }', "data.augment=[]", out=tmp_path / "plain")
    found, other = (json.loads((at / "report.json").read_text())["metrics"]["rmse"]["value"] for at in (folder, plain))
    assert found < 0.5 * other, "what was learned on train's level does not reach test's"
    rows = pl.read_csv(tmp_path / "series.csv")[-24:]
    (answer,) = groundup.predict(folder, rows)
    last = float(rows["y"][-1])
    assert all(abs(value - last) < 5 for value in answer["values"]), "in the series' own units, near where it stands"


def test_a_target_on_another_scale_is_refused_by_name(recipe: Path) -> None:
    with pytest.raises(groundup.GroundupError, match="the target's own past is not among the inputs, or on another"):
        groundup.check(recipe, "data.samples.target_scale=min_max")
