from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from groundup.core.errors import RecipeError
from groundup.core.use import Use, check, import_path, make, public_names, resolve, with_defaults


def test_a_class_is_constructed_and_a_function_stays_itself(parts: ModuleType) -> None:
    made = make(Use("MLP", hidden=[3], in_features=5), "model")
    assert (made.given["hidden"], made.sizes) == ([3], (5, 2))
    assert make(Use("cosine"), "schedule") is parts.cosine
    assert make(Use("cosine", warmup=0.5), "schedule")(4.0) == 2.0


def test_what_is_left_open_is_filled_from_what_is_available(parts: ModuleType) -> None:
    made = make(Use("MLP", hidden=[3], in_features=5), "model", in_features=64, num_classes=10, vocab_size=9)
    assert made.sizes == (5, 10), "what the recipe gives wins, a default does not, and what nobody asked for is ignored"
    assert make(Use("random"), "split", seed=7)("rows")[-1] == 7


def test_nested_calls_are_made_with_the_argument_as_their_slot(parts: ModuleType) -> None:
    made = make(Use("Net", layer={"use": "Dense", "in_features": 3}, steps={"a": [Use("ReLU")]}), "model")
    assert made.given["layer"] == parts.Dense(3)
    assert made.given["steps"] == {"a": [parts.ReLU()]}
    assert make(Use("MLP", hidden=[1], init={"use": "he_normal"}), "model").given["init"] is parts.he_normal


def test_a_parameter_that_asks_for_the_call_gets_it_unmade(parts: ModuleType) -> None:
    layers = [Use("Dense", features=3), Use("ReLU")]
    assert make(Use("Sequential", layers=layers), "model").given["layers"] == layers


