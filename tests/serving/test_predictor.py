"""A checkpoint's folder alone gives what the trained model gave, in a person's units, and runs no one else's code."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import nn

from groundup.core.checkpoint import Checkpoint, write_checkpoint
from groundup.core.dataset import Dataset, Splits
from groundup.core.errors import CheckpointError, DataError, GroundupError, NonFiniteError, RecipeError
from groundup.core.novelty import OnNew
from groundup.core.preprocessing import Preprocessing
from groundup.core.recipe import Recipe, recipe_from_dict
from groundup.core.use import TRUSTED, Use, make
from groundup.nn.swap import swap
from groundup.serving import Predictor, Sampling, generate
from groundup.serving.predictor import demand_trusted


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a run has at its end, made without one: fitted preprocessing and a model with random weights."""

    recipe: Recipe
    preprocessing: Preprocessing
    splits: Splits
    model: nn.Module

    def inputs(self, part: Dataset) -> dict[str, torch.Tensor]:
        encoded = self.preprocessing.samples.encode(part)
        inputs: dict[str, torch.Tensor] = encoded.batch(np.arange(len(encoded)))[0]
        return inputs

    def write(self, folder: Path, **texts: str) -> Path:
        """The files that a run writes."""
        carried = {
            "recipe.toml": self.recipe.resolved().to_toml(),
            "preprocessing.json": self.preprocessing.to_json(),
            "sizes.json": json.dumps(self.preprocessing.samples.sizes()),
            "provenance.json": "{}",
            "state.json": "{}",
        }
        renamed = {name.replace("_", "."): text for name, text in texts.items()}
        write_checkpoint(folder, {"model.safetensors": self.model.state_dict()}, {**carried, **renamed})
        return folder


def train(dataset: Dataset, table: dict[str, Any]) -> Trained:
    recipe = recipe_from_dict({"name": "tiny", "training": {"steps": 1}, **table}).checked()
    cut = len(dataset) // 2
    splits = Splits(
        dataset.take(np.arange(cut), "train"),
        dataset.take(np.arange(cut, cut), "valid"),
        dataset.take(np.arange(cut, len(dataset)), "test"),
    )
    steps = [make(use, "prepare") for use in recipe.data.prepare]
    preprocessing, splits = Preprocessing.fit(steps, make(recipe.data.samples, "samples"), splits)
    torch.manual_seed(0)
    model = make(recipe.model, "model", **preprocessing.samples.sizes())
    for change in recipe.swap:
        swap(model, change.where, change.with_)
    return Trained(recipe, preprocessing, splits, model.eval())


def passengers() -> Dataset:
    rng = np.random.default_rng(0)
    ages: list[float | None] = [float(age) for age in rng.integers(1, 80, 120)]
    ages[3] = ages[70] = None
    frame = pl.DataFrame(
        {
            "age": ages,
            "sex": rng.choice(["female", "male"], 120),
            "fare": rng.exponential(30.0, 120),
            "survived": rng.choice(["no", "yes"], 120),
        }
    )
    return Dataset.of(frame, {"sex": "category", "survived": "category"}, origin="passengers.csv")


ROWS: dict[str, Any] = {
    "data": {
        "source": {"use": "csv", "path": "none.csv"},
        "prepare": [
            {"use": "Fill", "columns": ["age"], "method": "median", "indicator": True},
            {"use": "Standardize", "columns": ["age", "fare"]},
            {"use": "OneHot", "columns": ["sex"]},
        ],
        "samples": {"use": "Rows", "target": "survived"},
    },
    "model": {"use": "MLP", "hidden": [8], "dropout": 0.5},
}


@pytest.fixture(scope="module")
def rows() -> Trained:
    return train(passengers(), ROWS)


