"""Every recipe goes down the whole river on a tiny budget, and what it leaves is what the README promises."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import groundup
from groundup import terminal
from groundup.core.checkpoint import Checkpoint
from groundup.core.recipe import read_recipe
from groundup.core.run import Run

TINY = {
    "digits": ("training.epochs=1",),
    "titanic": ("training.epochs=2", "evaluation.seeds=2"),
    "air": ("training.epochs=0.02",),
    "shakespeare": ("training.steps=20", "training.evaluate_batches=4"),
    "quickstart": (
        "data.source.limit_bytes=2500000",
        "data.samples.tokenizer.vocab_size=512",
        "data.samples.length=64",
        "data.samples.context=16",
        "model.depth=1",
        "data.split.valid=0.1",
        "data.split.test=0.1",
        "training.steps=30",
        "training.compile=off",
        "training.batch_size=4",
        "finetune.samples.length=128",
        "finetune.training.epochs=0.1",
    ),
}
LEFT_BEHIND = ("recipe.toml", "run.json", "ledger.jsonl", "proof.json", "plan.json", "report.json", "report.html")


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    with terminal.quiet():
        yield


@pytest.fixture(scope="module")
def runs(project: Path, tmp_path_factory: pytest.TempPathFactory):
    """Each recipe's run, made once when first asked for."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            path = project / "recipes" / f"{name}.toml"
            if "../shared/data" in path.read_text(encoding="utf-8") and not (project.parent / "shared/data").is_dir():
                pytest.skip("the folder ../shared/data with real data sets is not beside this checkout")
            made[name] = groundup.run(path, *TINY[name], out=tmp_path_factory.mktemp("runs") / name)
        return made[name]

    return make


