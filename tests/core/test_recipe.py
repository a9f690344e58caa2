from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.core.errors import RecipeError
from groundup.core.recipe import (
    DataRecipe,
    Evaluation,
    Finetune,
    Group,
    Init,
    Recipe,
    Swap,
    Training,
    read_recipe,
    recipe_from_dict,
)
from groundup.core.use import Use, make

FULL = """
name = "full"
seed = 3
model = { use = "MLP", hidden = [128, 64], dropout = 0.1 }
prompts = ["a", "b"]

[data]
source = { use = "csv", path = "../rows.csv", missing = ["NA"] }
clean = [{ use = "drop_columns", columns = ["Name"] }]
split = { use = "random", valid = 0.2 }
prepare = ["Fill", { use = "Fill", columns = ["Age"], method = "median", indicator = true }]
samples = { use = "Rows", target = "Survived" }

[training]
objective = { use = "supervised", loss = { use = "focal", gamma = 3 } }
optimizer = { use = "AdamW", lr = 1e-2, betas = [0.9, 0.95] }
schedule = { use = "cosine", warmup = 0.1 }
batch_size = 64
epochs = 4
groups = [{ where = "*.bias", weight_decay = 0 }]

[evaluation]
metrics = ["accuracy"]
seeds = 5

[finetune]
method = { use = "lora", rank = 4 }
training = { steps = 10 }

[[swap]]
where = "layers.0"
with = { use = "Dense", in_features = 3 }

[[init]]
where = "*.weight"
init = "he_normal"
"""

IN_PYTHON = """
from groundup import DataRecipe, Evaluation, Finetune, Recipe, Training, Use
from groundup.core.recipe import Group, Init, Swap

recipe = Recipe(
    name="full",
    seed=3,
    model=Use("MLP", hidden=(128, 64), dropout=0.1, bias=True),
    prompts=("a", "b"),
    data=DataRecipe(
        source=Use("csv", path="../rows.csv", missing=["NA"], limit=None),
        clean=(Use("drop_columns", columns=["Name"]),),
        split=Use("named_parts:random", valid=0.2, test=0.1),
        prepare=(Use("Fill"), Use("Fill", columns=["Age"], method="median", indicator=True)),
        samples=Use("Rows", target="Survived"),
    ),
    training=Training(
        objective=Use("supervised", loss=Use("named_parts:focal", gamma=3)),
        optimizer=Use("AdamW", betas=(0.9, 0.95), lr=0.01),
        schedule=Use("cosine", warmup=0.1),
        batch_size=64,
        epochs=4,
        groups=(Group(where="*.bias", weight_decay=0),),
    ),
    evaluation=Evaluation(metrics=(Use("accuracy"),), seeds=5),
    finetune=Finetune(method=Use("lora", rank=4, where=None), training=Training(steps=10)),
    swap=(Swap(where="layers.0", with_=Use("Dense", in_features=3)),),
    init=(Init(where="*.weight", init=Use("he_normal")),),
)
"""

SHORT = """
name = "short"
model = { use = "MLP", hidden = [8] }
data.source = { use = "csv", path = "rows.csv" }
data.samples = { use = "Rows", target = "y" }
training.steps = 10
"""


@pytest.fixture(autouse=True)
def named(parts: ModuleType) -> ModuleType:
    """Every bare name means a part of the tests."""
    return parts


@pytest.fixture
def full(tmp_path: Path) -> Path:
    path = tmp_path / "full.toml"
    path.write_text(FULL, encoding="utf-8")
    return path


@pytest.fixture
def short(tmp_path: Path) -> Path:
    path = tmp_path / "short.toml"
    path.write_text(SHORT, encoding="utf-8")
    return path


def of(text: str, folder: Path = Path()) -> Recipe:
    return recipe_from_dict(tomllib.loads(text), folder).checked()


def digest_with(line: str, text: str = SHORT) -> str:
    return of(f"{text}\n{line}").digest()


# ------------------------------------------------------------------------------- the two faces of a recipe