def test_the_name_of_a_function_stands_for_it_where_one_is_asked_for(parts: ModuleType) -> None:
    for loss in ("focal", {"use": "focal"}, Use("focal"), "named_parts:focal"):
        checked = check(Use("supervised", loss=loss), "objective", "recipe.training.objective")
        assert checked == Use("named_parts:supervised", loss=Use("named_parts:focal"))
        assert make(checked, "objective")(None, None) is parts.focal
        assert make(Use("supervised", loss=loss), "objective")(None, None) is parts.focal
    with pytest.raises(RecipeError, match=r"^recipe\.training\.objective\.loss: there is no 'focall'.*mean 'focal'"):
        check(Use("supervised", loss="focall"), "objective", "recipe.training.objective")


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (Use("AdamV"), "recipe.x: there is no 'AdamV' in named_parts. Did you mean 'AdamW'?"),
        (Use("adamw"), "recipe.x: there is no 'adamw' in named_parts. Did you mean 'AdamW'?"),
        (Use("torch.optim.AdamW"), 'write an import path: use = "torch.optim:AdamW".'),
        (Use("Part"), "recipe.x: there is no 'Part'"),
        (Use("dataclasses"), "recipe.x: there is no 'dataclasses'"),
        (Use(""), "recipe.x: there is no ''"),
        (Use("torch.optim:Adamw"), "recipe.x: 'torch.optim' has no 'Adamw'. Did you mean 'AdamW'?"),
        (Use("torch.optim:"), "recipe.x: 'torch.optim' has no ''"),
        (Use("torch:pi"), "recipe.x: 'torch:pi' is not a class or function."),
        (Use("torch.optim:AdamW.nothing"), "recipe.x: 'torch.optim' has no 'AdamW.nothing'."),
        (Use("no_such_package.x:Y"), "recipe.x: cannot import 'no_such_package.x' for 'no_such_package.x:Y'"),
        (Use(":Y"), "recipe.x: cannot import ''"),
        (Use(".parts:Y"), "recipe.x: cannot import '.parts'"),
        (Use("AdamW", lr="fast"), "recipe.x.lr: read 'fast', expected a number."),
        (Use("AdamW", learning_rate=1), "recipe.x.learning_rate: AdamW takes no argument 'learning_rate'."),
        (Use("AdamW", beta=1), "recipe.x.beta: AdamW takes no argument 'beta'. Did you mean 'betas'?"),
        (Use("AdamW", betas=[0.9]), "recipe.x.betas: read 1 values, expected 2."),
        (Use("Fill", method="medain"), "recipe.x.method: read 'medain', expected 'mean' or 'median'."),
        (Use("Sequential", layers=["ReLU", {"use": "Dens"}]), "recipe.x.layers[1]: there is no 'Dens'"),
        (Use("Sequential", layers=[{"use": "Dense", "feature": 1}]), "recipe.x.layers[0].feature: Dense takes no"),
        (Use("Sequential", layers=[{"use": "Dense", "features": "x"}]), "recipe.x.layers[0].features: read 'x'"),
        (Use("Sequential", layers=[], steps={"a": "RELU"}), "recipe.x.steps.a: there is no 'RELU'"),
        (Use("Net", layer={"use": "Net", "layer": {"use": "Ned"}}), "recipe.x.layer.layer: there is no 'Ned'"),
        (Use("Net", layer=1, steps={"deep": [{"use": "Ned"}]}), "recipe.x.steps.deep[0]"),
    ],
    ids=str,
)
def test_a_wrong_call_is_refused_with_its_place_and_the_nearest_name(parts: ModuleType, use: Use, said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        check(use, "model", "recipe.x")
    assert said in str(refused.value)


def test_a_bare_name_without_a_home_is_refused(parts: ModuleType) -> None:
    with pytest.raises(RecipeError, match=r'no home to look it up in.*use = "package\.module:Thing"'):
        resolve("Thing", "nowhere")


def test_a_call_that_lacks_an_argument_is_refused_when_it_is_made(parts: ModuleType) -> None:
    with pytest.raises(RecipeError, match=r"^recipe\.model: MLP needs 'hidden'; add it to the recipe\.$"):
        make(Use("MLP"), "model", where="recipe.model")
    with pytest.raises(RecipeError, match=r"^recipe\.data\.clean\[0\]: drop_columns needs 'columns'"):
        make(Use("drop_columns"), "clean", where="recipe.data.clean[0]")
    with pytest.raises(RecipeError, match=r"^recipe\.data\.source: csv needs 'path'"):
        make(Use("csv"), "source", where="recipe.data.source", folder=Path())
    with pytest.raises(RecipeError, match=r"^model\.layer: Dense needs 'in_features'"):
        make(Use("Net", layer=Use("Dense")), "model")
    assert make(Use("focal"), "loss") is parts.focal, "output and targets are handed over at each step"


def test_a_value_that_the_part_itself_refuses_is_told_with_its_place(parts: ModuleType) -> None:
    with pytest.raises(RecipeError, match=r"^recipe\.model\.layer: Dense: features must be positive, not -1$"):
        make(Use("Net", layer=Use("Dense", in_features=1, features=-1)), "model", where="recipe.model")


def test_spelling_out_gives_one_form(parts: ModuleType) -> None:
    short = with_defaults(check(Use("supervised"), "objective", "x"), "objective")
    long = Use("supervised", loss={"use": "cross_entropy", "smoothing": 0})
    assert short == with_defaults(check(long, "objective", "x"), "objective")
    assert short.arguments["loss"] == Use("named_parts:cross_entropy", smoothing=0.0)
    assert type(short.arguments["loss"].arguments["smoothing"]) is float


def test_what_the_run_supplies_is_not_spelled_out(parts: ModuleType) -> None:
    assert "seed" not in with_defaults(Use("random"), "split").arguments
    assert "in_features" not in with_defaults(Use("MLP", hidden=[1]), "model").arguments
    assert with_defaults(Use("random", seed=3), "split").arguments["seed"] == 3
    saved = with_defaults(check(Use("random"), "split", "x"), "split")
    assert make(saved, "split", seed=9)("rows")[-1] == 9


def test_none_is_spelled_only_where_it_is_not_the_default(parts: ModuleType) -> None:
    assert "limit" not in with_defaults(Use("csv", path="a", limit=None), "source").arguments
    assert with_defaults(Use("mistyped"), "clean").arguments == {"columns": 3}


def test_a_part_that_does_not_know_where_it_is_found_keeps_the_path_it_was_found_by(parts: ModuleType) -> None:
    assert check(Use("MinMax", low=1), "prepare", "x") == Use("named_parts:MinMax", low=1.0)
    assert check(Use("torch.nn.functional:gelu"), "activation", "x").target == "torch.nn.functional:gelu"
    assert check(Use("torch:tanh"), "activation", "x").target == "torch:tanh"
    for target in ("named_parts:MinMax", "torch:tanh", "torch.nn.functional:gelu", "torch.optim:AdamW"):
        path = check(Use(target), "activation", "x").target
        assert resolve(path, "activation") is resolve(target, "activation")


def test_names_of_a_checkpoint_stay_within_what_is_trusted(parts: ModuleType) -> None:
    trusted = ("groundup", "torch.nn")
    assert resolve("torch.nn:ReLU", "layer", trusted=trusted) is torch.nn.ReLU
    for target in ("os:system", "named_parts:MLP", "torch.nn_evil:ReLU", "torch:load", "groundupx:run"):
        with pytest.raises(RecipeError, match=r"lies outside groundup, torch\.nn.*list '\w+' as trusted"):
            resolve(target, "layer", trusted=trusted)
    with pytest.raises(RecipeError):
        make(Use("torch.nn:Sequential", args=Use("os:system", command="true")), "layer", trusted=trusted)


def test_only_what_a_module_offers_is_public(parts: ModuleType) -> None:
    assert set(public_names(parts)) == set(parts.__all__)
    module = ModuleType("offered")
    exec("from pathlib import Path\ndef mine(): ...\ndef _hidden(): ...", vars(module))
    assert public_names(module) == ["mine"]


def test_a_user_needs_an_ordinary_module_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: ModuleType
) -> None:
    (tmp_path / "my_losses.py").write_text("def huber(output, targets, delta: float = 1.0):\n    return delta\n")
    monkeypatch.syspath_prepend(tmp_path)
    checked = check(Use("my_losses:huber", delta=2), "loss", "x")
    assert make(checked, "loss")(None, None) == 2.0
    assert import_path(sys.modules["my_losses"].huber) == "my_losses:huber"


