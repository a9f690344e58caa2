"""Layers, losses and structures from a recipe: each goes down the whole river, learns, and reads back."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import groundup
from groundup import DataRecipe, Recipe, Training, Use, terminal
from groundup.core.batch import Batch
from groundup.core.checkpoint import latest_checkpoint
from groundup.core.errors import RecipeError
from groundup.core.recipe import Evaluation, Swap
from groundup.data.samples.targets import decode_output
from groundup.nn import Sequential
from groundup.optim import parameter_groups
from groundup.training.objectives import supervised


@pytest.fixture(autouse=True)
def _quiet():
    with terminal.quiet():
        yield


def _recipe(dataset: str, layers: list, loss: Use | str, metrics: list[str], **objective) -> Recipe:
    images = dataset == "digits"
    task = {"task": "regress"} if dataset == "diabetes" else {}
    target = "progression" if dataset == "diabetes" else "label"
    samples = Use("Images", image="image", target=target) if images else Use("Rows", target=target, **task)
    split = Use("random") if dataset == "diabetes" else Use("stratified", column="label")
    return Recipe(
        name=dataset,
        data=DataRecipe(
            source=Use("scikit_learn", dataset=dataset),
            split=split,
            prepare=() if images else (Use("Standardize"),),
            samples=samples,
        ),
        model=Use("Sequential", layers=layers),
        training=Training(
            objective=Use("supervised", loss=loss, **objective),
            optimizer=Use("AdamW", lr=3e-3),
            epochs=3,
            compile="off",
        ),
        evaluation=Evaluation(metrics=[Use(name) for name in metrics]),
    )


DENSE = [Use("Dense", features=32), Use("GELU")]
CASES = {
    "quantiles": ("diabetes", [*DENSE, Use("ValueHead", per_value=3)], Use("quantile", quantiles=[0.1, 0.5, 0.9])),
    "likelihood": ("diabetes", [*DENSE, Use("ValueHead", per_value=2)], Use("gaussian")),
    "focal": ("wine", [*DENSE, Use("Dense")], Use("focal", class_weights=[1.0, 2.0, 1.0])),
    "experts": ("wine", [Use("Dense", features=16), Use("MixtureOfExperts", num_experts=4, num_chosen=2, hidden=8),
                         Use("Dense")], Use("cross_entropy", label_smoothing=0.1)),
    "branches": ("digits", [
        Use("Parallel", branches=[[Use("Conv2d", channels=8)], [Use("SeparableConv2d", channels=8, dilation=2)]]),
        Use("GroupNorm", groups=4),
        Use("Repeat", times=2, layers=[
            Use("Residual", layers=[Use("Conv2d", channels=16), Use("BatchNorm2d"), Use("ReLU"),
                                    Use("SqueezeExcite", ratio=4), Use("DropPath")])]),
        Use("ClassHead", pool="max"),
    ], "cross_entropy"),
    "patches": ("digits", [
        Use("Patches", features=24, size=2), Use("ClassToken"), Use("LearnedPositions"),
        Use("Repeat", times=2, layers=[
            Use("Residual", layers=[Use("LayerNorm"), Use("Attention", num_heads=4, causal=False)]),
            Use("Residual", layers=[Use("LayerNorm"), Use("GatedFeedForward", hidden=32)])]),
        Use("ClassHead", pool="first"),
    ], "cross_entropy"),
    "recurrent": ("digits", [Use("Reshape", shape=[8, 8]), Use("MinGRU", hidden=32), Use("RMSNorm"),
                             Use("Attention", num_heads=2, window=4, positions=Use("Rotary")), Use("LastStep"),
                             Use("Dense")], "cross_entropy"),
}  # fmt: skip


QUICK = ("quantiles", "experts", "branches")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_a_network_goes_down_the_river(name: str, tmp_path: Path) -> None:
    dataset, layers, loss = CASES[name]
    metrics = ["rmse"] if dataset == "diabetes" else ["accuracy"]
    balance = {"balance": 0.01} if name == "experts" else {}
    recipe = _recipe(dataset, layers, loss, metrics, **balance)
    folder = groundup.train(recipe, out=tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "valid"]
    assert losses[-1] < losses[0]
    assert name != "experts" or all("balance" in line for line in lines if line["kind"] == "train")
    outline = json.loads((folder / "structure.json").read_text(encoding="utf-8"))
    assert outline["kind"] == "Sequential"
    assert outline["flops"] > 0
    proof = json.loads((folder / "proof.json").read_text(encoding="utf-8"))
    assert {"signal through the depth", "same outputs"} <= {check["name"] for check in proof["checks"]}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "layer by layer" in page
    assert ("What is taken for what" in page) == ("How sure it is, and how right" in page) == (metrics == ["accuracy"])
    assert latest_checkpoint(folder / "checkpoints")[0].files


def test_a_balance_without_experts_is_refused(tmp_path: Path) -> None:
    recipe = _recipe("wine", [*DENSE, Use("Dense")], "cross_entropy", ["accuracy"], balance=0.01)
    with pytest.raises(RecipeError, match=r"objective\.balance.*no mixture of experts"):
        groundup.train(recipe, out=tmp_path / "run")


def test_a_balance_is_added_in_training_alone() -> None:
    layers = [Use("MixtureOfExperts", num_experts=4, num_chosen=2, hidden=8), Use("Dense")]
    model = Sequential(layers, (5,), 3)
    batch = Batch({"inputs": torch.randn(6, 5)}, {"targets": torch.tensor([0, 1, 2, 0, 1, 2])})
    plain, balanced = supervised(model, batch), supervised(model, batch, balance=0.5)
    expected = model.layers[0].balance(batch.inputs["inputs"])
    torch.testing.assert_close(balanced.total, plain.total + 0.5 * expected)
    torch.testing.assert_close(balanced.parts["balance"], expected.detach())
    assert balanced.total.requires_grad
    model.eval()
    assert torch.equal(supervised(model, batch, balance=0.5).total, plain.total)
    assert not any(module._forward_hooks for module in model.modules())


def test_of_several_numbers_for_a_value_the_middle_one_is_the_prediction() -> None:
    learned = {"task": "regress", "mean": 10.0, "deviation": 2.0}
    output = torch.tensor([[[-1.0, 0.5, 9.0]], [[0.0, 1.0, 2.0]]])
    assert decode_output(output, learned).tolist() == [11.0, 12.0]
    assert decode_output(output[..., :2], learned).tolist() == [8.0, 10.0]  # mean and log variance
    assert decode_output(output[..., 0], learned).tolist() == [8.0, 10.0]


def test_positions_and_tied_heads_are_embeddings_to_an_optimizer() -> None:
    layers = [
        Use("Embedding", vocab_size=11, features=6),
        Use("LearnedPositions"),
        Use("Dense", features=11, bias=False),
    ]
    model = Sequential(layers, (7,), tied={"layers.2.weight": "layers.0.weight"})
    (group,) = parameter_groups(model, weight_decay=0.1)
    assert group["role"] == "embedding"
    assert [name for name, _ in group["params"]] == ["layers.0.weight", "layers.1.weight"]


def test_show_gives_the_tree() -> None:
    shown = groundup.show(_recipe("wine", [*DENSE, Use("Dense")], "cross_entropy", ["accuracy"]))
    (layers,) = shown.children
    assert [child.kind for child in layers.children] == ["Dense", "GELU", "Dense"]
    assert layers.children[0].input_shape == (13,)
    assert shown.num_parameters == 13 * 32 + 32 + 32 * 3 + 3


def test_a_swap_that_does_not_fit_is_named_by_every_verb() -> None:
    recipe = _recipe("wine", [*DENSE, Use("Dense")], "cross_entropy", ["accuracy"])
    recipe = dataclasses.replace(recipe, swap=[Swap(where="layers.0", with_=Use("Dense", features=5))])
    for verb in (groundup.show, groundup.check, groundup.plan):
        with pytest.raises(RecipeError, match=r"layers\.2 \(Dense\) does not fit the shape \(5,\).*in_features = 32"):
            verb(recipe)


def test_a_check_holds_what_initialisers_filled_against_their_promise() -> None:
    layers = [Use("Dense", features=32, init=Use("he_normal")), Use("ReLU"), Use("Dense")]
    checks = {c.name: c for c in groundup.check(_recipe("wine", layers, "cross_entropy", ["accuracy"])).checks}
    assert checks["initial weights"].saw == "1 of 1 filled weights deviate as their initialisers promise"


def test_a_billion_parameters_wide_is_built_and_outlined_without_memory() -> None:
    from groundup.models import Llama
    from groundup.planning import outline

    with torch.device("meta"):
        model = Llama(32_000, hidden_size=2560, intermediate_size=6912, num_hidden_layers=12, num_attention_heads=20)
    tokens = torch.zeros(2, 64, dtype=torch.int64)
    shown = outline(model, Batch({"tokens": tokens}, {"targets": tokens}))
    assert shown.num_parameters > 1.0e9
    assert shown.flops > 2 * 64 * (shown.num_parameters - 32_000 * 2560)


@pytest.mark.slow
def test_200_layers_deep_start_at_a_stable_scale_and_take_a_step(project: Path) -> None:
    script = [sys.executable, str(project / "benchmarks" / "depth_and_width.py"), "--quick"]
    run = subprocess.run(script, capture_output=True, text=True, check=True)
    found = json.loads(run.stdout.splitlines()[-1])
    assert len(found) == 4
    for net in found:
        assert net["layers"] >= 200
        assert net["sound"], net
        assert net["loss after a step"] < net["loss"], net
