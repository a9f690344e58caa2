"""A drafted recipe reads as strictly as any, explains itself, and trains as it is."""

from __future__ import annotations

import datetime
import io
import math
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from groundup import workflow
from groundup.core.errors import DataError, GroundupError
from groundup.core.recipe import Recipe, read_recipe, recipe_from_dict
from groundup.core.run import Run
from groundup.core.use import Use
from groundup.data.drafting import draft_recipe
from groundup.data.drafting.forecasts import rhythm_of
from groundup.data.drafting.toml import Draft, Said, write
from groundup.data.opening import open_data

texts = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=12)
values = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(texts, values, max_size=4), texts)
def test_whatever_is_written_reads_back(table: dict[str, Any], why: str) -> None:
    draft = Draft((why, "a second\nparagraph"), {"": {name: Said(value, why) for name, value in table.items()}})
    assert tomllib.loads(draft.to_toml()) == table


def test_lists_of_reasons_take_a_line_each() -> None:
    steps = [Said(Use("Fill", columns=[f"a rather long column {i}" for i in range(20)]), "why so"), "Standardize"]
    text = Draft((), {"data": {"prepare": steps}}).to_toml()
    assert tomllib.loads(text)["data"]["prepare"][1] == "Standardize"
    assert "  # why so\n" in text
    assert max(map(len, text.splitlines())) <= 120
    assert write(2e-3) == "0.002"
    assert write(1e-7) == "1e-7"
    assert write(3.0) == "3.0"


def drafted(path: Path, target: str | None, folder: Path) -> tuple[str, Recipe]:
    text = draft_recipe(open_data(path), target, folder).to_toml()
    return text, recipe_from_dict(tomllib.loads(text), folder=folder).checked()


def write_csv(path: Path, frame: pl.DataFrame) -> Path:
    frame.write_csv(path)
    return path


def customers(rows: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    bought = (rng.random(rows) < 0.06).astype(int)
    return pl.DataFrame(
        {
            "customer_no": np.arange(rows),
            "income": rng.lognormal(8, 1.2, rows),
            "age": [None if i % 5 == 0 else float(a) for i, a in enumerate(rng.integers(18, 90, rows))],
            "town": rng.choice(["A", "B", "C"], rows),
            "colour": [None if i % 50 == 0 else "red" for i in range(rows)],
            "paid": np.where(bought == 1, "yes", "no"),
            "always": ["x"] * rows,
            "bought": bought,
        }
    )


def test_ids_leaks_constants_gaps_tails_and_imbalance_are_noticed_with_their_reasons(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "customers.csv", customers())
    text, recipe = drafted(path, "bought", tmp_path)
    (dropped,) = [use for use in recipe.data.clean if "drop_columns" in use.target]
    assert set(dropped.arguments["columns"]) == {"customer_no", "colour", "paid", "always"}
    for reason in ("paid: tells bought by itself", "customer_no: names single rows", "always: always x"):
        assert reason in text
    assert recipe.training.objective.arguments["class_weights"][1] > 1
    assert recipe.evaluation.metrics[0].target.endswith("balanced_accuracy")
    steps = [(use.target.rpartition(":")[2], use.arguments.get("columns")) for use in recipe.data.prepare]
    assert ("LogScale", ["income"]) in steps
    assert ("OneHot", ["town"]) in steps
    assert "stratified" in recipe.data.split.target
    assert recipe.data.source.arguments["path"] == "customers.csv"


def test_rows_of_one_patient_stay_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "patient_id": [f"p{i // 5}" for i in range(300)],
            "x": rng.normal(size=300),
            "kind": rng.choice(["a", "b"], 300),
            "y": rng.normal(size=300),
        }
    )
    text, recipe = drafted(write_csv(tmp_path / "visits.csv", frame), "y", tmp_path)
    assert "grouped" in recipe.data.split.target
    assert recipe.data.samples.arguments["inputs"] == ["x", "kind=*"]
    assert "Rows of one patient_id are alike" in text
    workflow.check(recipe)


def test_a_target_with_gaps_rare_classes_and_copies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"x": rng.normal(size=200), "kind": ["a", "b"] * 99 + ["c", None]})
    frame = pl.concat([frame, frame.head(10)])
    _, recipe = drafted(write_csv(tmp_path / "t.csv", frame), "kind", tmp_path)
    names = [use.target.rpartition(":")[2] for use in recipe.data.clean]
    assert names == ["drop_exact_duplicates", "drop_without", "drop_rare"]
    workflow.check(recipe)