@pytest.fixture(scope="module")
def text() -> Trained:
    lines = [f"def f{i}(x):\n    return x + {i}\n" for i in range(40)]
    table = {
        "data": {
            "source": {"use": "standard_library"},
            "samples": {"use": "PackedText", "length": 16, "tokenizer": {"use": "BytePairEncoding", "vocab_size": 300}},
        },
        "model": {"use": "Llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    }
    return train(Dataset.of(pl.DataFrame({"text": lines}), {"text": "text"}), table)


# ------------------------------------------------------------------------------------------- equal outputs


def test_rows_from_a_checkpoint_equal_the_trained_models(rows: Trained, tmp_path: Path) -> None:
    predictor = Predictor.load(rows.write(tmp_path / "step-1"))
    assert predictor.task == "classify"
    raw = passengers().frame[60:].drop("_row", "survived").to_dicts()
    answers = predictor.predict(raw)
    with torch.no_grad():
        expected = torch.softmax(rows.model(**rows.inputs(rows.splits.test)).double(), 1).numpy()
    assert len(answers) == 60
    assert [list(answer["probabilities"].values()) for answer in answers] == expected.tolist()
    assert {answer["label"] for answer in answers} <= {"no", "yes"}
    (alone,) = predictor.predict(raw[10])  # the row with a missing age among them
    assert alone["label"] == answers[10]["label"]
    assert alone["notes"] == [note for note in answers[10]["notes"] if note.startswith("age: 1 missing")]
    # As in the test below: a product of one row and of sixty need not agree to the last bit.
    assert alone["probability"] == pytest.approx(answers[10]["probability"], abs=1e-6)


def test_batches_do_not_change_an_answer(rows: Trained) -> None:
    whole = Predictor.from_parts(rows.recipe, rows.preprocessing, rows.model)
    small = dataclasses.replace(whole, batch_size=7)
    raw = passengers().frame[60:].drop("_row", "survived").to_dicts()
    for one, other in zip(whole.predict(raw), small.predict(raw), strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)


def test_a_csv_file_with_a_missing_value_a_new_category_and_a_new_column(rows: Trained, tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("fare,sex,age,cabin\n7.25,male,,C1\n71.3,other,38,\n")
    answers = Predictor.from_parts(rows.recipe, rows.preprocessing, rows.model).predict(path)
    assert len(answers) == 2
    assert any("cabin" in note for note in answers[0]["notes"])


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"age": 1, "sex": "male"}, "fare"),
        ({"age": "old", "sex": "male", "fare": 1}, "age"),
        ([], "empty|no rows|expected"),
        (3, "expected"),
        ("nowhere.csv", "nowhere"),
    ],
)
def test_bad_input_gives_one_clear_error(rows: Trained, raw: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Predictor.from_parts(rows.recipe, rows.preprocessing, rows.model).predict(raw)


def test_images_from_a_file_and_an_array(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    frame = pl.DataFrame(
        {"image": pl.Series(pixels.tolist(), dtype=pl.Array(pl.UInt8, (8, 8))), "label": ["a", "b"] * 20}
    )
    table = {
        "data": {"source": "scikit_learn", "samples": {"use": "Images", "image": "image", "target": "label"}},
        "model": {
            "use": "Sequential",
            "layers": [
                {"use": "Conv2d", "channels": 4, "kernel": 3},
                {"use": "BatchNorm2d"},
                "ReLU",
                "Flatten",
                "Dense",
            ],
        },
    }
    trained = train(Dataset.of(frame, {"image": "image", "label": "category"}), table)
    predictor = Predictor.load(trained.write(tmp_path / "step-1"))
    Image.fromarray(pixels[25]).save(tmp_path / "digit.png")
    with torch.no_grad():
        output = trained.model(**trained.inputs(trained.splits.test))
        expected = torch.softmax(output.double(), 1)[5].tolist()
    for raw in (tmp_path / "digit.png", str(tmp_path / "digit.png"), pixels[25]):
        (answer,) = predictor.predict(raw)
        assert list(answer["probabilities"].values()) == pytest.approx(expected, abs=1e-6)
        assert "notes" not in answer
    Image.fromarray(pixels[25]).resize((16, 16)).save(tmp_path / "large.png")
    assert "resized" in predictor.predict(tmp_path / "large.png")[0]["notes"][0]
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"broken\.png"):
        predictor.predict(tmp_path / "broken.png")


def test_forecasts_in_the_targets_own_units(tmp_path: Path) -> None:
    values = 1000 + 50 * np.sin(np.arange(200) / 5)
    frame = pl.DataFrame({"load": values, "wind": np.cos(np.arange(200) / 7)})
    table = {
        "data": {
            "source": {"use": "csv", "path": "none.csv"},
            "samples": {
                "use": "Windows",
                "target": "load",
                "length": 12,
                "horizon": 3,
                "steps": [{"use": "exponential_filter", "alpha": 0.5}],
            },
        },
        "model": {"use": "LSTM", "hidden": 8},
    }
    trained = train(Dataset.of(frame), table)
    predictor = Predictor.load(trained.write(tmp_path / "step-1"))
    (answer,) = predictor.predict(frame[-12:].to_dicts())
    assert len(answer["values"]) == 3
    assert all(900 < value < 1100 for value in answer["values"])
    assert predictor.predict(frame)[0]["values"] == answer["values"]  # only the last window counts


# ---------------------------------------------------------------------------------------------------- text


def test_text_goes_on_from_a_prompt(text: Trained, tmp_path: Path) -> None:
    predictor = Predictor.load(text.write(tmp_path / "step-1"))
    greedy = Sampling(temperature=0)
    (answer,) = predictor.predict("def f7(x):", max_new_tokens=30, sampling=greedy)
    tokenizer = text.preprocessing.samples.learned_tokenizer
    ids = tokenizer.encode("def f7(x):")
    expected = list(generate(text.model, ids, 30, greedy, stop=[tokenizer.end_of_text], context=16))
    assert answer["prompt"] == "def f7(x):"
    assert answer["completion"] == tokenizer.decode(expected)
    assert answer["tokens"] == len(expected)
    assert answer["ended"] == (len(expected) < 30)
    assert predictor.predict("def f7(x): \n", max_new_tokens=30, sampling=greedy) == [answer]
    assert len(predictor.predict(["def f1", "def f2"], max_new_tokens=2)) == 2


def test_the_pieces_of_a_stream_are_the_whole_text(text: Trained) -> None:
    predictor = Predictor.from_parts(text.recipe, text.preprocessing, text.model)
    for seed in range(5):
        sampling = Sampling(temperature=2.0, seed=seed)
        (answer,) = predictor.predict("def", max_new_tokens=40, sampling=sampling)
        pieces = list(predictor.stream("def", max_new_tokens=40, sampling=sampling))
        assert "".join(pieces) == answer["completion"]
        assert len(pieces) > 1


class Spelling(nn.Module):
    """Says the given tokens one after the other."""

    def __init__(self, ids: Sequence[int], start: int, vocab_size: int) -> None:
        super().__init__()
        self.ids, self.start, self.vocab_size = list(ids), start, vocab_size

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        spoken = tokens.shape[1] - self.start
        following = torch.tensor([*[0] * (self.start - 1), *self.ids[: spoken + 1]])
        return nn.functional.one_hot(following, self.vocab_size)[None].float()


def test_a_character_of_several_tokens_is_streamed_whole(text: Trained) -> None:
    tokenizer = text.preprocessing.samples.learned_tokenizer
    ids = [*tokenizer.encode("é€𝄞x"), tokenizer.end_of_text]
    assert len(ids) == 2 + 3 + 4 + 1 + 1  # bytes: none of these characters was in the training text
    prompt = tokenizer.encode("d")
    model = Spelling(ids, len(prompt), tokenizer.vocab_size)
    predictor = Predictor.from_parts(text.recipe, text.preprocessing, model)
    assert list(predictor.stream("d", sampling=Sampling(temperature=0))) == ["é", "€", "𝄞", "x"]
    (answer,) = predictor.predict("d", sampling=Sampling(temperature=0))
    assert (answer["completion"], answer["ended"]) == ("é€𝄞x", True)
    cut = list(predictor.stream("d", max_new_tokens=4, sampling=Sampling(temperature=0)))
    assert cut == ["é", "�"]


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt_is_refused(text: Trained, prompt: str) -> None:
    with pytest.raises(DataError):
        Predictor.from_parts(text.recipe, text.preprocessing, text.model).predict(prompt)


def test_a_model_of_rows_streams_no_text(rows: Trained) -> None:
    with pytest.raises(DataError, match="its task is classify"):
        Predictor.from_parts(rows.recipe, rows.preprocessing, rows.model).stream("hello")


# ----------------------------------------------------------------------------------- weights that do not fit


def test_tensors_that_do_not_fit_are_named(rows: Trained, tmp_path: Path) -> None:
    state = rows.model.state_dict()
    first = next(iter(state))
    cases: dict[str, tuple[dict[str, torch.Tensor], str]] = {
        "lacks": ({n: v for n, v in state.items() if n != first}, f"lacks '{first}'"),
        "more": ({**state, f"{first}x": torch.ones(1)}, f"no place for, '{first}x'.*Did you mean '{first}'"),
        "renamed": ({f"module.{n}": v for n, v in state.items()}, f"lacks '{min(state)}' and .* more"),
        "shape": ({**state, first: torch.ones(3, 3)}, rf"'{first}' has the shape \(3, 3\)"),
        "empty": ({}, "lacks"),
    }
    for name, (tensors, said) in cases.items():
        folder = rows.write(tmp_path / name / "good")
        opened = Checkpoint.open(folder)
        texts = {file: opened.text(file) for file in opened.files if not file.endswith(".safetensors")}
        write_checkpoint(tmp_path / name / "bad", {"model.safetensors": tensors}, texts)
        with pytest.raises(CheckpointError, match=said):
            Predictor.load(tmp_path / name / "bad")


def test_weights_that_are_not_finite_are_told_by_row(rows: Trained, tmp_path: Path) -> None:
    broken = Predictor.load(rows.write(tmp_path / "step-1"))
    with torch.no_grad():
        next(broken.model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="row 0 is not finite"):
        broken.predict({"age": 1.0, "sex": "male", "fare": 2.0})


def test_a_flipped_bit_is_found_before_anything_is_read(rows: Trained, tmp_path: Path) -> None:
    folder = rows.write(tmp_path / "step-1")
    for name in ("model.safetensors", "preprocessing.json", "recipe.toml", "sizes.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(bytes([content[0] ^ 4]) + content[1:])
        with pytest.raises(CheckpointError, match=name):
            Predictor.load(folder)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"recipe_toml": "name = "}, r"recipe\.toml: not valid TOML"),
        ({"recipe_toml": "nam = 3"}, "nam"),
        ({"preprocessing_json": "{}"}, r"preprocessing\.json"),
        ({"sizes_json": "[]"}, r"sizes\.json"),
        ({"sizes_json": '{"in_features": "many", "out_features": 2}'}, "MLP"),
        ({"sizes_json": "{}"}, "MLP needs"),
    ],
)
def test_texts_that_are_whole_but_wrong_give_one_clear_error(
    rows: Trained, tmp_path: Path, texts: dict[str, str], said: str
) -> None:
    with pytest.raises(GroundupError, match=said):
        Predictor.load(rows.write(tmp_path / "step-1", **texts))


