"""Augmentation from a recipe, end to end: text in two languages, mixed targets, and a resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import groundup
from groundup import terminal
from groundup.core.errors import RecipeError
from groundup.core.run import Run

REVIEWS = """
name = "reviews"
model = {{ use = "TextCNN", features = 16, channels = 16 }}
[data]
source = {source}
split = {{ use = "stratified", column = "{target}", valid = 0.2, test = 0.2 }}
samples = {{ use = "LabelledText", column = "{column}", target = "{target}", length = 40 }}
augment = [{augment}]
[training]
optimizer = {{ use = "AdamW", lr = 5e-3 }}
epochs = 12
batch_size = 16
compile = "off"
[evaluation]
metrics = ["accuracy"]
baselines = ["majority", "logistic_regression"]
"""
GOOD, BAD = ("clean room kind staff", "dirty room rude staff")
STEPS = """
  { use = "SynonymReplacement", synonyms = "table.txt", alpha = 0.2 },
  { use = "RandomInsertion", synonyms = "table.txt" }, { use = "RandomSwap" },
  { use = "RandomDeletion" }, { use = "EDA", synonyms = "table.txt" }, { use = "AEDA", probability = 0.5 },
"""


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    with terminal.quiet():
        yield


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reviews")
    (folder / "table.txt").write_text("room chamber\nstaff crew\nkind friendly\ndirty filthy\n", encoding="utf-8")
    places = ["berlin", "lisbon", "oslo", "kyoto", "quito", "cairo", "lima", "perth", "turin", "york"]
    lines = [f"{text} near {place} station number {'abcdef'[i]},{label}" for i in range(6) for place in places
             for text, label in ((GOOD, "positive"), (BAD, "negative"))]  # fmt: skip
    (folder / "reviews.csv").write_text("\n".join(["words,mood", *lines]) + "\n", encoding="utf-8")
    source = '{ use = "csv", path = "reviews.csv" }'
    text = REVIEWS.format(source=source, column="words", target="mood", augment=STEPS)
    # The lines are made from one pattern, so nearly all have a twin elsewhere; it is augmentation that is looked at.
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.data.any_size.find_leaks", lambda splits, source: ())


def test_text_is_classified_from_a_recipe(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apart(monkeypatch)
    folder = groundup.run(recipe, out=tmp_path / "run")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["metrics"]["accuracy"]["value"] > 0.95
    (answer,) = groundup.predict(folder, "a dirty place with rude people")
    assert answer["label"] == "negative"
    again = groundup.run(recipe, out=tmp_path / "again")
    first, second = (Run.open(f).checkpoint().tensors("model.safetensors") for f in (folder, again))
    assert all(first[name].equal(second[name]) for name in first)


def test_mixed_targets_reach_the_loss_or_are_refused(project: Path, tmp_path: Path) -> None:
    text = (project / "recipes" / "digits.toml").read_text(encoding="utf-8")
    mixed = text.replace("high = 1.1 },", 'high = 1.1 }, { use = "MixUp" }, { use = "CutMix", probability = 0.5 }')
    (tmp_path / "mixed.toml").write_text(mixed, encoding="utf-8")
    folder = groundup.run(tmp_path / "mixed.toml", "training.epochs=2", out=tmp_path / "run")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["metrics"]["accuracy"]["value"] > 0.5
    loss = 'training.objective.loss="torch.nn.functional:nll_loss"'
    with pytest.raises(RecipeError, match=r"recipe\.data\.augment: MixUp and CutMix: mixing makes probabilities"):
        groundup.run(tmp_path / "mixed.toml", "training.epochs=1", loss, out=tmp_path / "refused")


@pytest.mark.slow
def test_chinese_reviews_are_classified(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("jieba")
    cilin = (shared_data / "lex_cilin" / "cilin_ex.txt").as_posix()
    csv = (shared_data / "cls_zh_sophonplus" / "ChnSentiCorp_htl_all.csv").as_posix()
    text = REVIEWS.format(
        source=f'{{ use = "csv", path = "{csv}" }}',
        column="review",
        target="label",
        augment=f'{{ use = "EDA", synonyms = "{cilin}", probability = 0.3 }}',
    )
    clean = 'clean = [{ use = "drop_short", column = "review", characters = 2 }, ' \
            '{ use = "drop_near_duplicates", column = "review" }]\nsplit'  # fmt: skip
    (tmp_path / "recipe.toml").write_text(text.replace("split", clean, 1), encoding="utf-8")
    folder = groundup.run(tmp_path / "recipe.toml", "training.epochs=2", "training.batch_size=32", out=tmp_path / "run")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    accuracy, majority = report["metrics"]["accuracy"], report["baselines"]["majority"]["accuracy"]
    assert accuracy["value"] > majority["value"] + 0.08
