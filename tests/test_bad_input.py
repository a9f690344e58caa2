"""What a person can do wrong gives one clear error that names what and where, exit status 1, and leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from groundup.cli import main

RECIPE = """
name = "tiny"
[data]
source = {{ use = "csv", path = "{path}" }}
split = {{ use = "random", valid = 0.2, test = 0.2 }}
prepare = [{{ use = "Standardize" }}]
samples = {{ use = "Rows", target = "{target}" }}
[model]
use = "MLP"
hidden = [4]
[training]
objective = {{ use = "supervised", loss = "cross_entropy" }}
optimizer = {{ use = "AdamW", lr = 1e-2 }}
steps = 6
save_every = 2
[evaluation]
metrics = ["accuracy"]
{more}
"""


def write_recipe(folder: Path, path: str = "table.csv", target: str = "kind", more: str = "") -> str:
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(path=path, target=target, more=more), encoding="utf-8")
    return str(recipe)


def write_table(folder: Path, constant: bool = False) -> Path:
    table = folder / "table.csv"
    rows = [f"{i % 7},{(i * 5) % 11},{'a' if constant or i % 2 else 'b'}" for i in range(60)]
    table.write_text("width,height,kind\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return table


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 1
    found = capsys.readouterr().err
    assert "Traceback" not in found
    assert not list(Path("runs").glob("*/checkpoints/*"))
    return found


def test_the_tiny_recipe_is_fine(folder: Path) -> None:
    assert main(["train", write_recipe(folder), "--out", "run"]) == 0
    assert (folder / "run" / "report.html").is_file()


def test_a_recipe_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.toml" in refused(capsys, "train", "nowhere.toml")


def test_a_recipe_that_cannot_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.toml").write_text("name = [", encoding="utf-8")
    assert "broken.toml" in refused(capsys, "train", "broken.toml")


def test_a_misspelt_field(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = refused(capsys, "train", write_recipe(folder), "training.batchsize=3")
    assert "recipe.training.batchsize" in found
    assert "batch_size" in found


def test_a_file_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing.csv" in refused(capsys, "train", write_recipe(folder, path="nothing.csv"))
    assert not Path("runs").exists()


def test_an_empty_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty.csv").write_bytes(b"")
    found = refused(capsys, "train", write_recipe(folder, path="empty.csv"))
    assert "empty.csv" in found
    assert "is empty" in found or "no rows" in found or "nothing" in found


def test_a_column_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = refused(capsys, "train", write_recipe(folder, target="kindd"))
    assert "'kindd'" in found
    assert "Did you mean 'kind'?" in found


def test_a_target_that_is_constant(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(folder, constant=True)
    found = refused(capsys, "train", write_recipe(folder))
    assert "kind" in found
    assert not Path("runs").exists()


def test_an_image_that_is_not_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("cats", "dogs"):
        (folder / "pictures" / label).mkdir(parents=True)
        (folder / "pictures" / label / "one.png").write_text("not an image", encoding="utf-8")
    text = Path(write_recipe(folder)).read_text(encoding="utf-8")
    text = text.replace('{ use = "csv", path = "table.csv" }', '{ use = "image_folder", path = "pictures" }')
    text = text.replace('{ use = "Rows", target = "kind" }', '{ use = "Images", image = "image", target = "label" }')
    (folder / "images.toml").write_text(text, encoding="utf-8")
    assert "pictures" in refused(capsys, "train", "images.toml")


def test_an_existing_run_is_never_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(folder)
    assert main(["train", recipe, "--out", "run"]) == 0
    before = {p: p.read_bytes() for p in (folder / "run").rglob("*") if p.is_file()}
    capsys.readouterr()
    assert "never overwritten" in refused(capsys, "train", recipe, "--out", "run")
    assert before == {p: p.read_bytes() for p in (folder / "run").rglob("*") if p.is_file()}


def test_a_checkpoint_with_a_flipped_bit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", write_recipe(folder), "--out", "run"]) == 0
    name = json.loads((folder / "run" / "chosen.json").read_text(encoding="utf-8"))["checkpoint"]
    weights = folder / "run" / name / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    capsys.readouterr()
    assert main(["predict", "run", '{"width": 1, "height": 2}']) == 1
    found = capsys.readouterr().err
    assert "model.safetensors" in found
    assert "SHA-256" in found


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(folder: Path) -> None:
    """The run is cut short behind step 4; its checkpoint is damaged; resuming starts from step 2 and ends the same."""
    recipe = write_recipe(folder)
    assert main(["train", recipe, "--out", "whole"]) == 0
    assert main(["train", recipe, "--out", "cut"]) == 0
    for left_over in ("chosen.json", "report.json"):
        (folder / "cut" / left_over).unlink()
    steps = sorted((folder / "cut" / "checkpoints").glob("step-*"), key=lambda p: int(p.name[5:]))
    weights = steps[-1] / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    assert main(["train", "--resume", "cut"]) == 0
    same = [(folder / run / "checkpoints" / "step-6" / "model.safetensors").read_bytes() for run in ("whole", "cut")]
    assert same[0] == same[1]


def test_a_full_disk(folder: Path) -> None:
    """A limit on file size stands in for the disk: writing the first checkpoint fails, and no part of it stays."""
    recipe = write_recipe(folder, more="")
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "import groundup.cli as cli, groundup.workflow;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (24000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]));"
        f"sys.exit(cli.main(['train', {recipe!r}, 'model.hidden=[512, 512]', '--out', 'run']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "could not be written" in done.stderr or "cannot be written" in done.stderr
    assert not (folder / "run").exists()


def test_a_metric_that_does_not_fit_the_task(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = refused(capsys, "check", write_recipe(folder), 'evaluation.metrics=["rmse"]')
    assert "recipe.evaluation.metrics[0]" in found


def test_prompts_for_a_model_that_writes_no_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "recipe.prompts" in refused(capsys, "run", write_recipe(folder), 'prompts=["x"]')


def test_no_validation_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "recipe.data.split.valid" in refused(capsys, "train", write_recipe(folder), "data.split.valid=0.0")


def test_an_error_in_a_part_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.py").write_text("def loss(output, targets):\n    return undefined_name\n", encoding="utf-8")
    found = refused(capsys, "train", write_recipe(folder), "training.objective.loss=mine:loss")
    assert "mine.py, line 2: NameError" in found


def test_a_part_of_ones_own_that_is_no_python(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken_part.py").write_text("def (:\n", encoding="utf-8")
    assert "broken_part.py, line 1" in refused(
        capsys, "train", write_recipe(folder), "training.objective.loss=broken_part:loss"
    )


def test_rows_that_cannot_be_read_lie_in_the_quarantine_of_the_run(folder: Path) -> None:
    table = folder / "table.csv"
    table.write_text(table.read_text(encoding="utf-8") + "1,2\n", encoding="utf-8")
    assert main(["train", write_recipe(folder), "--out", "run"]) == 0
    (line,) = (folder / "run" / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    assert (found["line"], found["text"]) == (62, "1,2")
    assert found["reason"].startswith("wrong number of cells")
    data = json.loads((folder / "run" / "data.json").read_text(encoding="utf-8"))
    assert (data["read"], data["accepted"], data["rejected"]) == (61, 60, 1)
    assert sum(data["rows"].values()) == 60
    schema = json.loads((folder / "run" / "schema.json").read_text(encoding="utf-8"))
    assert schema["columns"]["kind"]["categories"] == ["b", "a"] or schema["columns"]["kind"]["categories"] == [
        "a",
        "b",
    ]


def test_too_many_rows_that_cannot_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = folder / "table.csv"
    table.write_text(table.read_text(encoding="utf-8") + "1,2\n" * 10, encoding="utf-8")
    found = refused(capsys, "train", write_recipe(folder))
    assert "table.csv, line 62: wrong number of cells" in found
    assert "max_rejected" in found


def test_a_source_of_ones_own_and_what_is_declared_for_predictions(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "my_rows.py").write_text(
        "def rows():\n    for i in range(60):\n        yield {'width': i % 7, 'height': i % 11, 'kind': 'ab'[i % 2]}\n",
        encoding="utf-8",
    )
    text = Path(write_recipe(folder)).read_text(encoding="utf-8")
    text = text.replace('{ use = "csv", path = "table.csv" }', '{ use = "my_rows:rows" }')
    (folder / "mine.toml").write_text(
        text.replace("[data]", '[data]\non_new = { out_of_range = "clip" }'), encoding="utf-8"
    )
    assert main(["train", "mine.toml", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["predict", "run", '{"width": 900, "height": 3}']) == 0
    clipped = capsys.readouterr().out
    assert "width: out of range" in clipped
    assert "clipped" in clipped