def test_toml_and_python_give_equal_recipes_with_equal_digests(full: Path) -> None:
    path = full.with_suffix(".py")
    path.write_text(IN_PYTHON, encoding="utf-8")
    toml, python = read_recipe(full), read_recipe(path)
    assert toml.resolved() == python.resolved()
    assert toml.digest() == python.digest()
    assert len(toml.digest()) == 64
    assert toml.folder == python.folder == full.parent


def test_what_is_read_is_typed_throughout(full: Path) -> None:
    recipe = read_recipe(full)
    assert recipe.model == Use("named_parts:MLP", hidden=[128, 64], dropout=0.1)
    assert recipe.data.source.arguments["path"] == Path("../rows.csv")
    assert recipe.training.objective.arguments["loss"] == Use("named_parts:focal", gamma=3.0)
    assert recipe.training.groups == (Group(where="*.bias", weight_decay=0.0),)
    assert recipe.swap == (Swap(where="layers.0", with_=Use("named_parts:Dense", in_features=3)),)
    assert recipe.init == (Init(where="*.weight", init=Use("named_parts:he_normal")),)
    assert recipe.training.epochs == 4.0
    assert recipe.finetune is not None
    assert recipe.finetune.training.steps == 10


def test_a_resolved_recipe_spells_out_every_default(full: Path) -> None:
    resolved = read_recipe(full).resolved()
    assert resolved.training.optimizer == Use("named_parts:AdamW", lr=0.01, betas=[0.9, 0.95])
    assert resolved.data.split == Use("named_parts:random", valid=0.2, test=0.1)
    assert resolved.to_dict()["training"]["precision"] == "auto"
    assert resolved.resolved() == resolved


def test_a_recipe_written_as_toml_reads_back_equal(full: Path, tmp_path: Path) -> None:
    for recipe in (read_recipe(full), read_recipe(full).resolved()):
        path = tmp_path / "again.toml"
        path.write_text(recipe.to_toml(), encoding="utf-8")
        again = read_recipe(path)
        assert dataclasses.replace(again, folder=recipe.folder) == recipe.checked()
        assert again.digest() == recipe.digest()


