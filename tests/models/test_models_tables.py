"""Table models against their paper's formulas and its authors' package."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use, check, make, with_defaults
from groundup.models import FTTransformer, TableResNet
from groundup.testing import CHECKS, contract

CATEGORIES = (0, 3, 0, 5, 0)
"""Of five columns the second and fourth are categories."""

USES = [
    Use("groundup.models:TableResNet", features=6),
    Use("groundup.models:FTTransformer", features=8, num_heads=2, blocks=2),
]


def _rows(count: int = 7, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(count, 5, generator=generator, dtype=dtype)
    for place, known in enumerate(CATEGORIES):
        if known:
            rows[:, place] = torch.randint(known, (count,), generator=generator).to(dtype)
    return rows


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", USES, ids=["TableResNet", "FTTransformer"])
def test_they_keep_the_contract(use: Use) -> None:
    contract(use, only=[name for name in CHECKS if name not in ("export", "compile")]).demand()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", USES, ids=["TableResNet", "FTTransformer"])
def test_they_are_exported_and_compiled(use: Use) -> None:
    contract(use, only=["export", "compile"]).demand()


@pytest.mark.parametrize("name", ["TableResNet", "FTTransformer"])
def test_sizes_come_from_the_data(name: str) -> None:
    use = check(Use(name, features=16), "model", "recipe.model")
    model = make(use, "model", in_features=5, input_shape=(5,), out_features=3, num_classes=3, categories=CATEGORIES)
    assert model(_rows()).shape == (7, 3)
    assert "categories" not in with_defaults(use, "model").arguments, "a saved recipe would override the data"


@pytest.mark.parametrize("name", ["TableResNet", "FTTransformer"])
def test_they_learn(name: str) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(256, 5)
    targets = (inputs[:, 0] * inputs[:, 1] + inputs[:, 2].abs())[:, None]
    model = make(Use(name, features=16), "model", in_features=5, out_features=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2 * targets.var().item()


# ----------------------------------------------------------------------------------------- the paper's formulas


def test_the_residual_net_is_the_papers() -> None:
    model = TableResNet(6, blocks=2, hidden=9, in_features=5, out_features=3).double()
    _spread_statistics(model)
    inputs = _rows(dtype=torch.float64)

    def normed(norm: Any, x: Tensor) -> Tensor:
        return (x - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias

    def dense(layer: Any, x: Tensor) -> Tensor:
        return x @ layer.weight.T + layer.bias

    states = dense(model.input, inputs)
    for block in model.blocks:
        states = states + dense(block.down, dense(block.up, normed(block.norm, states)).relu())
    torch.testing.assert_close(model.eval()(inputs), dense(model.output, normed(model.norm, states).relu()))


def test_the_transformer_is_the_papers() -> None:
    model = FTTransformer(8, blocks=2, num_heads=2, in_features=5, out_features=3, categories=CATEGORIES).double()
    inputs = _rows(dtype=torch.float64)
    columns = model.columns
    numbers = [inputs[:, place, None] * columns.weight[i] for i, place in enumerate((0, 2, 4))]
    chosen = [columns.table.weight[inputs[:, 1].long()], columns.table.weight[3 + inputs[:, 3].long()]]
    states = torch.stack([*numbers, *chosen], dim=1) + columns.bias
    states = torch.cat((model.first.weight.expand(7, 1, 8), states), dim=1)
    for place, block in enumerate(model.blocks):
        seen = nn.functional.layer_norm(states, (8,)) if place else states  # the very first norm is left out
        attention = block.attention
        q, k, v = (layer(seen).unflatten(-1, (2, 4)) for layer in (attention.query, attention.key, attention.value))
        shares = torch.einsum("bthd,bshd->bhts", q, k).div(2.0).softmax(-1)  # sqrt of 4 features a head
        states = states + attention.output(torch.einsum("bhts,bshd->bthd", shares, v).flatten(2))
        fed, net = nn.functional.layer_norm(states, (8,)), block.feed_forward
        states = states + net.down(net.up(fed) * net.gate(fed).relu())  # ReGLU
    wanted = model.output(nn.functional.layer_norm(states[:, 0], (8,)).relu())
    torch.testing.assert_close(model.eval()(inputs), wanted)


def test_a_category_reaches_its_own_vector_alone() -> None:
    model = FTTransformer(8, blocks=1, num_heads=2, in_features=5, out_features=1, categories=CATEGORIES)
    row = torch.tensor([[0.5, 2.0, -1.0, 4.0, 0.0]])
    model.eval()(row).sum().backward()
    touched = model.columns.table.weight.grad.abs().sum(1) > 0
    assert touched.tolist() == [False, False, True, False, False, False, False, True]
    with pytest.raises(RecipeError, match="there are 2 for 5 columns"):
        FTTransformer(8, in_features=5, out_features=1, categories=[0, 3])


# --------------------------------------------------------------------------------------------- the authors' own


def _spread_statistics(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))


def _same_outputs_and_gradients(ours: Any, theirs: Any, names: dict[str, str], inputs: tuple[Any, ...]) -> None:
    """``names``: a beginning of their names -> of ours."""
    renamed = {}
    for name, tensor in theirs.state_dict().items():
        own = name
        for begin, mine in names.items():
            own = own.replace(begin, mine)
        renamed[own] = tensor
    ours.load_state_dict(renamed)
    found, wanted = ours.eval()(inputs[0]), theirs.eval()(*inputs[1:])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    found.square().sum().backward()
    wanted.square().sum().backward()
    compared = [(ours.get_parameter(own).grad, theirs.get_parameter(name).grad)
                for name, own in zip(theirs.state_dict(), renamed, strict=True) if "running" not in own
                and "num_batches" not in own]  # fmt: skip
    for mine, other in compared:
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_the_residual_net_is_its_authors() -> None:
    authors = pytest.importorskip("rtdl_revisiting_models", reason="pip install rtdl_revisiting_models")
    theirs = authors.ResNet(d_in=5, d_out=3, n_blocks=2, d_block=6, d_hidden=9, d_hidden_multiplier=None, dropout1=0.1,
                            dropout2=0.1)  # fmt: skip
    _spread_statistics(theirs)
    names = {"input_projection": "input", "output.normalization": "norm", "output.linear": "output",
             "normalization": "norm", "linear1": "up", "linear2": "down"}  # fmt: skip
    ours = TableResNet(6, blocks=2, hidden=9, in_features=5, out_features=3)
    _same_outputs_and_gradients(ours, theirs, names, (_rows(), _rows()))


def test_the_transformer_is_its_authors() -> None:
    authors = pytest.importorskip("rtdl_revisiting_models", reason="pip install rtdl_revisiting_models")
    theirs = authors.FTTransformer(n_cont_features=3, cat_cardinalities=[3, 5], d_out=3, n_blocks=2, d_block=8,
                                   attention_n_heads=2, attention_dropout=0.1, ffn_d_hidden=10,
                                   ffn_d_hidden_multiplier=None, ffn_dropout=0.1, residual_dropout=0.1)  # fmt: skip
    ours = FTTransformer(8, blocks=2, num_heads=2, hidden=10, in_features=5, out_features=3, categories=CATEGORIES)
    own, weights = ours.state_dict(), theirs.state_dict()
    own["columns.weight"] = weights["cont_embeddings.weight"]
    own["columns.table.weight"] = torch.cat([weights[f"cat_embeddings.embeddings.{i}.weight"] for i in range(2)])
    own["columns.bias"] = torch.cat((weights["cont_embeddings.bias"], weights["cat_embeddings.bias"]))
    own["first.weight"] = weights["cls_embedding.weight"]
    for i in range(2):
        block = f"backbone.blocks.{i}"
        for part in ("weight", "bias"):
            for mine, other in (("query", "W_q"), ("key", "W_k"), ("value", "W_v"), ("output", "W_out")):
                own[f"blocks.{i}.attention.{mine}.{part}"] = weights[f"{block}.attention.{other}.{part}"]
            up, gate = weights[f"{block}.ffn.linear1.{part}"].chunk(2)
            own[f"blocks.{i}.feed_forward.up.{part}"] = up
            own[f"blocks.{i}.feed_forward.gate.{part}"] = gate
            own[f"blocks.{i}.feed_forward.down.{part}"] = weights[f"{block}.ffn.linear2.{part}"]
    ours.load_state_dict(own)
    rows = _rows()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "normalization" in name:
                parameter.copy_(torch.full_like(parameter, 0.7))
        for name, parameter in ours.named_parameters():
            if "norm" in name:
                parameter.copy_(torch.full_like(parameter, 0.7))
        ours.output.load_state_dict(theirs.backbone.output.linear.state_dict())
    wanted = theirs.eval()(rows[:, [0, 2, 4]], rows[:, [1, 3]].long())
    found = ours.eval()(rows)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    found.square().sum().backward()
    wanted.square().sum().backward()
    tables = torch.cat([embedding.weight.grad for embedding in theirs.cat_embeddings.embeddings])
    torch.testing.assert_close(ours.columns.table.weight.grad, tables, rtol=1e-4, atol=1e-5)
    for mine, other in (
        (ours.columns.weight, theirs.cont_embeddings.weight),
        (ours.first.weight, theirs.cls_embedding.weight),
        (ours.blocks[0].attention.query.weight, theirs.backbone.blocks[0]["attention"].W_q.weight),
    ):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)
