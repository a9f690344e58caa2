from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from groundup.core.errors import RecipeError
from groundup.core.recipe import Group
from groundup.optim import AdamW, parameter_groups


class Tiny(nn.Module):
    """An embedding tied to the head, one block with a fused matrix, norms and biases."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        block = nn.ModuleDict({"norm": nn.LayerNorm(4), "mix": nn.Linear(4, 8), "out": nn.Linear(8, 4)})
        block["mix"].row_parts = (5, 3)  # type: ignore[assignment]
        self.blocks = nn.ModuleList([block])
        self.norm = nn.LayerNorm((2, 4))
        self.head = nn.Linear(4, 11, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


def names(groups: list[dict[str, Any]], role: str) -> list[str]:
    return [name for group in groups if group["role"] == role for name, _ in group["params"]]


def test_roles_and_decay() -> None:
    groups = parameter_groups(Tiny(), 0.1)
    assert names(groups, "hidden") == ["blocks.0.mix.weight", "blocks.0.out.weight"]
    assert names(groups, "embedding") == ["embedding.weight"]
    assert names(groups, "head") == []  # tied to the embedding
    biases = {"blocks.0.norm.bias", "blocks.0.mix.bias", "blocks.0.out.bias", "norm.bias"}
    assert set(names(groups, "vector")) == {"blocks.0.norm.weight", "norm.weight"} | biases
    decays = {group["role"]: group["weight_decay"] for group in groups}
    assert decays == {"hidden": 0.1, "embedding": 0.0, "vector": 0.0}
    (hidden,) = [group for group in groups if group["role"] == "hidden"]
    assert hidden["parts"] == [[5, 3], None]


def test_an_untied_head_is_no_hidden_matrix() -> None:
    assert names(parameter_groups(Tiny(tied=False)), "head") == ["head.weight"]


def test_without_blocks_the_last_matrix_is_the_head_even_when_frozen() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    groups = parameter_groups(model)
    assert names(groups, "other") == ["0.weight"]
    assert names(groups, "hidden") == ["2.weight", "3.weight"]
    assert names(groups, "head") == ["4.weight"]
    assert all("weight_decay" not in group for group in groups if group["role"] != "vector")  # the optimizer's own
    model[4].requires_grad_(False)
    assert names(parameter_groups(model), "hidden") == ["2.weight", "3.weight"]


def test_recurrent_gates_are_separate_matrices() -> None:
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 5), "head": nn.Linear(5, 1)})
    (hidden,) = [group for group in parameter_groups(model) if group["role"] == "hidden"]
    assert hidden["parts"] == [[5] * 4, [5] * 4]


def test_every_trained_parameter_is_in_one_group_and_frozen_ones_in_none() -> None:
    model = Tiny()
    model.blocks[0]["mix"].requires_grad_(False)  # type: ignore[index]
    groups = parameter_groups(model, 0.1, [Group(where="blocks.*", lr_scale=0.5)])
    listed = [id(parameter) for group in groups for _, parameter in group["params"]]
    trained = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(listed) == sorted(trained)
    assert len(listed) == len(set(listed))


def test_rules_first_match_wins_and_what_they_say_holds() -> None:
    rules = [Group(where="blocks.*.bias", weight_decay=0.3), Group(where="blocks.*", lr=0.5, lr_scale=2.0)]
    groups = parameter_groups(Tiny(), 0.1, rules)
    by_name = {name: group for group in groups for name, _ in group["params"]}
    assert by_name["blocks.0.mix.bias"]["weight_decay"] == 0.3
    assert "lr" not in by_name["blocks.0.mix.bias"]
    assert by_name["blocks.0.mix.weight"]["lr"] == 0.5
    assert by_name["blocks.0.mix.weight"]["lr_scale"] == 2.0
    assert by_name["blocks.0.mix.weight"]["weight_decay"] == 0.1
    assert by_name["blocks.0.mix.weight"]["where"] == "blocks.*"
    assert "where" not in by_name["embedding.weight"]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([Group(where="bloks.*")], r"groups\[0\]\.where: the pattern 'bloks\.\*' matches nothing"),
        ([Group(where="*"), Group(where="norm.*")], r"groups\[1\]\.where: earlier rules already take"),
        ([Group(where="embedding.*")], "is frozen"),
    ],
)
def test_rules_without_effect_are_refused(rules: list[Group], message: str) -> None:
    model = Tiny()
    model.embedding.requires_grad_(False)
    with pytest.raises(RecipeError, match=message):
        parameter_groups(model, 0.1, rules)


def test_nothing_to_train_and_wrong_parts_are_refused() -> None:
    model = Tiny()
    model.blocks[0]["mix"].row_parts = (5, 4)  # type: ignore[index, assignment]
    with pytest.raises(RecipeError, match=r"row_parts = \(5, 4\), but the matrix has 8 rows"):
        parameter_groups(model)
    with pytest.raises(RecipeError, match="every parameter is frozen"):
        parameter_groups(Tiny().requires_grad_(False))


def test_any_torch_optimizer_takes_the_groups_and_keeps_the_names() -> None:
    for optimizer in (
        torch.optim.AdamW(parameter_groups(Tiny(), 0.1), lr=0.1),
        AdamW(parameter_groups(Tiny(), 0.1), lr=0.1),
    ):
        assert {name for group in optimizer.param_groups for name in group["param_names"]} >= {"embedding.weight"}
