"""A table of names, read in both directions."""

from __future__ import annotations

import pytest
import torch

from groundup.core.errors import CheckpointError
from groundup.nn.weights import Transform, Weight, fill, read_names, split_rows, write_names

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


STACKED = (
    Weight("h.*.experts.*.up", "blocks.*.experts.up", TURNED),
    Weight("h.*.gate", "blocks.*.gate"),
)


def _experts() -> dict[str, torch.Tensor]:
    found = {f"h.{i}.experts.{j}.up": torch.randn(2, 3) for i in (0, 1) for j in range(11)}
    return {**found, "h.0.gate": torch.randn(2), "h.1.gate": torch.randn(2)}


def test_tensors_that_ours_holds_stacked_go_there_and_back():
    theirs = _experts()
    up, gate = torch.empty(11, 3, 2), torch.empty(2)
    expected = {"blocks.0.experts.up": up, "blocks.1.experts.up": up, "blocks.0.gate": gate, "blocks.1.gate": gate}
    back = read_names(theirs, STACKED, expected)
    assert back["blocks.1.experts.up"].shape == (11, 3, 2)
    assert torch.equal(back["blocks.1.experts.up"][10], theirs["h.1.experts.10.up"].T)
    again = write_names(back, STACKED)
    assert again.keys() == theirs.keys()
    assert all(torch.equal(again[name], theirs[name]) for name in theirs)
    theirs.pop("h.1.experts.4.up")
    with pytest.raises(
        CheckpointError, match=r"all pieces of 'blocks\.1\.experts\.up'; 1 are not there, the first is number 4"
    ):
        read_names(theirs, STACKED, expected)


class Experts(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Module() for _ in range(2))
        for block in self.blocks:
            block.experts = torch.nn.Module()
            block.experts.up = torch.nn.Parameter(torch.empty(11, 3, 2))
            block.gate = torch.nn.Parameter(torch.empty(2))


def test_a_model_on_the_meta_device_is_filled_tensor_by_tensor():
    def model() -> Experts:
        with torch.device("meta"):
            return Experts()

    theirs = _experts()
    filled = model()
    fill(filled, iter(theirs.items()), STACKED, dtype=torch.bfloat16)
    assert {(p.dtype, p.device.type, p.requires_grad) for p in filled.parameters()} == {(torch.bfloat16, "cpu", True)}
    assert torch.equal(filled.blocks[0].experts.up[3], theirs["h.0.experts.3.up"].T.bfloat16())
    kept = model()
    fill(kept, iter(theirs.items()), STACKED)
    assert kept.blocks[1].gate.data_ptr() == theirs["h.1.gate"].data_ptr(), "what needs no change is not copied"
    lacking = {name: tensor for name, tensor in theirs.items() if name != "h.0.experts.10.up"}
    with pytest.raises(CheckpointError, match=r"all pieces of 'blocks\.0\.experts\.up'; 1 are .* number 10"):
        fill(model(), iter(lacking.items()), STACKED)
    with pytest.raises(CheckpointError, match="the model has 11 of these"):
        fill(model(), iter({**theirs, "h.0.experts.11.up": torch.zeros(2, 3)}.items()), STACKED)
    with pytest.raises(CheckpointError, match=r"'blocks.0.gate' is \(3,\), config.json says \(2,\)"):
        fill(model(), iter({**theirs, "h.0.gate": torch.zeros(3)}.items()), STACKED)
    with pytest.raises(CheckpointError, match=r"it has no 'blocks\.7\.gate'"):
        fill(model(), iter({**theirs, "h.7.gate": torch.zeros(2)}.items()), STACKED)


FUSED = (
    Weight("h.*.qkv", ("blocks.*.q", "blocks.*.k", "blocks.*.v"), split_rows(4, 2, 2)),
    Weight("h.*.experts.*.gate", "blocks.*.gate_up", part=(0, 2)),
    Weight("h.*.experts.*.up", "blocks.*.gate_up", part=(1, 2)),
)


def test_what_is_fused_on_either_side_is_taken_apart_and_put_together():
    theirs = {"h.0.qkv": torch.randn(8, 3)}
    for expert in range(3):
        theirs |= {f"h.0.experts.{expert}.{name}": torch.randn(5, 3) for name in ("gate", "up")}
    shapes = {"q": (4, 3), "k": (2, 3), "v": (2, 3), "gate_up": (3, 10, 3)}
    expected = {f"blocks.0.{name}": torch.empty(shape) for name, shape in shapes.items()}
    ours = read_names(theirs, FUSED, expected)
    assert torch.equal(ours["blocks.0.k"], theirs["h.0.qkv"][4:6])
    assert torch.equal(
        ours["blocks.0.gate_up"][2], torch.cat((theirs["h.0.experts.2.gate"], theirs["h.0.experts.2.up"]))
    )
    again = write_names(ours, FUSED)
    assert again.keys() == theirs.keys()
    assert all(torch.equal(again[name], theirs[name]) for name in theirs)
    with pytest.raises(CheckpointError, match=r"all pieces of 'blocks\.0\.gate_up'; 1 are .* number 1 \(part 1\)"):
        read_names({n: t for n, t in theirs.items() if n != "h.0.experts.1.up"}, FUSED, expected)
    with pytest.raises(
        CheckpointError, match=r"a piece of 'blocks\.0\.gate_up' is \(4, 3\), config.json says \(5, 3\)"
    ):
        read_names({**theirs, "h.0.experts.1.up": torch.zeros(4, 3)}, FUSED, expected)
