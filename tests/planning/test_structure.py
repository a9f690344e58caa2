"""The tree of a model: shapes, parameters, operations and memory layer by layer, against sums by hand."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from groundup.core.batch import Batch
from groundup.core.errors import GroundupError
from groundup.core.structure import Layer, format_count, format_shape
from groundup.core.use import Use
from groundup.evaluation.structure import structure_chart
from groundup.models import Llama
from groundup.nn import Sequential
from groundup.planning import outline

IMAGES = Batch({"inputs": torch.randn(5, 1, 8, 8)}, {})
CONVNET = [Use("Conv2d", channels=6), Use("ReLU"), Use("MaxPool2d"), Use("Flatten"), Use("Dense")]


def _by_name(layer: Layer, path: str = "") -> dict[str, Layer]:
    found = {path: layer}
    for child in layer.children:
        found |= _by_name(child, f"{path}.{child.name}".strip("."))
    return found


def test_each_layer_is_counted_by_hand():
    model = Sequential(CONVNET, (1, 8, 8), 10)
    rows = _by_name(outline(model, IMAGES))
    conv, dense = rows["layers.0"], rows["layers.4"]
    assert (conv.input_shape, conv.output_shape) == ((1, 8, 8), (6, 8, 8))
    assert (conv.num_parameters, conv.flops) == (6 * 9 + 6, 2 * 64 * 6 * 9)
    assert (dense.num_parameters, dense.flops, dense.memory_bytes) == (960 + 10, 2 * 96 * 10, 40)
    assert rows["layers.1"].memory_bytes == 6 * 64 * 4  # relu keeps its output
    assert rows["layers.2"].memory_bytes == 6 * 16 * 8  # pooling keeps where the largest were
    assert rows["layers.3"].memory_bytes == 6 * 16 * 4  # their channels come last, so that flattening is a copy
    whole = rows[""]
    assert (whole.kind, whole.input_shape, whole.output_shape) == ("Sequential", (1, 8, 8), (10,))
    assert whole.flops == conv.flops + dense.flops
    assert all(p.grad is None for p in model.parameters())


def _attention_by_hand(query: list[int], key: list[int], *rest: object, **options: object) -> int:
    batch, heads, steps, width = query
    return 2 * 2 * batch * heads * steps * key[2] * width


def test_a_decoder_agrees_with_torchs_counter_on_any_device():
    model = Llama(100, depth=2)
    tokens = torch.randint(0, 100, (2, 16))
    whole = outline(model, Batch({"tokens": tokens}, {"targets": tokens}))
    kernel = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_by_hand}  # torch counts 0
    with FlopCounterMode(display=False, custom_mapping=kernel) as counter:
        model.hidden(tokens)
    head = 2 * 16 * 100 * 128
    forward = counter.get_total_flops() / 2 + head
    assert forward <= whole.flops <= forward + 2 * head  # the loss makes its gradients on the way forward
    with torch.device("meta"):
        shadow = outline(Llama(100, depth=2), Batch({"tokens": tokens}, {"targets": tokens}))
    blocks = next(child for child in whole.children if child.name == "blocks")
    assert blocks.num_parameters == next(c for c in shadow.children if c.name == "blocks").num_parameters
    folded = blocks.folded().children
    assert [(row.name, row.times) for row in folded] == [("0-1", 2)]
    assert folded[0].flops == blocks.flops


def test_a_mixture_of_experts_and_a_model_that_looks_at_values():
    layers = [Use("MixtureOfExperts", num_experts=4, num_chosen=2, hidden=6), Use("Dense")]
    model = Sequential(layers, (8,), 3)
    rows = _by_name(outline(model, Batch({"inputs": torch.randn(4, 8)}, {})))
    router, experts = 2 * 8 * 4, 2 * (2 * 8 * 12 + 2 * 6 * 8)
    assert rows["layers.0"].flops == router + experts

    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 8)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.inner(inputs) if inputs.sum().item() > -1e9 else inputs

    assert _by_name(outline(Picky(), Batch({"inputs": torch.randn(4, 8)}, {})))["inner"].flops == 128
    with pytest.raises(GroundupError, match=r"inner \(Linear\) does not fit the shape \(9,\).*in_features = 8"):
        outline(Picky(), Batch({"inputs": torch.randn(4, 9)}, {}))
    with torch.device("meta"):
        ghost = nn.Linear(3, 2)
    with pytest.raises(GroundupError, match="Linear cannot take this batch"):
        outline(ghost, Batch({"input": torch.randn(4, 5)}, {}))


def test_torchs_own_report_of_a_misfit_is_not_shown() -> None:
    heard: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = heard.append
    log = logging.getLogger("torch._subclasses.fake_tensor")
    log.addHandler(handler)
    try:
        model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Linear(4, 5, bias=False))
        with pytest.raises(GroundupError, match=r"1 \(Linear\)"):
            outline(model, Batch({"input": torch.ones(2, 4)}, {}))
    finally:
        log.removeHandler(handler)
    assert not heard
    assert log.level < logging.CRITICAL


def test_a_tree_is_a_value_and_a_picture():
    inner = [Use("LayerNorm"), Use("Dense", features=4), Use("Tanh"), Use("Dense")]
    layers = [Use("Repeat", times=40, layers=[Use("Residual", layers=inner)]), Use("Dense")]
    whole = outline(Sequential(layers, (6,), 2), Batch({"inputs": torch.randn(4, 6)}, {}))
    assert Layer.from_dict(whole.to_dict()) == whole
    picture = structure_chart(whole)
    assert picture.startswith("<svg")
    assert picture.count("40 x Sequential") == 2  # the row, and what it says in words
    assert picture.count("<rect") < 40
    assert "Residual" in picture
    assert [format_count(n) for n in (0, 999, 1500, 86e6, 2.5e9)] == ["0", "999", "1.5 k", "86 M", "2.5 G"]
    assert [format_shape(s) for s in (None, (), (3, 4))] == ["-", "1", "3 x 4"]
