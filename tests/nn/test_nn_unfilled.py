"""Models that are about to be given their weights are made without values, and without a look for garbage."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from groundup.nn.unfilled import unfilled


@pytest.fixture(params=[True, False])
def collecting(request: pytest.FixtureRequest) -> object:
    was = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if was else gc.disable)()


def test_what_is_made_inside_has_shapes_alone_and_nothing_is_collected(collecting: bool) -> None:
    with unfilled():
        layer = nn.Linear(3, 2)
        assert not gc.isenabled()
    assert layer.weight.is_meta
    assert layer.weight.shape == (2, 3)
    assert gc.isenabled() == collecting
    assert not nn.Linear(3, 2).weight.is_meta


def test_garbage_is_collected_again_after_an_error(collecting: bool) -> None:
    with pytest.raises(RuntimeError), unfilled():
        raise RuntimeError
    assert gc.isenabled() == collecting
    assert not torch.zeros(1).is_meta
