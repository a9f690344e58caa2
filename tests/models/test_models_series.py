"""Series models against outside references: torch's recurrence, the arithmetic of their papers, transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from groundup.core.errors import CheckpointError, RecipeError
from groundup.core.use import Use, check, make, with_defaults
from groundup.models import GRU, LSTM, TCN, DLinear, NLinear, PatchTST
from groundup.models.hugging_face import read_folder, write_folder
from groundup.models.patchtst import PatchTSTConfig
from groundup.testing import CHECKS, contract

SIZES: dict[str, Any] = {
    "in_features": 1,
    "input_shape": (48, 1),
    "length": 48,
    "horizon": 6,
    "out_features": 6,
    "target_input": 0,
}
SMALL = {"d_model": 8, "num_attention_heads": 2, "ffn_dim": 12, "patch_length": 3, "patch_stride": 2}
PATCHED = {**SMALL, "num_input_channels": 8, "context_length": 6, "prediction_length": 3}


def _made(name: str, sizes: dict[str, Any] = SIZES, **options: Any) -> Any:
    return make(check(Use(name, **options), "model", "recipe.model"), "model", **sizes)


def _randomised(model: nn.Module, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(1, parameter[0].numel()) ** 0.5)
    return model.eval()


# ----------------------------------------------------------------------------------------------- the contract

USES = [
    Use("groundup.models:GRU", hidden=4),
    Use("groundup.models:TCN", hidden=5),
    Use("groundup.models:TCN", hidden=5, weight_normed=False),
    Use("groundup.models:DLinear", kernel=3),
    Use("groundup.models:DLinear", kernel=3, individual=False, target_input=1),
    Use("groundup.models:NLinear", target_input=1),
    Use("groundup.models:PatchTST", **PATCHED),
    Use("groundup.models:PatchTST", **PATCHED, pre_norm=True, norm_type="layernorm", pooling_type="max",
        positional_encoding_type="random", scaling=None),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", USES, ids=[f"{use.target.partition(':')[2]}{i}" for i, use in enumerate(USES)])
def test_they_keep_the_contract(use: Use) -> None:
    contract(use, only=[name for name in CHECKS if name not in ("export", "compile")]).demand()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", USES, ids=[f"{use.target.partition(':')[2]}{i}" for i, use in enumerate(USES)])
def test_they_are_exported_and_compiled(use: Use) -> None:
    contract(use, only=["export", "compile"]).demand()


# ----------------------------------------------------------------------------------------------- from the data


@pytest.mark.parametrize("name", ["GRU", "TCN", "DLinear", "NLinear", "PatchTST"])
def test_sizes_come_from_the_data(name: str) -> None:
    options = {"hidden": 8} if name == "GRU" else {}
    model = _made(name, **options)
    assert model(torch.randn(4, 48, 1)).shape == (4, 6)
    spelled = with_defaults(check(Use(name, **options), "model", "recipe.model"), "model").arguments
    supplied = {*SIZES, "context_length", "prediction_length", "num_input_channels"}
    assert not supplied & spelled.keys(), "a saved recipe would override the data"


@pytest.mark.parametrize("name", ["GRU", "TCN", "DLinear", "NLinear", "PatchTST"])
def test_they_learn(name: str) -> None:
    torch.manual_seed(0)
    times = torch.arange(54.0) + 24 * torch.rand(256, 1)
    waves = torch.sin(2 * torch.pi * times / 12) + 0.1 * torch.randn(256, 54) + torch.randn(256, 1)
    inputs, targets = waves[:, :48, None], waves[:, 48:]
    model = _made(name, **({"hidden": 16} if name == "GRU" else {})).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        optimizer.step()
    naive = (inputs[:, -1] - targets).square().mean()
    assert loss.item() < 0.2 * naive.item()


@pytest.mark.parametrize("name", ["GRU", "TCN"])
def test_they_give_classes_too(name: str) -> None:
    model = _made(name, {"in_features": 3, "input_shape": (20, 3), "out_features": 4}, hidden=8)
    assert model(torch.randn(2, 20, 3)).shape == (2, 4)


# ------------------------------------------------------------------------------------------------ GRU and TCN


def test_gru_is_torchs_and_the_papers() -> None:
    model = _randomised(GRU(5, layers=2, in_features=3, out_features=2))
    other = nn.GRU(3, 5, 2, batch_first=True)
    other.load_state_dict(
        {name.removeprefix("recurrence."): t for name, t in model.state_dict().items() if "recur" in name}
    )
    inputs = torch.randn(4, 7, 3)
    states = other(inputs)[0]
    assert torch.equal(model(inputs), model.output(states[:, -1]))
    steps = inputs
    for layer in range(2):
        into, own, into_bias, own_bias = (getattr(other, f"{name}_l{layer}") for name in _GRU_WEIGHTS)
        state, seen = torch.zeros(4, 5), []
        for t in range(7):  # Cho et al. 2014, equations 5 to 8, with the reset gate as torch and cuDNN have it
            r_x, z_x, n_x = (steps[:, t] @ into.T + into_bias).chunk(3, 1)
            r_h, z_h, n_h = (state @ own.T + own_bias).chunk(3, 1)
            update = torch.sigmoid(z_x + z_h)
            state = (1 - update) * torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h) + update * state
            seen.append(state)
        steps = torch.stack(seen, 1)
    torch.testing.assert_close(model(inputs), model.output(steps[:, -1]))


_GRU_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def test_gru_and_lstm_differ_in_their_cell_alone() -> None:
    gru, lstm = GRU(5, in_features=3, out_features=2), LSTM(5, in_features=3, out_features=2)
    assert gru.state_dict().keys() == lstm.state_dict().keys()
    count = [sum(p.numel() for p in model.recurrence.parameters()) for model in (gru, lstm)]
    assert 4 * count[0] == 3 * count[1]


@pytest.mark.parametrize("normed", [True, False])
def test_tcn_looks_back_alone_and_over_the_whole_window(normed: bool) -> None:
    model = _randomised(TCN(6, input_shape=(40, 2), out_features=1, weight_normed=normed)).double()
    assert len(model.blocks) == 4, "1 + 2 * 2 * (2^4 - 1) = 61 steps, with 3 blocks 29"
    inputs = torch.randn(2, 40, 2, dtype=torch.float64)
    states = model.states(inputs)
    for step in (1, 17, 39):
        changed = inputs.clone()
        changed[:, step:] += 3
        assert torch.equal(model.states(changed)[:, :step], states[:, :step])
        assert not torch.equal(model.states(changed)[:, step], states[:, step])
    inputs.requires_grad_()
    (by_input,) = torch.autograd.grad(TCN.forward(model.double(), inputs).sum(), inputs)
    assert by_input[:, 0].abs().max() > 0, "the first step is seen"


def test_a_tcn_block_is_the_papers() -> None:
    model = _randomised(TCN(4, layers=3, kernel=3, input_shape=(30, 2), out_features=1))
    inputs = torch.randn(2, 30, 2)

    def convolved(conv: nn.Conv1d, series: Tensor, dilation: int) -> Tensor:
        length, direction = conv.parametrizations.weight.original0, conv.parametrizations.weight.original1
        weight = length * direction / direction.flatten(1).norm(dim=1)[:, None, None]
        steps = []
        for t in range(series.shape[1]):
            taps = [series[:, t - (2 - k) * dilation] @ weight[:, :, k].T for k in range(3) if t >= (2 - k) * dilation]
            steps.append(torch.stack(taps).sum(0) + conv.bias)
        return torch.stack(steps, 1)

    states = inputs
    for place, block in enumerate(model.blocks):
        inner = convolved(block.first.conv, states, 2**place).relu()
        inner = convolved(block.second.conv, inner, 2**place).relu()
        states = (block.shortcut(states) + inner).relu()
    torch.testing.assert_close(model(inputs), model.output(states[:, -1]))
    with pytest.raises(RecipeError, match="at least 2 steps"):
        TCN(4, kernel=1, input_shape=(9, 2), out_features=1)


# ------------------------------------------------------------------------------------------ DLinear and NLinear


def _average(series: np.ndarray, kernel: int) -> np.ndarray:
    beyond = (kernel - 1) // 2
    longer = np.concatenate([np.repeat(series[:1], beyond), series, np.repeat(series[-1:], beyond)])
    return np.array([longer[t : t + kernel].mean() for t in range(len(series))])


@pytest.mark.parametrize("individual", [True, False])
def test_dlinear_is_the_papers_arithmetic(individual: bool) -> None:
    model = DLinear(5, individual, input_shape=(12, 3), out_features=4, target_input=1)
    model = _randomised(model).double()
    inputs = np.random.default_rng(0).normal(size=(2, 12, 3))
    maps = {
        name: (layer.weight.detach().numpy().reshape(4, 12, -1), layer.bias.detach().numpy())
        for name, layer in (("trend", model.trend), ("rest", model.rest))
    }
    for sample, found in zip(inputs, model(torch.from_numpy(inputs)).detach().numpy(), strict=True):
        wanted = maps["trend"][1] + maps["rest"][1]
        for place, at in enumerate(range(3) if individual else [1]):
            trend = _average(sample[:, at], 5)
            wanted = wanted + maps["trend"][0][:, :, place] @ trend
            wanted = wanted + maps["rest"][0][:, :, place] @ (sample[:, at] - trend)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("individual", [True, False])
def test_nlinear_is_the_papers_arithmetic(individual: bool) -> None:
    model = _randomised(NLinear(individual, input_shape=(12, 3), out_features=4, target_input=1)).double()
    inputs = np.random.default_rng(0).normal(size=(2, 12, 3))
    weight, bias = model.map.weight.detach().numpy().reshape(4, 12, -1), model.map.bias.detach().numpy()
    for sample, found in zip(inputs, model(torch.from_numpy(inputs)).detach().numpy(), strict=True):
        wanted = bias + sample[-1, 1]
        for place, at in enumerate(range(3) if individual else [1]):
            wanted = wanted + weight[:, :, place] @ (sample[:, at] - sample[-1, at])
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [DLinear, NLinear])
@pytest.mark.parametrize("individual", [True, False])
def test_linear_models_begin_with_the_windows_mean(kind: Any, individual: bool) -> None:
    model = kind(individual=individual, input_shape=(30, 3), out_features=4, target_input=1)
    inputs = torch.randn(5, 30, 3)
    torch.testing.assert_close(model(inputs), inputs[:, :, 1].mean(1, keepdim=True).expand(-1, 4))


def test_what_linear_models_refuse() -> None:
    with pytest.raises(RecipeError, match="an odd number of steps"):
        DLinear(4, input_shape=(30, 3), out_features=4)
    for model in (lambda: NLinear(input_shape=(30, 3), out_features=4),
                  lambda: DLinear(individual=False, input_shape=(30, 3), out_features=4)):  # fmt: skip
        with pytest.raises(
            RecipeError, match="the target's own past, which it forecasts from, is not among the inputs"
        ):
            model()


# ---------------------------------------------------------------------------------------------------- PatchTST

BODY = {"num_input_channels": 3, "context_length": 50, "prediction_length": 7, "num_hidden_layers": 2, **SMALL}
CASES: dict[str, dict[str, Any]] = {
    "as published": BODY,
    "as in the paper": {**BODY, "pre_norm": False, "pooling_type": None, "patch_length": 16, "patch_stride": 8},
    "layer norm": {**BODY, "norm_type": "layernorm", "pooling_type": "max", "bias": False},
    "learned places": {**BODY, "positional_encoding_type": "random", "scaling": None, "pre_norm": False},
}


@pytest.fixture(params=CASES, scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.PatchTSTForPrediction(transformers.PatchTSTConfig(**CASES[request.param]))
    for name, tensor in theirs.state_dict().items():
        if "batchnorm.running" in name:
            tensor.copy_(1 + 0.3 * torch.rand(tensor.shape))
        elif tensor.ndim == 1:
            tensor.copy_(0.5 + torch.rand(tensor.shape))
    folder = tmp_path_factory.mktemp("theirs") / "m"
    theirs.save_pretrained(folder)
    return theirs.eval(), read_folder(folder).eval()


def test_patchtst_is_transformers(pair: tuple[Any, Any]) -> None:
    theirs, ours = pair
    inputs = 5 + 3 * torch.randn(4, 50, 3)
    wanted, found = theirs(inputs).prediction_outputs, ours(inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    weights = torch.randn(wanted.shape)
    for model, output in ((theirs, wanted), (ours, found)):
        model.zero_grad()
        (output * weights).mean().backward()
    by_name = dict(theirs.named_parameters())
    rows = {row.ours: row.theirs for row in ours.WEIGHTS}
    for name, parameter in ours.named_parameters():
        pattern = ".".join("*" if part.isdigit() else part for part in name.split("."))
        number = next((part for part in name.split(".") if part.isdigit()), "")
        gradient = by_name[rows[pattern].replace("*", number, 1)].grad
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


def test_a_new_one_has_the_published_places() -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PatchTSTForPrediction(transformers.PatchTSTConfig(**BODY))
    wanted = theirs.model.encoder.positional_encoder.position_enc
    torch.testing.assert_close(PatchTST(PatchTSTConfig(**BODY)).places, wanted.detach())


def test_patchtst_trains_as_transformers_does(pair: tuple[Any, Any]) -> None:
    theirs, ours = pair
    inputs = torch.randn(4, 50, 3)
    try:  # without dropout, batch norm's own statistics are what training differs in
        found, wanted = ours.train()(inputs), theirs.train()(inputs).prediction_outputs
    finally:
        ours.eval(), theirs.eval()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_transformers_reads_what_is_written(pair: tuple[Any, Any], tmp_path: Path) -> None:
    import transformers

    _, ours = pair
    write_folder(ours, tmp_path / "ours")
    again = transformers.PatchTSTForPrediction.from_pretrained(tmp_path / "ours").eval()
    inputs = torch.randn(4, 50, 3)
    torch.testing.assert_close(again(inputs).prediction_outputs, ours(inputs), rtol=1e-5, atol=1e-5)


def test_a_recipe_asks_for_the_targets_forecast() -> None:
    config = PatchTSTConfig(**{**BODY, "num_input_channels": 1}, target_input=0)
    assert PatchTST(config)(torch.randn(2, 50, 1)).shape == (2, 7)
    with pytest.raises(RecipeError, match=r"there are 3 inputs\. Name the target alone in samples\.inputs"):
        PatchTST(PatchTSTConfig(**BODY, target_input=1))
    with pytest.raises(RecipeError, match="the target's own past, which it forecasts from, is not among the inputs"):
        PatchTST(PatchTSTConfig(**BODY, target_input=None))
    with pytest.raises(RecipeError, match="a window of 50 steps holds no patch of 60"):
        PatchTST(PatchTSTConfig(**{**BODY, "patch_length": 60}))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"share_projection": False}, "share_projection is False"),
        ({"scaling": "mean"}, "scaling is 'mean'"),
        ({"architectures": ["PatchTSTForPretraining"]}, "architectures is"),
        ({"patch_lenght": 3}, "Did you mean 'patch_length'"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(setting: dict[str, Any], words: str, tmp_path: Path) -> None:
    write_folder(PatchTST(PatchTSTConfig(**BODY)), tmp_path / "m")
    table = json.loads((tmp_path / "m" / "config.json").read_text("utf-8"))
    (tmp_path / "m" / "config.json").write_text(json.dumps({**table, **setting}), "utf-8")
    with pytest.raises(CheckpointError, match=words):
        read_folder(tmp_path / "m")
