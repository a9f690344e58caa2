"""Nobody types an input width, and what does not fit is said with its place and the shapes so far."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use, check, make
from groundup.nn import Parallel, Repeat, Residual, Sequential

IMAGE = (1, 8, 8)
CONVNET = [
    Use("Conv2d", channels=6, kernel=3),
    Use("ReLU"),
    Use("MaxPool2d", kernel=2),
    Use("Flatten"),
    Use("Dense", features=16, init=Use("he_normal")),
    Use("torch.nn.functional:relu6"),
    Use("Dense"),
]


def test_shapes_are_carried_through():
    model = Sequential(CONVNET, IMAGE, 10)
    assert model(torch.randn(5, *IMAGE)).shape == (5, 10)
    assert [layer.in_features for layer in model.modules() if isinstance(layer, nn.Linear)] == [96, 16]
    assert model.layers[0].in_channels == 1


def test_from_a_recipe():
    layers = [
        {"use": "Conv2d", "channels": 4},
        {"use": "Residual", "layers": [{"use": "Conv2d", "channels": 4}, {"use": "BatchNorm2d"}, {"use": "GELU"}]},
        {"use": "Sequential", "layers": [{"use": "Flatten"}, "LayerNorm", {"use": "Dropout", "p": 0.5}]},
        {"use": "Sequential", "layers": [{"use": "Dense", "features": 9}, {"use": "Dense"}]},
    ]
    use = check(Use("Sequential", layers=layers), "model", "recipe.model")
    model = make(use, "model", input_shape=IMAGE, out_features=3, in_features=1, num_classes=3)
    assert model(torch.randn(2, *IMAGE)).shape == (2, 3)
    assert model.training
    assert all(m.training for m in model.modules())
    with pytest.raises(RecipeError, match=r"recipe\.model\.layers\[0\]\.chanels: .*Did you mean 'channels'"):
        check(Use("Sequential", layers=[{"use": "Conv2d", "chanels": 4}]), "model", "recipe.model")


def test_series_and_one_dense_layer():
    model = Sequential(
        [Use("LSTM", hidden=8), Use("Attention", num_heads=2), Use("LastStep"), Use("Dense")], (24, 5), 3
    )
    assert model(torch.randn(2, 24, 5)).shape == (2, 3)
    assert make(Use("Dense"), "model", in_features=5, out_features=2)(torch.randn(3, 5)).shape == (3, 2)
    words = Sequential([Use("Embedding", features=6, vocab_size=11), Use("GRU", hidden=4), Use("LastStep")], (7,))
    assert words(torch.randint(0, 11, (2, 7))).shape == (2, 4)


def test_looking_for_shapes_leaves_no_trace():
    torch.manual_seed(1)
    model = Sequential([Use("BatchNorm2d"), Use("Dropout", p=0.9), Use("Flatten"), Use("Dense")], IMAGE, 2)
    assert (model.layers[0].num_batches_tracked.item(), model.layers[0].running_mean.item()) == (0, 0.0)
    assert all(p.grad is None for p in model.parameters())
    after = torch.rand(1)
    torch.manual_seed(1)
    nn.Linear(64, 2)
    assert torch.equal(after, torch.rand(1)), "random numbers were drawn beside the weights'"


def test_on_the_meta_device():
    with torch.device("meta"):
        model = Sequential(CONVNET, IMAGE, 10)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model.layers[-1].out_features == 10


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (
            [Use("Flatten"), Use("Conv2d", channels=3)],
            r"layers\[1\] \(Conv2d\) does not fit the shape \(64,\).*\(channels, height, width\).*"
            r"input \(1, 8, 8\) -> Flatten \(64,\)",
        ),
        ([Use("MaxPool2d", kernel=9)], r"layers\[0\] \(MaxPool2d\) does not fit the shape \(1, 8, 8\).*too small"),
        ([Use("Flatten"), Use("LSTM", hidden=3)], r"layers\[1\] \(LSTM\).*takes \(steps, features\)"),
        (
            [Use("Flatten"), Use("Dense", in_features=3)],
            r"layers\[1\] \(Dense\).*Leave in_features out: it is filled in",
        ),
        ([Use("Flatten"), Use("Dense"), Use("Dense")], r"layers\[1\].*add features.*So far: input"),
        ([Use("Conv2d", channels=3), Use("Dense")], r"gives \(3, 8, 10\), the data needs \(10,\).*Flatten"),
        ([Use("Flatten"), Use("Dense", features=5)], r"gives \(5,\), the data needs \(10,\)"),
        ([Use("Flatten"), Use("Dens")], r"layers\[1\].*Did you mean 'Dense'"),
        ([Use("Flatten"), Use("Attention", num_heads=2)], r"layers\[1\] \(Attention\)"),
        ([Use("Conv2d")], r"layers\[0\]: Conv2d needs 'channels'"),
        ([Use("Conv2d", channels=0)], r"layers\[0\]"),
        ([Use("Residual", layers=[Use("Conv2d", channels=3)])], r"layers\[0\]: .*give back the shape"),
        (
            [Use("Flatten"), Use("Residual", layers=[Use("Dense", features=3)]), Use("Dense")],
            r"layers\[1\]: .*\(64,\) -> Dense \(3,\)\. Leave the size of the last Dense open.*"
            r"Before it: input \(1, 8, 8\) -> Flatten \(64,\)\.",
        ),
        ([Use("Conv2d", channels=3), Use("BatchNorm1d"), Use("ClassHead")], r"layers\[1\].*BatchNorm2d takes images"),
        ([Use("Flatten"), Use("Dense", features=0), Use("Dense")], r"layers\[1\] \(Dense\) gives \(0,\): nothing"),
        (
            [Use("Flatten"), Use("Dense", features=4), Use("Embedding", vocab_size=4, features=3)],
            r"layers\[2\] \(Embedding\) takes whole numbers, and must stand first\. So far: .*Dense \(4,\)",
        ),
        ([Use("Parallel", branches=[[Use("Flatten")]], join="cat")], "join: read 'cat', expected one of concatenate, "),
        ([Use("Patches", features=4, size=3)], r"layers\[0\]: .*take 1, 2, 4 or 8\."),
        ([Use("Conv2d", channels=6), Use("GroupNorm", groups=4)], r"layers\[1\]: .*take 1, 2, 3 or 6\."),
        ([Use("Conv2d", channels=6), Use("Conv2d", channels=9, groups=2)], r"layers\[1\]: .*take 1 or 3\."),
        ([Use("Reshape", shape=[8, 8]), Use("Attention", num_heads=3)], r"layers\[1\]: .*take 1, 2, 4 or 8 of them"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(layers, said):
    with pytest.raises(RecipeError, match=f"(?s){said}"):
        Sequential(layers, IMAGE, 10)


@pytest.mark.parametrize("layer", ["Flatten", {"use": "Flatten"}, nn.Flatten()])
def test_only_calls_are_layers(layer):
    with pytest.raises(RecipeError, match=r"layers\[1\]: read .* expected a call"):
        Sequential([Use("Flatten"), layer, Use("Dense")], IMAGE, 3)


def test_residual_adds():
    block = Residual([Use("Dense", features=3), Use("Tanh"), Use("Dense")], input_shape=(6,))
    inputs = torch.randn(2, 6)
    assert torch.equal(block(inputs), inputs + block.inner(inputs))


class Gated(nn.Module):
    """A user's layer that holds any other."""

    def __init__(self, inner: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.inner, self.gate = inner, gate

    def forward(self, inputs):
        return self.inner(inputs) * torch.sigmoid(self.gate(inputs))


def test_any_module_inside_any_other(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_layers", sys.modules[__name__])
    layers = [
        {"use": "my_layers:Gated", "inner": {"use": "torch.nn:Identity"}, "gate": {"use": "Dense", "features": 6}},
        {
            "use": "Repeat",
            "times": 3,
            "layers": [
                {"use": "Residual", "layers": ["LayerNorm", {"use": "my_layers:Gated",
                    "inner": {"use": "FeedForward", "hidden": 8},
                    "gate": {"use": "Sequential", "layers": [{"use": "Dense", "features": 4}, "Tanh",
                                                             {"use": "Dense", "features": 6}]}}]}
            ],
        },
        {"use": "Parallel", "branches": [[{"use": "Dense", "features": 4}, "Tanh"], [{"use": "Dense", "features": 3}]]},
        "Dense",
    ]  # fmt: skip
    use = check(Use("Sequential", layers=layers), "model", "recipe.model")
    model = make(use, "model", input_shape=(6,), out_features=2)
    assert model(torch.randn(5, 6)).shape == (5, 2)
    assert model.layers[3].in_features == 7
    assert len(model.layers[1].blocks) == 3


def test_branches_are_joined():
    images = torch.randn(2, 3, 8, 8)
    branches = [[Use("Conv2d", channels=4, kernel=1)], [Use("MaxPool2d", kernel=3, stride=1, padding=1)]]
    inception = Parallel(branches, input_shape=(3, 8, 8))
    expected = torch.cat([inception.branches[0](images), inception.branches[1](images)], dim=1)
    torch.testing.assert_close(inception(images), expected)
    assert inception.output_shape == (7, 8, 8)
    for join, function in {"add": torch.add, "multiply": torch.mul, "mean": lambda a, b: (a + b) / 2}.items():
        both = Parallel([Use("Dense", features=4), Use("Dense", features=4)], join, input_shape=(5, 6))
        steps = torch.randn(2, 5, 6)
        torch.testing.assert_close(both(steps), function(both.branches[0](steps), both.branches[1](steps)))


def test_repeated_layers_are_new_ones_or_the_same():
    layers = [Use("Residual", layers=[Use("Dense", features=6), Use("Tanh")])]
    apart, shared = (Repeat(layers, 4, shared, input_shape=(6,)) for shared in (False, True))
    assert sum(p.numel() for p in apart.parameters()) == 4 * sum(p.numel() for p in shared.parameters())
    inputs = torch.randn(2, 6)
    expected = inputs
    for _ in range(4):
        expected = shared.blocks[0](expected)
    torch.testing.assert_close(shared(inputs), expected)
    halving = Repeat([Use("Conv2d", channels=4, stride=2)], 3, input_shape=(1, 16, 16))
    assert halving.output_shape == (4, 2, 2)


def test_tied_parameters_are_one():
    layers = [Use("Embedding", vocab_size=11, features=6), Use("Dense", features=11, bias=False)]
    model = Sequential(layers, (7,), tied={"layers.1.weight": "layers.0.weight"})
    assert model.layers[1].weight is model.layers[0].weight
    assert len(list(model.parameters())) == 1
    model(torch.randint(0, 11, (2, 7))).sum().backward()
    with pytest.raises(RecipeError, match=r"differ in shape: \(5, 6\) and \(11, 6\)"):
        Sequential([layers[0], Use("Dense", features=5)], (7,), tied={"layers.1.weight": "layers.0.weight"})
    with pytest.raises(RecipeError, match=r"no parameter 'layers\.2\.weight'"):
        Sequential(layers, (7,), tied={"layers.2.weight": "layers.0.weight"})


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (
            [Use("Flatten"), Use("Residual", layers=[Use("Tanh"), Use("LSTM", hidden=3)])],
            r"^layers\[1\]\.layers\[1\] \(LSTM\) does not fit.*Reshape.*"
            r"So far: input \(64,\) -> Tanh \(64,\)\. Before it: input \(1, 8, 8\) -> Flatten \(64,\)\.",
        ),
        (
            [Use("Parallel", branches=[[Use("ReLU")], [Use("ReLU"), Use("Conv1d", channels=3)]])],
            r"^layers\[0\]\.branches\[1\]\.layers\[1\] \(Conv1d\).*Patches makes a series of an image",
        ),
        (
            [Use("Repeat", times=3, layers=[Use("MaxPool2d"), Use("MaxPool2d")])],
            r"^layers\[0\]: repetition 2 of 3, layers\[1\] \(MaxPool2d\)",
        ),
        (
            [Use("Parallel", branches=[[Use("ReLU")], [Use("Flatten")]], join="add")],
            r"^layers\[0\]\.branches: to add them.*branches\[0\] gives \(1, 8, 8\); branches\[1\] gives \(64,\)",
        ),
        ([Use("Sequential", layers=[Use("Flatten"), Use("Dens")])], r"^layers\[0\]\.layers\[1\].*Did you mean 'Dense'"),
        ([Use("torch.nn:LSTM", input_size=8, hidden_size=3)], r"^layers\[0\] \(LSTM\)"),
        ([Use("Reshape", shape=[8, 8]), Use("torch.nn:LSTM", input_size=8, hidden_size=3)], r"gives tuple.*Wrap it"),
        ([Use("Conv2d", channels=3), Use("LastStep")], r"^layers\[1\] \(LastStep\).*Patches"),
    ],
)
def test_places_inside_structures_are_told_in_full(layers, said):
    with pytest.raises(RecipeError, match=f"(?s){said}"):
        Sequential([*layers, Use("Flatten"), Use("Dense")], IMAGE, 10)
