"""How well do the series models forecast, beside repeating the last value and beside neuralforecast's?

The same windows, look-back, horizon, steps, batch and learning rate for each pair; three seeds. Values are those of the
target alone, standardised by train, and errors are on that scale. ``ett`` is ETTh1's oil temperature with the split of
papers (12, 4 and 4 months); ``air`` the PM2.5 of Beijing, gaps filled forward for all contestants alike.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measuring import FOLDER, arguments, save, show, versions

import groundup
from groundup import DataRecipe, Recipe, Training, Use, terminal
from groundup.core.recipe import Evaluation

DATA = FOLDER.parent.parent / "shared" / "data"


@dataclasses.dataclass(frozen=True)
class Task:
    """A series, and what is asked of it."""

    name: str
    frame: pl.DataFrame
    """``ds``, and ``y`` standardised by train."""
    valid: int
    test: int
    length: int
    horizon: int


@dataclasses.dataclass(frozen=True)
class Effort:
    """What each contestant may spend."""

    steps: int = 200
    batch: int = 32


RATES = {"linear": 1e-3, "net": 1e-3}
MODELS: Mapping[str, tuple[str, Use]] = {
    "lstm": ("net", Use("LSTM", hidden=32)),
    "gru": ("net", Use("GRU", hidden=32)),
    "tcn": ("net", Use("TCN", hidden=24, dropout=0.1)),
    "dlinear": ("linear", Use("DLinear")),
    "nlinear": ("linear", Use("NLinear")),
    "patchtst": ("net", Use("PatchTST")),
}
THEIRS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "dlinear": ("DLinear", {}),
    "nlinear": ("NLinear", {}),
    "patchtst": (
        "PatchTST",
        {
            **{"encoder_layers": 3, "n_heads": 4, "hidden_size": 64, "linear_hidden_size": 128, "patch_len": 16},
            **{"stride": 8, "dropout": 0.2, "fc_dropout": 0.2, "batch_normalization": True, "attn_dropout": 0.0},
            "revin_subtract_last": False,
        },
    ),
}


def ett(quick: bool) -> Task:
    """Twenty months of hours; of the published file the rest is never used."""
    frame = pl.read_csv(DATA / "ts_ett" / "ETTh1.csv", try_parse_dates=True)
    frame = frame.head(14400).select(ds="date", y="OT")
    return _task("ett", frame, (2880, 2880), (96, 24) if quick else (336, 96))


def air(quick: bool) -> Task:
    """Five years of hours from the first measured one on."""
    frame = pl.read_csv(DATA / "ts_beijing_pm25" / "pollution.csv", null_values=["NA"], infer_schema_length=None)
    when = pl.datetime("year", "month", "day", "hour")
    frame = frame.select(when.alias("ds"), pl.col("pm2.5").cast(pl.Float64).alias("y"))
    frame = frame.with_columns(pl.col("y").forward_fill()).drop_nulls()
    return _task("air", frame, (len(frame) // 10, len(frame) // 5), (72, 24))


def _task(name: str, frame: pl.DataFrame, held_out: tuple[int, int], window: tuple[int, int]) -> Task:
    train = frame["y"].head(len(frame) - sum(held_out))
    scaled = frame.with_columns((pl.col("y").cast(pl.Float64) - train.mean()) / train.std(ddof=0))
    return Task(name, scaled, *held_out, *window)


def ours(task: Task, kind: str, model: Use, effort: Effort, seed: int) -> dict[str, float]:
    """One run of the whole river; errors, and those of repeating the last value."""
    with tempfile.TemporaryDirectory() as folder, terminal.quiet():
        task.frame.write_parquet(Path(folder) / "series.parquet")
        rows = len(task.frame)
        recipe = Recipe(
            name=task.name,
            seed=seed,
            data=DataRecipe(
                source=Use("parquet", path=str(Path(folder) / "series.parquet")),
                split=Use("by_time", column="ds", valid=task.valid / rows, test=task.test / rows),
                samples=Use("Windows", target="y", inputs=["y"], length=task.length, horizon=task.horizon),
            ),
            model=model,
            training=Training(
                objective=Use("supervised", loss="mse"),
                optimizer=Use("AdamW", lr=RATES[kind], weight_decay=0.0),
                steps=effort.steps,
                batch_size=effort.batch,
                evaluate_every=effort.steps,
                evaluate_batches=1,
                clip_norm=None,
                precision="fp32",
                compile="off",
            ),
            evaluation=Evaluation(metrics=[Use("mse"), Use("mae")], baselines=[Use("repeat_last")]),
        )
        run = groundup.train(recipe, out=Path(folder) / "run")
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    found, last = report["metrics"], report["baselines"]["repeat_last"]
    return {
        "mse": found["mse"]["value"],
        "mae": found["mae"]["value"],
        "windows": found["mse"]["n"],
        "last mse": last["mse"]["value"],
        "last mae": last["mae"]["value"],
    }


def theirs(task: Task, kind: str, name: str, options: Mapping[str, Any], effort: Effort, seed: int) -> dict[str, float]:
    """neuralforecast's model on the same windows: those whose look-back lies in the test split."""
    from neuralforecast import NeuralForecast, models
    from neuralforecast.losses.pytorch import MSE

    model = getattr(models, name)(
        h=task.horizon,
        input_size=task.length,
        loss=MSE(),
        max_steps=effort.steps,
        learning_rate=RATES[kind],
        windows_batch_size=effort.batch,
        batch_size=1,
        val_check_steps=effort.steps,
        scaler_type="identity",
        random_seed=seed,
        **{"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False},
        enable_model_summary=False,
        **options,
    )
    table = task.frame.select(pl.lit("one").alias("unique_id"), "ds", "y").to_pandas()
    found = NeuralForecast(models=[model], freq="h").cross_validation(
        table, val_size=task.valid, test_size=task.test, n_windows=None, step_size=1
    )
    first = task.frame["ds"][len(task.frame) - task.test + task.length - 1]
    found = found[found["cutoff"] >= np.datetime64(first)]
    errors = (found[name] - found["y"]).to_numpy()
    return {
        "mse": float((errors**2).mean()),
        "mae": float(np.abs(errors).mean()),
        "windows": found["cutoff"].nunique(),
    }


def contestants(task: Task, effort: Effort, peers: bool) -> dict[str, Callable[[int], dict[str, float]]]:
    """Name -> what a seed gives."""
    found: dict[str, Callable[[int], dict[str, float]]] = {}
    for name, (kind, model) in MODELS.items():
        found[name] = lambda seed, kind=kind, model=model: ours(task, kind, model, effort, seed)
        if peers and name in THEIRS:
            other, options = THEIRS[name]
            found[f"neuralforecast {other}"] = lambda seed, kind=kind, other=other, options=options: theirs(
                task, kind, other, options, effort, seed
            )
    if task.name == "ett":
        for name in ("lstm", "gru", "tcn"):  # the plan of a run over 336 steps takes longer than its training here
            del found[name]
    return found


def main() -> None:
    """Measure, show, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("data", choices=["ett", "air"])
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ["NIXTLA_ID_AS_COL"] = "1"
    task = {"ett": ett, "air": air}[options.data](options.quick)
    effort = Effort(steps=5 if options.quick else options.steps)
    peers = bool(versions("neuralforecast"))
    seeds = range(1 if options.quick else options.repeats or 3)
    results: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        for name, measure in contestants(task, effort, peers).items():
            results.setdefault(name, []).append(measure(seed))
            print(seed, name, results[name][-1], flush=True)
    rows = [_row(name, found) for name, found in results.items()]
    last = results["dlinear"][0]
    rows.append(
        {"model": "repeat the last value", "MSE": last["last mse"], "MAE": last["last mae"], "windows": last["windows"]}
    )
    caption = f"{task.length} steps seen, {task.horizon} to come, {effort.steps} steps of {effort.batch} windows"
    show(
        f"Forecasts of {task.name}",
        rows,
        caption + f"; mean of {len(seeds)} seeds" + ("" if peers else "; neuralforecast is not installed"),
    )
    if not options.quick:
        settings = {"data": task.name, "length": task.length, "horizon": task.horizon, "rates": RATES}
        save("series_models", rows, {**settings, **dataclasses.asdict(effort), **versions("neuralforecast")})


def _row(name: str, found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    means = {key: statistics.mean(one[key] for one in found) for key in ("mse", "mae")}
    spread = max(one["mse"] for one in found) - min(one["mse"] for one in found)
    return {
        "model": name,
        "MSE": means["mse"],
        "most - least": spread,
        "MAE": means["mae"],
        "windows": found[0]["windows"],
    }


if __name__ == "__main__":
    main()
