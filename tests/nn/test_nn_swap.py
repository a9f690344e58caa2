"""Patterns and the one verb that changes a built model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from groundup.core.errors import RecipeError
from groundup.core.patterns import matching
from groundup.core.use import Use
from groundup.models import Llama
from groundup.nn import Dense
from groundup.nn.swap import swap


def _model() -> Llama:
    return Llama(50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)


def test_swap_replaces_what_matches_and_says_which():
    model = _model()
    seen = []

    def make_new(old: nn.Module) -> nn.Module:
        seen.append(old)
        return nn.Identity()

    names = swap(model, "blocks.*.feed_forward", make_new)
    assert names == ["blocks.0.feed_forward", "blocks.1.feed_forward"]
    assert [type(model.get_submodule(name)) for name in names] == [nn.Identity] * 2
    assert len(seen) == 2
    assert model(torch.zeros(1, 3, dtype=torch.int64)).shape == (1, 3, 50)


def test_a_module_inside_a_swapped_one_is_left_alone():
    model = _model()
    names = swap(model, "blocks.*", lambda old: old)
    assert names == ["blocks.0", "blocks.1"]


def test_a_shared_module_stays_shared():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    assert swap(model, "[02]", lambda old: nn.Linear(2, 2)) == ["0", "2"]
    assert model[0] is model[2] is not shared


def test_swap_as_a_recipe_names_it():
    model = _model()
    swap(model, "blocks.*.attention.*", Use("Dense", init=Use("zeros")))
    assert (type(model.blocks[1].attention.query), model.blocks[1].attention.query.out_features) == (Dense, 16)
    swap(model, "norm", Use("groundup.finetune.freeze:freeze", where="weight"))
    assert not model.norm.weight.requires_grad
    with pytest.raises(RecipeError, match=r"swap\.with: .*Did you mean 'Dense'"):
        swap(model, "norm", Use("Dens"))


def test_a_pattern_without_a_match_is_an_error_with_the_nearest_name():
    with pytest.raises(RecipeError, match=r"swap\.where: the pattern 'blocks\.\*\.atention' .*'blocks\.\*\.attention'"):
        swap(_model(), "blocks.*.atention", lambda old: old)
    with pytest.raises(RecipeError, match=r"made int for 'norm'"):
        swap(_model(), "norm", lambda old: 3)  # type: ignore[arg-type, return-value]


def test_matching():
    names = ["blocks.0.norm.weight", "blocks.10.norm.weight", "norm.weight", "head.bias"]
    assert matching(names, "*", "x") == names
    assert matching(names, "blocks.*.weight", "x") == names[:2]
    assert matching(names, "blocks.?.norm.weight", "x") == names[:1]
    assert matching(names, "*norm*", "x") == names[:3]
    assert matching(names, "[nh]*.bias", "x") == names[3:]
    with pytest.raises(RecipeError, match=r"where: the pattern 'Norm\.weight'.*Did you mean 'norm\.weight'"):
        matching(names, "Norm.weight", "where")
    with pytest.raises(RecipeError, match="matches nothing"):
        matching([], "*", "where")