def test_a_saved_recipe_does_not_fix_what_the_run_supplies(short: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.toml"
    saved.write_text(read_recipe(short).resolved().to_toml(), encoding="utf-8")
    again = read_recipe(saved, ["seed=5"])
    assert make(again.data.split, "split", seed=again.seed)("rows")[-1] == 5
    assert again.digest() == read_recipe(short, ["seed=5"]).digest()


def test_what_is_switched_off_stays_off() -> None:
    off = of(f"{SHORT}\ntraining.clip_norm = false")
    assert off.training.clip_norm is None
    assert off.digest() != of(SHORT).digest()
    again = of(off.to_toml())
    assert again.training.clip_norm is None
    python = dataclasses.replace(of(SHORT), training=Training(steps=10, clip_norm=None))
    assert of(python.resolved().to_toml()).digest() == python.digest() == off.digest()


def test_dates_are_values_too() -> None:
    recipe = of(f'{SHORT}\ndata.clean = [{{ use = "since", day = 2013-05-01 }}]')
    assert recipe.digest() != digest_with('data.clean = [{ use = "since", day = 2013-05-02 }]')
    assert of(recipe.to_toml()) == recipe


# ------------------------------------------------------------------------------------------------ digests

SPELLINGS = {
    "a full path": ('{ use = "MLP"', '{ use = "named_parts:MLP"'),
    "a default given": ("hidden = [8] }", "hidden = [8], dropout = 0.0, bias = true }"),
    "an int for a float": ("hidden = [8] }", "hidden = [8], dropout = 0 }"),
    "a field's default": ("training.steps = 10", "training.steps = 10\ntraining.batch_size = 32\nseed = 0"),
    "a part's default": ("training.steps = 10", 'training.steps = 10\ntraining.optimizer = "AdamW"'),
    "a nested default": (
        "training.steps = 10",
        'training.steps = 10\ntraining.objective = { use = "supervised", loss = "cross_entropy" }',
    ),
    "another order": ('name = "short"\n', ""),
    "tables": ("training.steps = 10", "[training]\nsteps = 10"),
    "an empty list": ("training.steps = 10", "training.steps = 10\ndata.clean = []\nprompts = []"),
    "a float where float is asked": ("training.steps = 10", "training.steps = 10\ntraining.clip_norm = 1"),
}


@pytest.mark.parametrize(("old", "new"), SPELLINGS.values(), ids=SPELLINGS)
def test_spelling_does_not_change_the_digest(old: str, new: str) -> None:
    assert old in SHORT
    text = SHORT.replace(old, new)
    text = text if "name =" in text else 'name = "short"\n' + text
    assert of(text).digest() == of(SHORT).digest()


def test_the_folder_is_no_part_of_the_digest(tmp_path: Path) -> None:
    assert of(SHORT, tmp_path).digest() == of(SHORT).digest()


MEANINGS = {
    "the name": ('"short"', '"other"'),
    "a seed": ("training.steps = 10", "training.steps = 10\nseed = 1"),
    "the budget": ("training.steps = 10", "training.steps = 11"),
    "the kind of budget": ("training.steps = 10", "training.epochs = 10"),
    "an argument": ("hidden = [8]", "hidden = [9]"),
    "the length of a list": ("hidden = [8]", "hidden = [8, 8]"),
    "an option": ("hidden = [8]", "hidden = [8], dropout = 0.1"),
    "a flag": ("hidden = [8]", "hidden = [8], bias = false"),
    "a part": ('{ use = "MLP", hidden = [8] }', '{ use = "Dense", in_features = 8 }'),
    "a path": ("rows.csv", "other.csv"),
    "a step": ("training.steps = 10", 'training.steps = 10\ndata.prepare = ["Fill"]'),
    "a step twice": ("training.steps = 10", 'training.steps = 10\ndata.prepare = ["Fill", "Fill"]'),
    "a nested option": (
        "training.steps = 10",
        'training.steps = 10\ntraining.objective = { use = "supervised", loss = { use = "focal", gamma = 2.5 } }',
    ),
    "what the run would supply": (
        "training.steps = 10",
        'training.steps = 10\ndata.split = { use = "random", seed = 0 }',
    ),
}


def test_every_meaningful_change_changes_the_digest() -> None:
    digests = {of(SHORT).digest()}
    for old, new in MEANINGS.values():
        assert old in SHORT
        digests.add(of(SHORT.replace(old, new)).digest())
    assert len(digests) == len(MEANINGS) + 1


def test_the_digest_is_the_same_in_every_process(short: Path) -> None:
    code = (
        "import sys, importlib.util as i\n"
        "spec = i.spec_from_file_location('named_parts', sys.argv[2]); module = i.module_from_spec(spec)\n"
        "sys.modules['named_parts'] = module; spec.loader.exec_module(module)\n"
        "from groundup.core import recipe, use\n"
        "use.HOMES = dict.fromkeys(use.HOMES, ('named_parts',))\n"
        "print(recipe.read_recipe(sys.argv[1]).digest())"
    )
    parts = Path(__file__).with_name("named_parts.py")
    command = [sys.executable, "-c", code, str(short), str(parts)]
    seeded = {**os.environ, "PYTHONHASHSEED": "7"}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=seeded).stdout
    assert printed.strip() == read_recipe(short).digest()


# ------------------------------------------------------------------------------------------------- errors

