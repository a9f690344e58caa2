"""The contract suite over every public layer of ours, found by walking the package, and over planted faults."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

import groundup.nn
from groundup import cli
from groundup.core.errors import RecipeError
from groundup.core.use import Use
from groundup.testing import CHECKS, contract, public_layers

SLOW = ("export", "compile")
QUICK = tuple(name for name in CHECKS if name not in SLOW)

EXAMPLES = {
    "AdaptiveAveragePool2d": {"size": 2},
    "MixtureOfExperts": {"num_chosen": 2},
    "Parallel": {"branches": [[Use("Dense", features=4)], [Use("Tanh")]]},
    "Patches": {"size": 2},
    "Repeat": {"layers": [Use("Dense", features=5)], "times": 2},
    "Reshape": {"shape": [2, -1]},
    "Residual": {"layers": [Use("Dense", features=3), Use("Tanh"), Use("Dense")]},
    "Sequential": {"layers": [Use("Dense", features=4), Use("ReLU"), Use("Dense")]},
    "ResidualBlock": {"stride": 2, "squeeze": 2},
}
"""What a layer of ours needs that is no whole number."""

NO_LAYERS = {
    "ALiBi": "gives the penalties of an attention, from sizes",
    "Rotary": "gives tables for an attention, from sizes",
    "Router": "gives where tokens go, three tensors",
    "SigmoidRouter": "gives where tokens go, three tensors",
    "Experts": "takes where tokens go beside them; MixtureOfExperts holds it",
    "Function": "holds a function, which a list of layers names",
    "Pooled": "is what heads are made of, with their shape",
    **dict.fromkeys(("Block", "PreNormBlock", "PostNormBlock"), "is made of parts, and takes what its model shares"),
    **dict.fromkeys(("Decoder", "Encoder"), "is made of parts, and takes tokens"),
    **dict.fromkeys(("TextEmbedding", "WordHead", "SentenceHead"), "is a part of published encoders, made by them"),
    "ConvNorm": "is what published image families are made of, with their padding",
}
"""Public modules that take no single tensor to a single one, and why."""

VARIANTS = [
    Use("Attention", num_heads=4, num_key_value_heads=1, causal=False),
    Use("Attention", num_heads=2, window=3, positions=Use("Rotary")),
    Use("Attention", num_heads=2, positions=Use("ALiBi"), norm=Use("RMSNorm"), bias=True, cap=5.0),
    Use("LatentAttention", num_heads=2, key_value_rank=6, query_rank=5, plain_dim=4, rotary_dim=4, value_dim=6,
        positions=Use("Rotary")),
    Use("Conv1d", channels=5, padding="causal", dilation=2),
    Use("SeparableConv1d", channels=5, padding="causal"),
    Use("DepthwiseConv1d", padding="causal"),
    Use("Conv2d", channels=4, stride=2, dilation=2, groups=2),
    Use("LSTM", hidden=3, layers=2, bidirectional=True),
    Use("MixtureOfExperts", num_experts=4, num_chosen=2, hidden=6, shared=5,
        router=Use("SigmoidRouter", groups=2, groups_chosen=1)),
    Use("ClassHead", pool="last"),
    Use("ValueHead", per_value=3),
    Use("RMSNorm", around_one=True),
    Use("Repeat", times=2, layers=[
        Use("Residual", layers=[Use("LayerNorm"), Use("Attention", num_heads=2), Use("DropPath", p=0.2)]),
        Use("Residual", layers=[Use("LayerNorm"), Use("GatedFeedForward", hidden=7)])]),
]  # fmt: skip


def _every_module():
    found = pkgutil.walk_packages(groundup.nn.__path__, "groundup.nn.")
    return [groundup.nn, *(importlib.import_module(module.name) for module in found)]


LAYERS = {layer.__name__: path for path, layer in public_layers(*_every_module()) if layer.__name__ not in NO_LAYERS}


def test_the_walk_finds_every_layer():
    assert set(groundup.nn.__all__) <= set(LAYERS)
    walked = {layer.__name__ for _, layer in public_layers(*_every_module())}
    assert set(NO_LAYERS) <= walked, "an exception for what is not there"
    assert len(LAYERS) > 70
    assert all(name in groundup.nn.__all__ for name in LAYERS), "a layer that no recipe can name"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_keeps_the_contract(name):
    contract(Use(LAYERS[name], **EXAMPLES.get(name, {})), only=QUICK).demand()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", VARIANTS, ids=[f"{use.target}{i}" for i, use in enumerate(VARIANTS)])
def test_so_do_their_variants(use):
    contract(use, only=QUICK).demand()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", [Use(path, **EXAMPLES.get(name, {})) for name, path in LAYERS.items()] + VARIANTS,
                         ids=[*LAYERS, *(f"{use.target}{i}" for i, use in enumerate(VARIANTS))])  # fmt: skip
def test_every_layer_can_be_exported_and_compiled(use):
    contract(use, only=SLOW).demand()


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    sys.modules.pop("faulty_layers", None)
    return "faulty_layers"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("LooksAhead", {"no look-ahead"}),
        ("MixesSamples", {"batch independence"}),
        ("Remembers", {"determinism", "no hidden state"}),
        ("WritesIntoItsInputs", {"no hidden state"}),
        ("AlwaysRandom", {"determinism"}),
        ("CutsItsGradient", {"gradients"}),
        ("WrongGradient", {"gradients"}),
        ("KeepsWeightsOutside", {"save and load"}),
        ("AlwaysFloat32", {"types"}),
        ("BranchesOnValues", {"export"}),
        ("FlattensTheBatch", {"shapes"}),
    ],
)
def test_each_planted_fault_is_found_by_its_check(faulty, name, broken):
    only = None if "export" in broken else QUICK
    found = contract(f"{faulty}:{name}", input_shape=(6, 8), only=only)
    failed = {check.name for check in found.checks if not check.passed}
    assert broken <= failed, failed
    assert all(check.mend for check in found.checks if not check.passed)


@pytest.mark.filterwarnings("ignore")
def test_a_users_layer_from_the_command_line(faulty, capsys):
    assert cli.main(["check", f"{faulty}:Sound", "input_shape=[6,8]"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in CHECKS)
    assert "none of 6 steps sees what comes later" in " ".join(shown.split())
    assert cli.main(["check", f"{faulty}:LooksAhead", "input_shape=[6,8]"]) == 1
    assert "no look-ahead: what comes from step 1 on changes" in capsys.readouterr().err
    assert cli.main(["check", "Dense", "features=3"]) == 0
    assert cli.main(["check", "Dense", "feature=3"]) == 1
    assert "Did you mean 'features'" in capsys.readouterr().err


def test_what_cannot_be_made_says_what_was_tried(faulty):
    with pytest.raises(RecipeError, match=r"(?s)Conv2d: takes none.*Give its input_shape.*groups must divide"):
        contract(Use("Conv2d", channels=4, groups=3))
    with pytest.raises(RecipeError, match=r"Tried: \(8,\), \(8,\) of ids, [^:]*: layer: \w+:Holds needs 'layer'[^:]*$"):
        contract(Use(f"{faulty}:Holds"))
