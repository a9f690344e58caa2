"""Which parameters train."""

from __future__ import annotations

import pytest
import torch

from groundup.core.errors import RecipeError
from groundup.core.use import Use, make
from groundup.finetune import freeze, full, only, unfreeze
from groundup.finetune.freeze import layerwise
from groundup.models import MLP, Llama


def _model() -> MLP:
    return MLP([4, 4], in_features=3, out_features=2)


def _trains(model: torch.nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if p.requires_grad]


def test_freeze_unfreeze_only_full():
    model = _model()
    assert freeze(model, "layers.[02].*") is model
    assert _trains(model) == ["layers.4.weight", "layers.4.bias"]
    assert unfreeze(model, "*.bias") is model
    assert _trains(model) == ["layers.0.bias", "layers.2.bias", "layers.4.weight", "layers.4.bias"]
    assert _trains(only(model, "layers.4.*")) == ["layers.4.weight", "layers.4.bias"]
    assert len(_trains(full(model))) == 6
    assert _trains(make(Use("only", where="*.bias"), "method")(model)) == [f"layers.{i}.bias" for i in (0, 2, 4)]


@pytest.mark.parametrize("method", [freeze, unfreeze, only])
def test_a_pattern_without_a_match_changes_nothing(method):
    model = _model()
    with pytest.raises(RecipeError, match=f"{method.__name__}.where: the pattern 'layer.0' matches nothing"):
        method(model, "layer.0")
    assert len(_trains(model)) == 6


def test_layerwise_rates_fall_from_the_last_block_to_the_first():
    with torch.device("meta"):
        model = Llama(20, 3, tie_word_embeddings=False)
    groups = layerwise(model, decay=0.5)
    assert [(g.where, g.lr_scale) for g in groups] == [
        ("embedding.*", 0.125),
        ("blocks.0.*", 0.25),
        ("blocks.1.*", 0.5),
        ("blocks.2.*", 1.0),
    ]
    with pytest.raises(RecipeError, match="no 'layers'"):
        layerwise(model, blocks="layers")
