"""A table of names, read in both directions."""

from __future__ import annotations

import pytest
import torch

from groundup.core.errors import CheckpointError
from groundup.nn.weights import Transform, Weight, read_names, write_names

TURNED = Transform(lambda t: t.T, lambda t: t.T)
TABLE = (
    Weight("h.*.mlp.c_fc.weight", "blocks.*.up.weight", TURNED),
    Weight("experts.*.of.*.w", "blocks.*.experts.*.weight"),
    Weight("h.ln.weight", "norm.weight"),
)
OURS = {
    "blocks.0.up.weight": torch.randn(2, 3),
    "blocks.12.up.weight": torch.randn(2, 3),
    "blocks.1.experts.4.weight": torch.randn(2),
    "norm.weight": torch.randn(3),
}


def test_there_and_back():
    theirs = write_names(OURS, TABLE)
    assert list(theirs) == ["h.0.mlp.c_fc.weight", "h.12.mlp.c_fc.weight", "experts.1.of.4.w", "h.ln.weight"]
    assert torch.equal(theirs["h.12.mlp.c_fc.weight"], OURS["blocks.12.up.weight"].T)
    back = read_names(theirs, TABLE, OURS)
    assert list(back) == list(OURS)
    assert all(torch.equal(back[name], OURS[name]) for name in OURS)


def test_nothing_is_dropped_silently():
    theirs = write_names(OURS, TABLE)
    with pytest.raises(CheckpointError, match=r"'h.0.mlp.c_fc.bias' has no place.*Did you mean 'h.\*.mlp.c_fc.weight'"):
        read_names({**theirs, "h.0.mlp.c_fc.bias": torch.zeros(1)}, TABLE, OURS)
    assert read_names({**theirs, "h.0.rope": torch.zeros(1)}, TABLE, OURS, ("h.*.rope",)).keys() == OURS.keys()
    with pytest.raises(CheckpointError, match=r"'norm.weight' \(published as 'h.ln.weight'\)"):
        read_names({name: t for name, t in theirs.items() if name != "h.ln.weight"}, TABLE, OURS)
    with pytest.raises(CheckpointError, match=r"'blocks\.x\.up.weight' has no published name"):
        write_names({"blocks.x.up.weight": torch.zeros(1)}, TABLE)