def test_a_series_is_forecast_and_never_looks_ahead(tmp_path: Path) -> None:
    start = datetime.datetime(2024, 1, 1)
    hours = [start + datetime.timedelta(hours=i) for i in range(3000)]
    frame = pl.DataFrame({"when": hours, "load": np.sin(np.arange(3000) / 4), "other": np.arange(3000) % 7})
    frame = frame.with_columns(pl.col("when").dt.strftime("%Y-%m-%d %H:%M"))
    text, recipe = drafted(write_csv(tmp_path / "load.csv", frame), "load", tmp_path)
    assert recipe.data.source.arguments["time"] == "when"
    assert recipe.data.split.target.endswith("by_time")
    assert (recipe.data.samples.arguments["length"], recipe.data.samples.arguments["horizon"]) == (72, 24)
    assert "The series is hourly" in text


@pytest.mark.parametrize(
    ("step_s", "season"), [(3600, 24), (900, 96), (86_400, 7), (604_800, 52), (2_592_000, 12), (1, 0)]
)
def test_what_repeats_in_a_series(step_s: float, season: int) -> None:
    assert rhythm_of(step_s).season == season


def test_images_in_folders(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "long-dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (20, 20 + i % 2, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{i}.png")
    text, recipe = drafted(tmp_path / "pets", None, tmp_path)
    assert recipe.data.source.arguments == {"path": "pets"}
    assert recipe.data.samples.arguments["size"] == 96
    assert "2 sizes" in text
    assert any(use.target.endswith("Flip") for use in recipe.data.augment)
    (tmp_path / "pets" / "cat").rename(tmp_path / "pets" / "6")
    (tmp_path / "pets" / "long-dog").rename(tmp_path / "pets" / "9")
    _, recipe = drafted(tmp_path / "pets", None, tmp_path)
    assert not any(use.target.endswith("Flip") for use in recipe.data.augment), "a 6 mirrored or turned is no 6"


def test_folders_named_for_splits_are_no_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("ants", "bees"):
            (tmp_path / "insects" / part / name).mkdir(parents=True)
            for i in range(6):
                pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "insects" / part / name / f"{i}.png")
    text, recipe = drafted(tmp_path / "insects", None, tmp_path)
    assert recipe.name == "insects"
    assert recipe.data.source.arguments["path"] == "insects"
    assert recipe.data.samples.arguments["target"] == "label"
    assert "train, val" in text


def test_a_text_gets_a_language_model(tmp_path: Path) -> None:
    lines = [f"To be, or not to be: {'question ' * (i % 7)}{i}.\n" + "\n" * (i % 3 == 0) for i in range(300)]
    (tmp_path / "book.txt").write_text("".join(lines), encoding="utf-8")
    _, recipe = drafted(tmp_path / "book.txt", None, tmp_path)
    assert recipe.data.samples.arguments["tokenizer"].target.endswith("Characters")
    assert recipe.prompts == ("To be, or",)


