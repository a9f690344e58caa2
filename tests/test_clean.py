"""``groundup clean`` and training on data that do not fit in the memory that is allowed, from a recipe to the end."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from groundup import Recipe, Training, Use, clean, terminal, train
from groundup.core.errors import DataError, RecipeError
from groundup.core.recipe import DataRecipe, Evaluation
from groundup.core.run import Run
from groundup.data.shards import Local, open_shards
from groundup.workflow import prepare

STEPS = Path(__file__).parent / "data"
sys.path.insert(0, str(STEPS))  # where worker processes find the steps too

ROWS = 180_000
SMALL = "64MB"


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with terminal.quiet():
        yield


def recipe(rows: int = ROWS, **data: Any) -> Recipe:
    known: dict[str, Any] = {
        "source": Use("shard_steps:Made", rows=rows, width=8),
        "clean": (Use("shard_steps:clip", low=-4.5, high=4.5), Use("shard_steps:note_gaps")),
        "split": Use("random"),
        "prepare": (Use("shard_steps:FillMean"),),
        "samples": Use("Rows", target="y", inputs=["x"]),
        "memory": SMALL,
    }
    return Recipe(
        name="made",
        data=DataRecipe(**{**known, **data}),
        model=Use("MLP", hidden=[4]),
        training=Training(objective=Use("supervised", loss=Use("mse")), steps=6, batch_size=64, save_every=3),
        evaluation=Evaluation(metrics=(Use("mae"),), baselines=(Use("mean"),)),
    )


def frames(folder: Path) -> dict[str, pl.DataFrame]:
    return {name: open_shards(folder / name).whole().frame for name in ("train", "valid", "test")}


def bytes_of(folder: Path) -> dict[str, str]:
    left_out = ("report.html", "recipe.toml", "begun.json")  # which name the memory and the runner
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in left_out
    }


def test_shards_hold_what_the_table_in_memory_becomes(tmp_path: Path) -> None:
    small = clean(recipe(), out=tmp_path / "small")
    large = clean(recipe(memory="4GB"), out=tmp_path / "large")
    assert len(open_shards(small / "train").files) > 3
    for name, frame in frames(large).items():
        found = frames(small)[name]
        assert found.drop("x").equals(frame.drop("x"))
        assert float((found["x"] - frame["x"]).abs().max()) < 1e-12  # the mean is of pieces here, of all there
    one, other = (json.loads((folder / "data.json").read_text()) for folder in (small, large))
    assert one == other
    assert one["rows"] == {"train": 144_000, "valid": 18_000, "test": 18_000}
    ledgers = [[json.loads(line) for line in (f / "ledger.jsonl").read_text().splitlines()] for f in (small, large)]
    assert [(e["step"], e["split"], e["cells_changed"], e["notes"]) for e in ledgers[0]] == [
        (e["step"], e["split"], e["cells_changed"], e["notes"]) for e in ledgers[1]
    ]
    learned = json.loads((small / "statistics.json").read_text())
    assert [(one["step"], one["split"], one["rows"]) for one in learned] == [("FillMean", "train", 144_000)]
    assert "144,000" in (small / "report.html").read_text()
    assert not (small / "work").exists()


@pytest.mark.slow
def test_processes_give_the_same_bytes_as_this_process(tmp_path: Path) -> None:
    local = bytes_of(clean(recipe(), out=tmp_path / "local"))
    assert bytes_of(clean(recipe(), out=tmp_path / "processes", runner="processes", memory=SMALL)) == local
    assert len(local) > 20


def test_a_folder_that_is_finished_stays_and_one_of_another_recipe_is_refused(tmp_path: Path) -> None:
    folder = clean(recipe(rows=2000), out=tmp_path / "out")
    before = bytes_of(folder)
    assert bytes_of(clean(recipe(rows=2000), out=folder)) == before
    with pytest.raises(RecipeError, match=r"before recipe.data changed. Remove it"):
        clean(recipe(rows=2001), out=folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("precious")
    with pytest.raises(RecipeError, match="is not empty, and not the result of cleaning"):
        clean(recipe(rows=2000), out=tmp_path / "other")


@pytest.mark.slow
def test_what_was_killed_goes_on_and_finished_shards_stay(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    slow = recipe(clean=(Use("shard_steps:dawdle", seconds=0.6, folder=str(marks)),), prepare=())
    (tmp_path / "made.toml").write_text(slow.to_toml())
    command = [sys.executable, "-m", "groundup.cli", "clean", "made.toml", "--out", "out"]
    paths = os.pathsep.join([str(STEPS), *sys.path])
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while len(list(marks.iterdir())) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    begun = {
        path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "work" / "cleaned").glob("part-*.parquet")
    }
    assert begun
    subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, check=True, stdout=subprocess.DEVNULL
    )
    seen = [int(path.name.split("-")[0]) for path in marks.iterdir()]
    shards = len(open_shards(tmp_path / "out" / "train").files)
    assert len(set(seen)) == shards
    assert len(seen) <= shards + 2  # only what was being worked on was begun again
    whole = pl.concat(frames(tmp_path / "out").values()).sort("_row")
    assert whole["_row"].to_list() == list(range(ROWS))


@pytest.mark.slow
def test_training_goes_on_exactly_where_it_was_stopped(tmp_path: Path) -> None:
    whole = Run.open(train(recipe(), out=tmp_path / "whole"))
    assert whole.recipe().data.memory == SMALL
    halves = train(dataclasses.replace(recipe()), out=tmp_path / "halves")
    for path in [*(halves / "checkpoints").glob("step-6"), halves / "report.json", halves / "chosen.json"]:
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        else:
            path.unlink()
    again = Run.open(train(resume=halves))
    assert again.read_json("report.json")["metrics"] == whole.read_json("report.json")["metrics"]
    one, other = (run.checkpoint().tensors("model.safetensors") for run in (whole, again))
    assert all(bool((one[name] == other[name]).all()) for name in one)
    page = (whole.folder / "report.html").read_text()
    assert "What each fitted step was learned from" in page
    assert {"step": "FillMean", "split": "train", "rows": 144_000, "columns": []} in whole.read_json("statistics.json")


# ------------------------------------------------------------------------------------------------ planted leaks


LEAKS: dict[str, tuple[dict[str, Any], str]] = {
    "a fitted step before the split": (
        {"clean": (Use("shard_steps:FillMean"),)},
        r"recipe.data.clean\[0\]: FillMean learns from the rows it sees",
    ),
    "a sampled step before the split": (
        {"clean": (Use("shard_steps:CenterOnSample"),)},
        r"recipe.data.clean\[0\]: CenterOnSample learns",
    ),
    "a statistic of the target before the split": (
        {"clean": (Use("shard_steps:TargetMean"),)},
        r"recipe.data.clean\[0\]: TargetMean learns",
    ),
    "a centred filter before the split": (
        {"clean": (Use("shard_steps:centred_median"),)},
        r"recipe.data.clean\[0\]: centred_median looks ahead in time",
    ),
    "rows removed from valid and test": (
        {"prepare": (Use("shard_steps:drop_negative"),)},
        "drop_negative: removed .* rows of the valid split",
    ),
    "twins removed from valid and test": (
        {"prepare": (Use("shard_steps:DropTwins"),)},
        "DropTwins: removed .* rows of the valid split",
    ),
    "first rows of a key removed from valid and test": (
        {"prepare": (Use("shard_steps:drop_first"),)},
        "drop_first: removed .* rows of the valid split",
    ),
}


@pytest.mark.parametrize("name", LEAKS)
@pytest.mark.parametrize("rows", [2000, ROWS], ids=["in memory", "in shards"])
def test_a_planted_leak_is_refused(name: str, rows: int, tmp_path: Path) -> None:
    changed, words = LEAKS[name]
    with pytest.raises(DataError, match=words):
        clean(recipe(rows=rows, **changed), out=tmp_path / "out")


@pytest.mark.parametrize("verb", [clean, prepare])
def test_who_did_the_work_is_sent_home_when_a_recipe_fails(
    verb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Local] = []
    monkeypatch.setattr(Local, "close", lambda self: closed.append(self))
    out = {"out": tmp_path / "out"} if verb is clean else {}
    verb(recipe(rows=2000), **out)
    assert len(closed) == 1
    out = {"out": tmp_path / "failed"} if verb is clean else {}
    with pytest.raises(DataError, match="FillMean learns"):
        verb(recipe(rows=2000, clean=(Use("shard_steps:FillMean"),)), **out)
    assert len(closed) == 2


@pytest.mark.parametrize("rows", [2000, ROWS], ids=["in memory", "in shards"])
def test_what_is_fitted_sees_train_alone(rows: int) -> None:
    """The learned values do not change when valid and test do."""
    steps = (Use("shard_steps:FillMean"), Use("shard_steps:CenterOnSample"), Use("shard_steps:TargetMean"))
    one = prepare(recipe(rows=rows, prepare=steps, clean=()))
    other = prepare(recipe(rows=rows, prepare=steps, clean=(Use("shard_steps:spoil_held_out", rows=rows),)))
    assert [step.learned for step in one.preprocessing.prepare] == [s.learned for s in other.preprocessing.prepare]
    assert one.splits.valid.history[-1].learned_from == {"train": one.splits.train.history[-1].learned_from["train"]}
