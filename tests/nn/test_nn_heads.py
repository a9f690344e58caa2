"""Heads, feed-forward nets, positions and what is left out while training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from groundup.core.errors import DataError, RecipeError
from groundup.core.use import Use
from groundup.nn import (
    ClassHead,
    ClassToken,
    DropPath,
    EmbeddingHead,
    FeedForward,
    GatedFeedForward,
    LearnedPositions,
    Patches,
    SinusoidalPositions,
    SpanHead,
    TokenHead,
    ValueHead,
    activations,
)
from groundup.nn.losses import gaussian

SERIES = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([6, 2, 4])


@pytest.mark.parametrize("pool", ["mean", "max", "first", "last"])
def test_a_head_pools_whatever_reaches_it(pool):
    head = ClassHead(pool, input_shape=(6, 4), out_features=5)
    pooled = {
        "mean": SERIES[1, :2].mean(0),
        "max": SERIES[1, :2].amax(0),
        "first": SERIES[1, 0],
        "last": SERIES[1, 1],
    }[pool]
    torch.testing.assert_close(head(SERIES, LENGTHS)[1], head.output(pooled))
    assert ClassHead(pool, input_shape=(4,), out_features=5)(SERIES[:, 0]).shape == (3, 5)
    images = torch.randn(2, 4, 5, 5)
    if pool in ("first", "last"):
        with pytest.raises(RecipeError, match="cannot take"):
            ClassHead(pool, input_shape=(4, 5, 5), out_features=5)
    else:
        head = ClassHead(pool, input_shape=(4, 5, 5), out_features=5)
        pooled = images.mean((2, 3)) if pool == "mean" else images.amax((2, 3))
        torch.testing.assert_close(head(images), head.output(pooled))


def test_values_tokens_spans_and_embeddings():
    assert ValueHead(input_shape=(6, 4), out_features=3)(SERIES).shape == (3, 3)
    likely = ValueHead(per_value=2, input_shape=(6, 4), out_features=3)(SERIES)
    assert likely.shape == (3, 3, 2)
    assert gaussian(likely, torch.zeros(3, 3)).isfinite()
    assert TokenHead(in_features=4, out_features=7)(SERIES).shape == (3, 6, 7)
    spans = SpanHead(in_features=4)(SERIES, LENGTHS)
    assert spans.shape == (3, 2, 6)
    assert spans.softmax(-1)[1, :, 2:].max().item() == 0
    vectors = EmbeddingHead(5, input_shape=(6, 4))(SERIES)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    assert EmbeddingHead(normalise=False, input_shape=(6, 4))(SERIES).equal(SERIES.mean(1))


def test_feed_forward_nets_are_their_formulas():
    plain = FeedForward(9, Use("relu_squared"), in_features=4)
    torch.testing.assert_close(plain(SERIES), plain.down(F.relu(plain.up(SERIES)) ** 2))
    for name, function in (("silu", F.silu), ("gelu", F.gelu)):
        gated = GatedFeedForward(9, Use(name), in_features=4)
        torch.testing.assert_close(gated(SERIES), gated.down(function(gated.gate(SERIES)) * gated.up(SERIES)))
    gate, up = SERIES[..., :2], SERIES[..., 2:]
    torch.testing.assert_close(activations.geglu(gate, up), F.gelu(gate) * up)


def test_positions():
    table = SinusoidalPositions(in_features=4)(torch.zeros(1, 6, 4))[0]
    torch.testing.assert_close(table[3], torch.tensor([3.0, 3.0, 0.03, 0.03]).where(torch.zeros(4).bool(), table[3]))
    expected = [torch.tensor(3.0).sin(), torch.tensor(3.0).cos(), torch.tensor(0.03).sin(), torch.tensor(0.03).cos()]
    torch.testing.assert_close(table[3], torch.stack(expected))
    learned = LearnedPositions(in_features=4, input_shape=(6, 4))
    torch.testing.assert_close(learned(SERIES[:, :2]), SERIES[:, :2] + learned.weight[:2])
    with pytest.raises(DataError, match="7 steps, and 6 places"):
        learned(torch.zeros(1, 7, 4))


def test_patches_and_a_class_token():
    images = torch.randn(2, 3, 8, 12)
    patches = Patches(5, size=4, input_shape=(3, 8, 12))
    steps = patches(images)
    assert steps.shape == (2, 6, 5)
    weight = patches.projection.weight.flatten(1)
    torch.testing.assert_close(steps[:, 4], images[:, :, 4:, 4:8].flatten(1) @ weight.T + patches.projection.bias)
    token = ClassToken(in_features=5)
    assert torch.equal(token(steps)[:, 1:], steps)
    assert torch.equal(token(steps)[:, 0], token.weight.expand(2, 5))
    with pytest.raises(RecipeError, match="do not tile"):
        Patches(5, size=5, input_shape=(3, 8, 12))


def test_drop_path_leaves_samples_out_whole_and_keeps_the_mean():
    torch.manual_seed(0)
    layer, inputs = DropPath(0.25), torch.ones(20_000, 3)
    outputs = layer(inputs)
    assert sorted(outputs.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert torch.equal(outputs.amin(1), outputs.amax(1))
    assert outputs.mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(layer.eval()(inputs), inputs)
    with pytest.raises(RecipeError, match="less than 1"):
        DropPath(1.0)