@pytest.mark.parametrize("name", TINY)
def test_a_run_leaves_what_is_promised(runs, name: str) -> None:
    folder = runs(name)
    one = folder / "seed-0" if name == "titanic" else folder
    for file in LEFT_BEHIND:
        assert (one / file).is_file(), f"{file} is missing"
    proof = json.loads((one / "proof.json").read_text(encoding="utf-8"))
    assert len(proof["checks"]) >= 4
    assert all(check["passed"] for check in proof["checks"])
    lines = [json.loads(line) for line in (one / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["kind"] for line in lines} == {"train", "valid"}
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert Run.open(one).checkpoint().files
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["metrics"]
    for metric in report["metrics"].values():
        assert metric["n"] > 0


@pytest.mark.parametrize("name", TINY)
def test_the_report_needs_no_network(runs, name: str) -> None:
    page = (runs(name) / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)


def test_the_saved_recipe_reads_back_with_the_same_digest(runs, project: Path) -> None:
    folder = runs("digits")
    recipe = read_recipe(project / "recipes" / "digits.toml", TINY["digits"])
    assert Run.open(folder).recipe().digest() == recipe.digest()
    assert Run.open(folder).read_json("run.json")["digest"] == recipe.digest()


def test_a_row_with_a_missing_value_gets_a_label(runs) -> None:
    row = {"Pclass": 3, "Sex": "female", "Age": None, "SibSp": 0, "Parch": 0, "Fare": 7.9, "Embarked": "S"}
    (answer,) = groundup.predict(runs("titanic"), row)
    assert answer["label"] in (0, 1, "0", "1")
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_csv_row_gets_a_label(runs, tmp_path: Path) -> None:
    table = tmp_path / "passengers.csv"
    table.write_text("Pclass,Sex,Age,SibSp,Parch,Fare,Embarked\n1,male,,0,0,51.0,S\n2,female,30,1,0,26.0,C\n")
    assert len(groundup.predict(runs("titanic"), str(table))) == 2


def test_a_png_gets_a_label(runs, tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    picture = tmp_path / "digit.png"
    Image.fromarray((load_digits().images[0] * 255 / 16).astype(np.uint8)).save(picture)
    (answer,) = groundup.predict(runs("digits"), str(picture))
    assert str(answer["label"]) in "0123456789"


def test_a_series_gets_a_forecast_in_its_own_units(runs, shared_data: Path) -> None:
    (answer,) = groundup.predict(runs("air"), str(shared_data / "ts_beijing_pm25" / "pollution.csv"))
    values = answer["values"]
    assert len(values) == 24
    assert -100 < min(values) <= max(values) < 1000


def test_a_prompt_is_continued(runs) -> None:
    (answer,) = groundup.predict(runs("shakespeare"), "ROMEO:\n")
    assert len(answer["completion"]) > 0


def test_evaluate_gives_the_figures_of_the_report(runs) -> None:
    report = groundup.evaluate(runs("digits"))
    saved = json.loads((runs("digits") / "report.json").read_text(encoding="utf-8"))
    assert {n: m.value for n, m in report.metrics.items()} == {n: m["value"] for n, m in saved["metrics"].items()}


def test_the_same_recipe_gives_the_same_weights(runs, project: Path, tmp_path: Path) -> None:
    again = groundup.run(project / "recipes" / "digits.toml", *TINY["digits"], out=tmp_path / "again")
    first, second = (Run.open(f).checkpoint().tensors("model.safetensors") for f in (runs("digits"), again))
    assert all(first[name].equal(second[name]) for name in first)


def test_fine_tuning_lowers_the_loss_on_held_out_functions(runs) -> None:
    folder = runs("quickstart") / "finetune"
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    before = report["baselines"]["before"]["loss"]["value"]
    assert report["metrics"]["loss"]["value"] < before
    assert Checkpoint.open(folder / "merged").files


def test_the_language_model_is_held_against_both_baselines(runs) -> None:
    report = json.loads((runs("quickstart") / "report.json").read_text(encoding="utf-8"))
    assert {"xz", "order3"} <= set(report["baselines"])
    assert all("bits_per_byte" in metrics for metrics in report["baselines"].values())


TABLE = """
name = "table"
[data]
source = { use = "scikit_learn", dataset = "wine" }
split = { use = "stratified", column = "label" }
prepare = ["Standardize"]
samples = { use = "Rows", target = "label" }
[model]
use = "MLP"
hidden = [8]
[training]
objective = { use = "supervised", loss = "cross_entropy" }
optimizer = { use = "AdamW", lr = 3e-2 }
steps = 12
keep = "best"
evaluate_every = 3
[evaluation]
metrics = ["accuracy"]
[finetune]
method = { use = "freeze", where = "layers.0.*" }
[finetune.training]
objective = { use = "supervised", loss = "cross_entropy" }
optimizer = { use = "AdamW", lr = 30.0 }
steps = 12
keep = "best"
evaluate_every = 1
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.toml"
    path.write_text(TABLE, encoding="utf-8")
    return path


def test_fine_tuning_keeps_its_best_weights_too(table: Path, tmp_path: Path) -> None:
    folder = groundup.train(table, out=tmp_path / "run")
    tuned = Run.open(groundup.finetune(folder))
    best = tuned.best()[0]
    assert best is not None
    assert best < 12, "a learning rate of 30 should have done harm at the end"
    kept, served = Checkpoint.open(tuned.checkpoints / f"step-{best}"), tuned.checkpoint()
    assert served.folder.name == "merged"
    first, second = (found.tensors("model.safetensors") for found in (kept, served))
    assert all(first[name].equal(second[name]) for name in first)
    base = Run.open(folder).checkpoint().tensors("model.safetensors")
    frozen = [name for name in base if name.startswith("layers.0.")]
    assert frozen
    assert all(base[name].equal(second[name]) for name in frozen)


def test_a_stopped_fine_tuning_is_gone_on_with(table: Path, tmp_path: Path) -> None:
    folder = groundup.train(table, out=tmp_path / "run")
    whole = Run.open(groundup.finetune(folder, out=tmp_path / "whole"))
    cut = Run.open(groundup.finetune(folder))
    steps = sorted(int(path.name[5:]) for path in cut.checkpoints.glob("step-*"))
    for path in (cut.checkpoints / f"step-{steps[-1]}", cut.folder / "chosen.json", cut.folder / "report.json"):
        path.rename(tmp_path / f"gone-{path.name}")
    again = Run.open(groundup.finetune(folder))
    assert again.folder == cut.folder
    first, second = (found.checkpoint().tensors("model.safetensors") for found in (whole, again))
    assert all(first[name].equal(second[name]) for name in first)


def test_fine_tuning_takes_no_other_split(table: Path, tmp_path: Path) -> None:
    folder = groundup.train(table, out=tmp_path / "run")
    with pytest.raises(groundup.GroundupError, match="only finetune"):
        groundup.finetune(folder, "seed=7")


def test_a_run_over_seeds_goes_on_where_it_stopped(table: Path, tmp_path: Path) -> None:
    whole = groundup.train(table, "evaluation.seeds=3", out=tmp_path / "whole")
    cut = groundup.train(table, "evaluation.seeds=3", out=tmp_path / "cut")
    for path in (cut / "report.json", cut / "chosen.json", cut / "seed-1" / "report.json", cut / "seed-2"):
        path.rename(tmp_path / f"gone-{path.parent.name}-{path.name}")
    groundup.train(resume=cut)
    reports = [json.loads((folder / "report.json").read_text(encoding="utf-8"))["metrics"] for folder in (whole, cut)]
    assert reports[0] == reports[1]
    assert groundup.evaluate(cut).metrics["accuracy"].value == reports[0]["accuracy"]["value"]


def test_a_run_that_fails_before_its_first_checkpoint_leaves_nothing(table: Path, tmp_path: Path) -> None:
    with pytest.raises(groundup.GroundupError):
        groundup.train(table, "training.optimizer.lr=1e30", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


FUNCTIONS = """
name = "functions"
[data]
source = { use = "text_files", path = "files" }
split = { use = "by_hash", column = "path", valid = 0.2, test = 0.2 }
samples = { use = "PackedText", length = 64, tokenizer = { use = "BytePairEncoding", vocab_size = 300 } }
[model]
use = "Llama"
hidden_size = 32
num_hidden_layers = 1
num_attention_heads = 2
[training]
objective = { use = "language_modelling" }
optimizer = { use = "AdamW", lr = 1e-2 }
batch_size = 4
steps = 4
[evaluation]
metrics = ["loss"]
[finetune]
method = { use = "lora", rank = 2, where = "blocks.*", dropout = 0.1 }
samples = { use = "FunctionBodies", length = 128 }
[finetune.training]
objective = { use = "language_modelling" }
optimizer = { use = "AdamW", lr = 1e-2 }
batch_size = 2
steps = 10
"""


def test_a_stopped_fine_tuning_on_text_is_gone_on_with_and_learns_no_twin(tmp_path: Path) -> None:
    """One method stands in every file: what train has of it is not learned from, before and after a resume alike."""
    (tmp_path / "files").mkdir()
    for i in range(40):
        own = "\n".join(f"    {word}_{i} = {word} * {i + j}" for j, word in enumerate(("alpha", "beta", "gamma")))
        common = 'def common(self):\n    """Say what every file says."""\n    print(self)\n    return self\n\n\n'
        text = f'{common}def own_{i}(alpha, beta, gamma):\n    """Scale by {i}."""\n{own}\n    return alpha_{i}\n'
        (tmp_path / "files" / f"{i}.py").write_text(text, encoding="utf-8")
    path = tmp_path / "functions.toml"
    path.write_text(FUNCTIONS, encoding="utf-8")
    folder = groundup.train(path, out=tmp_path / "run")
    whole = Run.open(groundup.finetune(folder, out=tmp_path / "whole"))
    cut = Run.open(groundup.finetune(folder))
    last = max(int(found.name[5:]) for found in cut.checkpoints.glob("step-*"))
    for gone in (cut.checkpoints / f"step-{last}", cut.folder / "chosen.json", cut.folder / "report.json"):
        gone.rename(tmp_path / f"gone-{gone.name}")
    again = Run.open(groundup.finetune(folder))
    first, second = (found.checkpoint().tensors("model.safetensors") for found in (whole, again))
    assert all(first[name].equal(second[name]) for name in first)
    shown = "".join(text for text, learned in again.read_json("sample.json") if learned)
    assert "print(self)" not in shown
    with pytest.raises(groundup.GroundupError, match="never overwritten"):
        groundup.finetune(folder)