@pytest.mark.parametrize(
    ("make", "target", "message"),
    [
        (lambda p: p / "nothing.csv", None, "there is no such file"),
        (lambda p: (p / "a.zip").write_bytes(b"PK") and p / "a.zip", None, "a.zip"),
        (lambda p: write_csv(p / "a.csv", customers()), None, "which column is to be predicted"),
        (lambda p: write_csv(p / "a.csv", customers()), "bougt", "Did you mean 'bought'"),
        (lambda p: write_csv(p / "a.csv", customers().select("always", "bought")), "bought", "no column is left"),
        (lambda p: write_csv(p / "a.csv", customers().select("income", "always")), "always", "constant"),
        (lambda p: (p / "a.txt").write_text("short") and p / "a.txt", None, "too few"),
        (lambda p: (p / "d").mkdir() or p / "d", None, "holds no file"),
    ],
)
def test_what_cannot_be_drafted_is_told(
    make: Callable[[Path], Path], target: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        drafted(make(tmp_path), target, tmp_path)


def test_the_verb_writes_once_and_never_over_a_file(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "customers.csv", customers())
    file = workflow.new(path, target="bought", out=tmp_path / "mine.toml")
    assert read_recipe(file).name == "customers"
    with pytest.raises(DataError, match="never overwritten"):
        workflow.new(path, target="bought", out=tmp_path / "mine.toml")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["customers.csv", "mine.toml"]


cells = st.one_of(st.none(), st.floats(-1e6, 1e6), st.integers(-5, 5), st.text(max_size=3), st.booleans())
names = st.one_of(st.sampled_from(["*", "^.*$", "a", "time"]), st.text(min_size=1, max_size=4))


@settings(max_examples=40)
@given(st.dictionaries(names, st.lists(cells, min_size=1, max_size=30), min_size=1, max_size=4), st.data())
def test_any_small_table_is_drafted_or_refused(columns: dict[str, list[Any]], data: st.DataObject) -> None:
    import tempfile

    rows = min(map(len, columns.values()))
    frame = pl.DataFrame({n: [None if v is None else str(v) for v in c[:rows]] for n, c in columns.items()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.csv"
        frame.write_csv(path)
        try:
            opened = open_data(path)
            target = data.draw(st.sampled_from(opened.dataset.columns))
            text = draft_recipe(opened, target, Path(folder)).to_toml()
        except GroundupError:
            return
        recipe_from_dict(tomllib.loads(text), folder=Path(folder)).checked()


def unpacked(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (inner,) = folder.iterdir()
    return inner


TABLES = [
    ("tab_titanic/titanic.csv", "Survived", "accuracy", "majority", ("training.epochs=10",)),
    ("tab_penguins/penguins.csv", "species", "accuracy", "majority", ("training.epochs=10",)),
    ("tab_penguins/penguins.csv", "sex", "accuracy", "majority", ("training.epochs=10",)),
    ("tab_penguins/penguins_raw.csv", "Species", "accuracy", "majority", ("training.epochs=10",)),
    ("tab_california_housing/housing.csv", "median_house_value", "rmse", "mean", ("training.epochs=2",)),
]
SERIES = [
    ("ts_ett/ETTh1.csv", "OT", "rmse", "repeat_last", ("training.epochs=3",)),
    ("ts_beijing_pm25/pollution.csv", "pm2.5", "rmse", "repeat_last", ("training.epochs=1",)),
    ("ts_airline/airline-passengers.csv", "Passengers", "rmse", "repeat_last", ()),
    ("ts_airline/daily-min-temperatures.csv", "Temp", "rmse", "repeat_last", ("training.epochs=10",)),
]


def trained(
    path: Path, target: str | None, folder: Path, overrides: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, Any]]:
    file = workflow.new(path, target=target, out=folder / "drafted.toml")
    report = Run.open(workflow.train(file, *overrides, out=folder / "run")).read_json("report.json")
    model = {name: metric["value"] for name, metric in report["metrics"].items()}
    return model, report["baselines"]


def beats(model: float, rival: float, metric: str) -> bool:
    return model < rival if metric in ("rmse", "mae", "loss", "bits_per_byte") else model > rival


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "target", "metric", "rival", "overrides"), [*TABLES, *SERIES], ids=lambda v: str(v)[-24:]
)
def test_a_drafted_recipe_trains_as_it_is_and_beats_the_trivial_answer(
    path: str, target: str, metric: str, rival: str, overrides: tuple[str, ...], shared_data: Path, tmp_path: Path
) -> None:
    model, baselines = trained(shared_data / path, target, tmp_path, overrides)
    assert beats(model[metric], baselines[rival][metric]["value"], metric), (model, baselines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("archive", "overrides"),
    [
        ("img_hymenoptera/hymenoptera_256.tar", ("training.epochs=12",)),
        ("img_sign_digits/sign_digits.tar", ("training.epochs=2",)),
    ],
)
def test_drafted_recipes_for_images_train(
    archive: str, overrides: tuple[str, ...], shared_data: Path, tmp_path: Path
) -> None:
    images = unpacked(shared_data / archive, tmp_path / "images")
    model, baselines = trained(images, None, tmp_path, (*overrides, "data.samples.size=48"))
    assert model["accuracy"] > baselines["majority"]["accuracy"]["value"]


@pytest.mark.slow
def test_a_drafted_recipe_for_text_trains(shared_data: Path, tmp_path: Path) -> None:
    text = shared_data / "lm_tinyshakespeare" / "input.txt"
    overrides = ("training.steps=150", "evaluation.baselines=[]", "model.hidden_size=64", "model.num_hidden_layers=2")
    model, _ = trained(text, None, tmp_path, overrides)
    assert model["loss"] < 0.75 * math.log(65)


@pytest.mark.slow
def test_a_drafted_recipe_for_labelled_texts_trains(shared_data: Path, tmp_path: Path) -> None:
    spam = shared_data / "cls_sms_spam" / "spam.csv"
    model, baselines = trained(spam, "v1", tmp_path, ("training.epochs=2",))
    assert model["accuracy"] > baselines["majority"]["accuracy"]["value"] + 0.03


def test_an_image_that_is_none_is_left_out_and_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(6):
            buffer = io.BytesIO()
            Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(buffer, format="PNG")
            (tmp_path / "set" / name / f"{i}.png").write_bytes(buffer.getvalue())
    (tmp_path / "set" / "a" / "broken.png").write_bytes(b"none")
    opened = open_data(tmp_path / "set")
    assert len(opened.dataset) == 12
    assert any("broken.png" in name for entry in opened.dataset.history for name, _ in entry.removed)