WRONG = {
    "an unknown field": ("sed = 3", "recipe.sed: no such field. Did you mean 'seed'?"),
    "an unknown table": ("[trainig]\nsteps = 1", "recipe.trainig: no such field. Did you mean 'training'?"),
    "an unknown field below": ("training.step = 3", "recipe.training.step: no such field. Did you mean 'steps'?"),
    "the folder": ('folder = "x"', "recipe.folder: no such field."),
    "a misspelt argument": (
        'training.optimizer = { use = "AdamW", learnrate = 1 }',
        "recipe.training.optimizer.learnrate: AdamW takes no argument 'learnrate'. There is: betas, fused, lr, params.",
    ),
    "a misspelt part": (
        'training.optimizer = "AdmW"',
        "recipe.training.optimizer: there is no 'AdmW' in named_parts. Did you mean 'AdamW'?",
    ),
    "a misspelt part in a list": (
        'evaluation.metrics = ["accuracy", "acuracy"]',
        "recipe.evaluation.metrics[1]: there is no 'acuracy' in named_parts. Did you mean 'accuracy'?",
    ),
    "a misspelt nested part": (
        'training.objective = { use = "supervised", loss = { use = "foccal" } }',
        "recipe.training.objective.loss: there is no 'foccal' in named_parts. Did you mean 'focal'?",
    ),
    "a swap's part": ('swap = [{ where = "x", with = "Dens" }]', "recipe.swap[0].with: there is no 'Dens'"),
    "an init's part": ('init = [{ where = "x", init = "he_norml" }]', "recipe.init[0].init: there is no 'he_norml'"),
    "a wrong type": ('training.batch_size = "64"', "recipe.training.batch_size: read '64', expected a whole number."),
    "a wrong choice": ('training.precision = "fp16"', "recipe.training.precision: read 'fp16', expected 'auto' or"),
    "a wrong type of an argument": (
        'training.schedule = { use = "cosine", warmup = "long" }',
        "recipe.training.schedule.warmup: read 'long', expected a number.",
    ),
    "no list": ('data.clean = "drop_columns"', "recipe.data.clean: read 'drop_columns', expected a list."),
    "no part": ("training.schedule = 3", "recipe.training.schedule: read 3, expected a table such as { use ="),
    "two budgets": (
        "training.epochs = 3",
        "recipe.training: exactly one of steps, epochs and minutes sets the budget; ",
    ),
    "a negative size": ("training.batch_size = -1", "recipe.training.batch_size: read -1, expected more than 0."),
    "no period": ("training.evaluate_every = 0", "recipe.training.evaluate_every: read 0, expected more than 0."),
    "no seeds": ("evaluation.seeds = 0", "recipe.evaluation.seeds: read 0, expected more than 0."),
    "a negative seed": ("seed = -1", "recipe.seed: read -1, expected 0 or more."),
    "no budget to fine-tune": (
        "finetune.training.batch_size = 3",
        "recipe.finetune.training: exactly one of steps, epochs and minutes sets the budget; read none of them.",
    ),
    "no number": (
        "finetune.training.minutes = nan",
        "recipe.finetune.training.minutes: read nan, expected more than 0.",
    ),
}


@pytest.mark.parametrize(("line", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused_with_its_path_and_the_nearest_name(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(f"{SHORT}\n{line}\n", encoding="utf-8")
    with pytest.raises(RecipeError) as refused:
        read_recipe(path)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "a b"])
def test_a_name_that_is_no_folders_name_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"^recipe\.name: read"):
        of(SHORT.replace('"short"', f'"{name}"'))