def test_a_use_shows_itself_as_it_is_written() -> None:
    shown: Any = Use("MLP", hidden=[128, 64], init=Use("he_normal"))
    assert repr(shown) == "Use('MLP', hidden=[128, 64], init=Use('he_normal'))"
    assert eval(repr(shown)) == shown
    assert shown.with_arguments(hidden=[1]).arguments["hidden"] == [1]
    assert shown.arguments["hidden"] == [128, 64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    vocab_size: int
    width: int = 8
    scaling: str | None = None


class Configured:
    def __init__(self, config: Sizes) -> None:
        self.config = config


def test_a_class_that_takes_one_config_takes_its_fields_instead() -> None:
    name = f"{__name__}:Configured"
    sys.modules.setdefault(__name__, sys.modules[Configured.__module__])
    made = make(Use(name, width=16), "model", vocab_size=50, length=9)
    assert made.config == Sizes(vocab_size=50, width=16)
    assert with_defaults(Use(name), "model").arguments == {"width": 8}
    with pytest.raises(RecipeError, match=r"recipe\.model\.widht: .* Did you mean 'width'"):
        check(Use(name, widht=16), "model", "recipe.model")
    with pytest.raises(RecipeError, match=r"recipe\.model\.width: read 'wide', expected a whole number"):
        check(Use(name, width="wide"), "model", "recipe.model")
    with pytest.raises(RecipeError, match="needs 'vocab_size'"):
        make(Use(name), "model")