# ---------------------------------------------------------------------- what was done to the model after it


def test_loading_leaves_the_callers_random_numbers_alone(rows: Trained, tmp_path: Path) -> None:
    folder = rows.write(tmp_path / "step-1")
    state = torch.get_rng_state()
    predictor = Predictor.load(folder)
    assert torch.equal(torch.get_rng_state(), state)
    assert not predictor.model.training


def test_a_model_saved_while_fine_tuned_with_lora(text: Trained, tmp_path: Path) -> None:
    method = Use("lora", rank=2, where="blocks.*.attention.*")
    finetune = {"method": {"use": "lora", "rank": 2, "where": "blocks.*.attention.*"}, "training": {"steps": 1}}
    recipe = recipe_from_dict({**text.recipe.to_dict(), "finetune": finetune})
    model = make(text.recipe.model, "model", **text.preprocessing.samples.sizes())
    model.load_state_dict(text.model.state_dict())
    make(method, "method")(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_b" in name:
                parameter.normal_()
    tuned = dataclasses.replace(text, recipe=recipe, model=model.eval())
    read = Predictor.load(tuned.write(tmp_path / "tuned")).model
    tokens = torch.arange(10)[None]
    with torch.no_grad():
        assert torch.equal(read(tokens), model(tokens))
        assert not torch.allclose(read(tokens), text.model(tokens))
    # Before the method was applied, the same recipe reads the plain weights.
    plain = dataclasses.replace(text, recipe=recipe)
    assert torch.equal(Predictor.load(plain.write(tmp_path / "plain")).model(tokens), text.model(tokens))


def test_a_swapped_model(tmp_path: Path) -> None:
    table = {**ROWS, "swap": [{"where": "layers.0", "with": {"use": f"{__name__}:wrap"}}]}
    trained = train(passengers(), table)
    assert any(isinstance(module, Doubled) for module in trained.model.modules())
    folder = trained.write(tmp_path / "step-1")
    with pytest.raises(RecipeError, match="trusted"):
        Predictor.load(folder, swap=swap)
    with pytest.raises(CheckpointError, match=r"'layers\.0'.*pass swap=swap"):
        Predictor.load(folder, trusted=None)
    raw = {"age": 1.0, "sex": "male", "fare": 2.0}
    expected = Predictor.from_parts(trained.recipe, trained.preprocessing, trained.model).predict(raw)
    for trusted in (None, (*TRUSTED, __name__)):
        assert Predictor.load(folder, trusted=trusted, swap=swap).predict(raw) == expected


class Doubled(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = 2 * self.inner(inputs)
        return outputs


def wrap(module: nn.Module) -> nn.Module:
    return Doubled(module)


# --------------------------------------------------------------------------------------------------- trust


def plant(table: dict[str, Any], place: str, evil: dict[str, Any]) -> None:
    if place == "model":
        table["model"] = evil
    elif place == "layers":
        table["model"] = {"use": "groundup.nn:Sequential", "layers": [{"use": "groundup.nn:ReLU"}, evil]}
    elif place == "deeper":
        inner = {"use": "groundup.nn:Residual", "layers": [evil]}
        table["model"] = {"use": "groundup.nn:Sequential", "layers": [inner]}
    elif place == "by name":
        table["model"] = {"use": "groundup.nn:Sequential", "layers": [evil["use"]]}
    elif place == "activation":
        table["model"]["activation"] = evil["use"]
    elif place == "swap":
        table["swap"] = [{"where": "*", "with": evil}]
    elif place == "swap, deeper":
        made = {"use": "groundup.nn:Sequential", "layers": [evil], "input_shape": [5]}
        table["swap"] = [{"where": "layers.0", "with": made}]
    elif place == "method":
        table["finetune"] = {"method": evil, "training": {"steps": 1}}


PLACES = ["model", "layers", "deeper", "by name", "activation", "swap", "swap, deeper", "method"]


@pytest.mark.parametrize("place", PLACES)
def test_a_downloaded_checkpoint_runs_no_code_of_its_own(
    rows: Trained, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_layer.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Layer: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for number, target in enumerate(["evil_layer:Layer", "groundup.core.checkpoint:os.system"]):
        table = rows.recipe.to_dict()
        plant(table, place, {"use": target})
        recipe = recipe_from_dict(table)
        model = rows.model if place != "method" else nn.Linear(1, 1)  # so that the method is asked for
        planted = dataclasses.replace(rows, model=model)
        folder = planted.write(tmp_path / f"step-{number}", recipe_toml=recipe.to_toml())
        with pytest.raises(RecipeError, match=r"trusted|public parts only"):
            Predictor.load(folder, swap=swap)
    assert not (tmp_path / "ran").exists()
    assert "evil_layer" not in sys.modules


@pytest.mark.parametrize("target", ["os:system", "groundup.core.checkpoint:shutil.rmtree"])
def test_a_tokenizer_that_is_made_later_is_looked_at_now(text: Trained, tmp_path: Path, target: str) -> None:
    table = json.loads(text.preprocessing.to_json())
    table["samples"]["arguments"]["tokenizer"]["call"] = target
    with pytest.raises(RecipeError, match=r"trusted|public parts only"):
        Predictor.load(text.write(tmp_path / "step-1", preprocessing_json=json.dumps(table)))


def test_every_string_that_could_become_a_call_is_looked_at() -> None:
    harmless: list[Any] = ["relu", "a: b", "12:30", 3, None, {"use": "torch.nn:ReLU"}, "groundup.nn:Dense"]
    demand_trusted(Use("groundup.nn:Sequential", layers=harmless), "model", TRUSTED)
    hidden: list[Callable[[str], Any]] = [
        lambda name: [[name]],
        lambda name: {"a": {"use": name}},
        lambda name: Use("groundup.nn:Dense", inner=Use(name)),
    ]
    for hide in hidden:
        with pytest.raises(RecipeError, match="trusted"):
            demand_trusted(Use("groundup.nn:Sequential", layers=hide("os:system")), "model", TRUSTED)
        demand_trusted(Use("groundup.nn:Sequential", layers=hide("os:system")), "model", None)


# ------------------------------------------------------------------------------- what train did not have


def test_what_train_did_not_have_is_counted_and_told(rows: Trained, tmp_path: Path) -> None:
    predictor = Predictor.load(rows.write(tmp_path / "step-1"))
    usual = {"age": 30.0, "sex": "male", "fare": 10.0}
    assert "new" not in predictor.predict(usual)[0]
    odd = predictor.predict([usual, {"age": 30.0, "sex": "unknown", "fare": 9e9}, {**usual, "sex": None}])
    assert "new" not in odd[0]
    assert odd[1]["new"] == ["sex: new category", "fare: out of range"]
    assert odd[2]["new"] == ["sex: missing value"]
    assert any("sex: 1 of a category that train did not have ('unknown' at row 1)" in note for note in odd[0]["notes"])
    predictor.predict({"age": 30.0, "sex": "other", "fare": 1.0})
    assert predictor.counters.to_dict() == {
        "rows": 5,
        "new category": {"sex": 2},
        "out of range": {"fare": 1},
        "missing value": {"sex": 1},
    }


def with_behaviour(trained: Trained, **on_new: Any) -> Predictor:
    schema = dataclasses.replace(trained.preprocessing.schema, on_new=OnNew(**on_new))  # type: ignore[type-var]
    preprocessing = Preprocessing.from_json(dataclasses.replace(trained.preprocessing, schema=schema).to_json())
    return Predictor.from_parts(trained.recipe, preprocessing, trained.model)


def test_a_missing_column(rows: Trained) -> None:
    without_age = [{"sex": "male", "fare": 10.0}]
    with pytest.raises(DataError, match="lacks the columns 'age'"):
        with_behaviour(rows).predict(without_age)
    answer = with_behaviour(rows, missing_column="missing").predict(without_age)[0]
    assert answer["new"] == ["age: missing column"]
    assert any("age: the column is not there; made missing" in note for note in answer["notes"])
    typical = rows.preprocessing.schema.columns["age"].typical  # type: ignore[attr-defined]
    filled = with_behaviour(rows, missing_column="fill")
    given = filled.predict([{"age": typical, **without_age[0]}])[0]
    assert filled.predict(without_age)[0]["probability"] == given["probability"]
    assert filled.counters.to_dict()["missing column"] == {"age": 1}


def test_what_is_refused_names_row_column_and_value(rows: Trained) -> None:
    with pytest.raises(DataError, match=r"row 1, column 'sex': read 'unknown', but train had .*new_category"):
        with_behaviour(rows, new_category="refuse").predict(
            [{"age": 3.0, "sex": "male", "fare": 10.0}, {"age": 3.0, "sex": "unknown", "fare": 10.0}]
        )


def test_the_recipe_declares_it() -> None:
    trained = train(passengers(), {**ROWS, "data": {**ROWS["data"], "on_new": {"out_of_range": "clip"}}})
    assert trained.recipe.data.on_new == OnNew(out_of_range="clip")
    with pytest.raises(RecipeError, match=r"recipe\.data\.on_new\.out_of_range.*'pass'"):
        recipe_from_dict({**ROWS, "data": {**ROWS["data"], "on_new": {"out_of_range": "ignore"}}})