def test_a_name_in_any_script_is_allowed() -> None:
    assert of(SHORT.replace('"short"', '"数字-1.2_a"')).name == "数字-1.2_a"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "recipe.name: this field is required and is not there."),
        (b"name = ", "bad.toml: not valid TOML: "),
        (b"name = 'a'\nname = 'b'", "bad.toml: not valid TOML: "),
        ("name = 'é'".encode("latin-1"), "bad.toml: not UTF-8 text (byte 8)."),
        (b"\x00\x01", "bad.toml: not valid TOML: "),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as refused:
        read_recipe(path)
    assert said in str(refused.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(RecipeError, match=r"there is no such recipe file\.$"):
            read_recipe(path)


def test_a_byte_order_mark_is_read_over(short: Path) -> None:
    short.write_bytes(b"\xef\xbb\xbf" + short.read_bytes())
    assert read_recipe(short).name == "short"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1", "expected a line `recipe = Recipe(...)`, found NoneType."),
        ("recipe = {}", "expected a line `recipe = Recipe(...)`, found dict."),
        ("x = 1\nrecipe = = 1", ", line 2: SyntaxError: invalid syntax"),
        ("import nothing_of_the_kind", ", line 1: ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("def f():\n    return 1 / 0\n\nf()", ", line 2: ZeroDivisionError: division by zero"),
    ],
)
def test_a_python_file_that_is_no_recipe_is_refused(tmp_path: Path, source: str, said: str) -> None:
    path = tmp_path / "recipe.py"
    path.write_text(source)
    with pytest.raises(RecipeError) as refused:
        read_recipe(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_python_recipe_is_read_as_strictly_as_toml(tmp_path: Path) -> None:
    path = tmp_path / "recipe.py"
    for old, new, said in (
        ('optimizer=Use("AdamW"', 'optimizer=Use("AdamV"', "recipe.training.optimizer: there is no 'AdamV'"),
        ('model=Use("MLP"', 'model=Use("MLP", depth=3', "recipe.model.depth: MLP takes no argument 'depth'"),
        ("batch_size=64", "batch_size=64.0", "recipe.training.batch_size: read 64.0, expected a whole number."),
        ('prompts=("a", "b")', 'prompts="ab"', "recipe.prompts: read 'ab', expected a list."),
        (
            "dropout=0.1",
            "dropout=print",
            "recipe.model.dropout: read <built-in function print>, which cannot be written",
        ),
        ("seed=3", "seed=3, sed=4", "TypeError: "),
    ):
        assert old in IN_PYTHON
        path.write_text(IN_PYTHON.replace(old, new))
        with pytest.raises(RecipeError) as refused:
            read_recipe(path)
        assert said in str(refused.value)


def test_a_module_beside_the_recipe_can_be_named_in_it(short: Path) -> None:
    (short.parent / "beside_this_recipe.py").write_text(
        "class Focal:\n    def __init__(self, gamma: float = 2.0): ...\n"
    )
    override = 'training.objective={use="supervised", loss={use="beside_this_recipe:Focal", gamma=1}}'
    recipe = read_recipe(short, [override])
    assert recipe.training.objective.arguments["loss"] == Use("beside_this_recipe:Focal", gamma=1.0)
    del sys.modules["beside_this_recipe"]


# ---------------------------------------------------------------------------------------------- overrides

OVERRIDES: dict[str, Any] = {
    "training.optimizer.lr=1e-4": lambda r: r.training.optimizer.arguments["lr"] == 1e-4,
    "training.optimizer.lr=1": lambda r: r.training.optimizer.arguments["lr"] == 1.0,
    "training.optimizer=AdamW": lambda r: r.training.optimizer == Use("named_parts:AdamW"),
    "training.batch_size = 7": lambda r: r.training.batch_size == 7,
    "recipe.training.batch_size=7": lambda r: r.training.batch_size == 7,
    "training.precision=bf16": lambda r: r.training.precision == "bf16",
    'training.precision="bf16"': lambda r: r.training.precision == "bf16",
    "training.clip_norm=false": lambda r: r.training.clip_norm is None,
    "training.optimizer.betas=[0.8,0.9]": lambda r: r.training.optimizer.arguments["betas"] == (0.8, 0.9),
    "model.hidden=[1, 2, 3]": lambda r: r.model.arguments["hidden"] == [1, 2, 3],
    "model.hidden.1=5": lambda r: r.model.arguments["hidden"] == [128, 5],
    "model.hidden[1]=5": lambda r: r.model.arguments["hidden"] == [128, 5],
    "model.dropout=-0.5": lambda r: r.model.arguments["dropout"] == -0.5,
    'model={use="Dense", in_features=-1}': lambda r: r.model == Use("named_parts:Dense", in_features=-1),
    "data.prepare.1.method=mean": lambda r: r.data.prepare[1].arguments["method"] == "mean",
    "recipe.data.prepare[1].method=mean": lambda r: r.data.prepare[1].arguments["method"] == "mean",
    "data.prepare.0.indicator=true": lambda r: r.data.prepare[0] == Use("named_parts:Fill", indicator=True),
    "data.source.missing.0=-": lambda r: r.data.source.arguments["missing"] == ["-"],
    "data.source.path=a=b.csv": lambda r: r.data.source.arguments["path"] == Path("a=b.csv"),
    "data.clean=[]": lambda r: r.data.clean == (),
    "training.objective.loss.gamma=1": lambda r: r.training.objective.arguments["loss"].arguments["gamma"] == 1.0,
    "finetune.training.steps=99": lambda r: r.finetune.training.steps == 99,
    "evaluation.baselines=['accuracy']": lambda r: r.evaluation.baselines == (Use("named_parts:accuracy"),),
    "swap.0.where=layers.*": lambda r: r.swap[0].where == "layers.*",
    "swap.0.with.features=4": lambda r: r.swap[0].with_.arguments.get("features") == 4,
    "init.0.init=he_normal": lambda r: r.init[0].init == Use("named_parts:he_normal"),
    'prompts=["def f(x=1):", "# 中文"]': lambda r: r.prompts == ("def f(x=1):", "# 中文"),
}


@pytest.mark.parametrize("suffix", [".toml", ".py"])
@pytest.mark.parametrize("override", OVERRIDES)
def test_an_override_reaches_its_place(full: Path, override: str, suffix: str) -> None:
    path = full.with_suffix(suffix)
    if suffix == ".py":
        path.write_text(IN_PYTHON, encoding="utf-8")
    assert OVERRIDES[override](read_recipe(path, [override]))
    assert not OVERRIDES[override](read_recipe(path)) or "he_normal" in override


def test_a_part_written_as_its_name_alone_takes_options(short: Path) -> None:
    for text in ('training.schedule = "cosine"', 'training.schedule = { use = "cosine" }'):
        short.write_text(f"{SHORT}\n{text}\n")
        recipe = read_recipe(short, ["training.schedule.warmup=0.25"])
        assert recipe.training.schedule == Use("named_parts:cosine", warmup=0.25)


def test_later_overrides_win_and_build_on_earlier_ones(short: Path) -> None:
    recipe = read_recipe(short, ["training.schedule=cosine", "training.schedule.warmup=0.1", "seed=1", "seed=2"])
    assert (recipe.training.schedule, recipe.seed) == (Use("named_parts:cosine", warmup=0.1), 2)


WRONG_OVERRIDES = {
    "training.steps": "override 'training.steps': expected dotted.path=value, such as",
    "=3": "override '=3': expected dotted.path=value",
    "training..steps=3": "override 'training..steps=3': expected dotted.path=value",
    "training.stps=3": "recipe.training.stps: no such field. Did you mean 'steps'?",
    "trainig.steps=3": "recipe.trainig: no such field. Did you mean 'training'?",
    "data.prepare.2.method=mean": "override data.prepare.2: expected an index below 2, read '2'.",
    "data.prepare.-1.method=mean": "override data.prepare.-1: expected an index below 2, read '-1'.",
    "data.prepare.first.method=mean": "override data.prepare.first: expected an index below 2, read 'first'.",
    "model.hidden.5=1": "override model.hidden.5: expected an index below 2, read '5'.",
    "seed.more=1": "override seed: it is 3, not a table.",
    "name.more=1": "recipe.name: read {'use': 'full', 'more': 1}, expected a string.",
    "training.batch_size=many": "recipe.training.batch_size: read 'many', expected a whole number.",
    "training.optimizer.lr=True": "recipe.training.optimizer.lr: read 'True', expected a number.",
    "model={use='MLP'": "override model: \"{use='MLP'\" is not a TOML value: ",
    "seed=1\nname='x'": "override seed: read \"1\\nname='x'\", expected one value.",
    "folder=x": "recipe.folder: no such field.",
    "training.minutes=3": "recipe.training: exactly one of steps, epochs and minutes sets the budget; read epochs and",
}


@pytest.mark.parametrize(("override", "said"), WRONG_OVERRIDES.items(), ids=WRONG_OVERRIDES)
def test_an_override_that_fits_nowhere_is_refused(full: Path, override: str, said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        read_recipe(full, [override])
    assert str(refused.value).startswith(said)


# --------------------------------------------------------------------------------------------- properties

numbers = st.floats(min_value=1e-6, max_value=10, allow_nan=False)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
uses = st.one_of(
    st.builds(lambda hidden, dropout: Use("MLP", hidden=hidden, dropout=dropout), st.lists(st.integers()), numbers),
    st.builds(lambda layers: Use("Sequential", layers=layers), st.lists(st.just(Use("ReLU")), max_size=3)),
)
trainings = st.builds(
    Training,
    optimizer=st.builds(lambda lr: Use("AdamW", lr=lr), numbers),
    schedule=st.one_of(st.none(), st.builds(lambda warmup: Use("cosine", warmup=warmup), numbers)),
    batch_size=st.integers(1, 10**6),
    steps=st.integers(1, 10**9),
    clip_norm=st.one_of(st.none(), numbers),
    groups=st.lists(st.builds(Group, where=words, lr=st.one_of(st.none(), numbers)), max_size=2).map(tuple),
    precision=st.sampled_from(["auto", "fp32", "bf16"]),
    save_every=st.one_of(st.none(), st.integers(1, 100)),
)
recipes = st.builds(
    Recipe,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True),
    seed=st.integers(0, 2**63),
    model=uses,
    data=st.builds(
        DataRecipe,
        source=st.builds(lambda path, missing: Use("csv", path=path, missing=missing), words, st.lists(words)),
        clean=st.lists(st.builds(lambda c: Use("drop_columns", columns=c), st.lists(words)), max_size=2).map(tuple),
        samples=st.builds(lambda target: Use("Rows", target=target), words),
    ),
    training=trainings,
    evaluation=st.builds(Evaluation, seeds=st.integers(1, 9)),
    finetune=st.one_of(st.none(), st.builds(Finetune, training=trainings)),
    prompts=st.lists(words, max_size=3).map(tuple),
)


@given(recipe=recipes)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_recipe_survives_being_written_down(recipe: Recipe) -> None:
    for written in (recipe, recipe.resolved()):
        again = of(written.to_toml())
        assert again.resolved() == recipe.resolved()
        assert again.digest() == recipe.digest()


@given(one=recipes, other=recipes)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_digests_are_equal_exactly_where_recipes_are(one: Recipe, other: Recipe) -> None:
    assert (one.digest() == other.digest()) == (one.resolved() == other.resolved())


@given(recipe=recipes, seed=st.integers(0, 2**31), lr=numbers)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_an_override_changes_its_field_and_no_other(tmp_path: Path, recipe: Recipe, seed: int, lr: float) -> None:
    path = tmp_path / "any.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    changed = read_recipe(path, [f"seed={seed}", f"training.optimizer.lr={lr!r}"])
    optimizer = recipe.training.optimizer.with_arguments(lr=lr)
    expected = dataclasses.replace(
        recipe, seed=seed, training=dataclasses.replace(recipe.training, optimizer=optimizer)
    )
    assert changed.resolved() == expected.resolved()


def test_only_the_model_that_start_names_may_be_left_out() -> None:
    parts: dict[str, Any] = {
        "name": "a",
        "data": DataRecipe(source=Use("csv", path="a.csv")),
        "training": Training(objective=Use("supervised"), optimizer=Use("AdamW"), steps=1),
    }
    for model in ("Published", "groundup.models.start:Published"):
        with pytest.raises(RecipeError, match=r"recipe\.model: this field is required"):
            Recipe(**parts, model=Use(model))
        assert Recipe(**parts, model=Use(model), start="there").start == "there"
    assert Recipe(**parts, model=Use("my_package:Published")).start is None
