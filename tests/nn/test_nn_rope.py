"""Scaled rotary tables against transformers, and what they do when a sequence grows."""

from __future__ import annotations

import math

import pytest
import torch

from groundup.core.errors import RecipeError
from groundup.nn.rope import Rotary, rotate

CPU = torch.device("cpu")
PAIRS = 8
SCALINGS = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32},
    "yarn, all of it": {
        "factor": 40.0,
        "original_max_position_embeddings": 64,
        "beta_fast": 16,
        "beta_slow": 2,
        "mscale": 1.0,
        "mscale_all_dim": 0.7,
        "truncate": False,
    },
    "longrope": {
        "short_factor": [1.0 + 0.1 * i for i in range(PAIRS)],
        "long_factor": [2.0 + 0.5 * i for i in range(PAIRS)],
        "original_max_position_embeddings": 32,
    },
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("length", [20, 200])
def test_tables_equal_transformers(name, length):
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    kind = name.partition(",")[0]
    config = transformers.LlamaConfig(
        hidden_size=4 * 2 * PAIRS,
        num_attention_heads=4,
        max_position_embeddings=128,
        rope_parameters={"rope_type": kind, "rope_theta": 500.0, **SCALINGS[name]},
    )
    theirs = LlamaRotaryEmbedding(config)
    positions = torch.arange(length)[None]
    cosine, sine = (table[0] for table in theirs(torch.zeros(1), positions))
    rotary = Rotary(2 * PAIRS, 500.0, {"rope_type": kind, **SCALINGS[name]}, max_positions=128)
    ours = rotary(0, length, torch.float32, CPU)
    torch.testing.assert_close(ours[0][:, 0], cosine, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(ours[1][:, 0, PAIRS:], sine[:, PAIRS:], atol=2e-6, rtol=1e-5)
    if kind != "default":
        plain = Rotary(2 * PAIRS, 500.0)(0, length, torch.float32, CPU)
        assert (plain[0] - ours[0]).abs().max() > 0.01 or (kind == "dynamic" and length == 20)


def test_what_hangs_on_the_length_is_made_anew_and_nothing_else():
    for name, grown in {"longrope": (20, 40), "dynamic": (100, 200)}.items():
        rotary = Rotary(2 * PAIRS, scaling={"rope_type": name, **SCALINGS[name]}, max_positions=128)
        short, long = (rotary(0, length, torch.float32, CPU)[0].clone() for length in grown)
        assert (short - long[: grown[0]]).abs().max() > 0.05
        assert torch.equal(rotary(0, grown[0], torch.float32, CPU)[0], short)
    plain = Rotary(2 * PAIRS)
    assert plain(0, 20, torch.float32, CPU)[0].data_ptr() == plain(0, 200, torch.float32, CPU)[0].data_ptr()


def test_a_part_of_a_head_is_turned():
    heads = torch.randn(1, 5, 2, 10)
    tables = Rotary(4)(3, 5, torch.float32, CPU)
    turned = rotate(heads, *tables)
    assert torch.equal(turned[..., 4:], heads[..., 4:])
    assert torch.equal(turned[..., :4], rotate(heads[..., :4], *tables))
    angle = 3 * 1.0
    x, y = heads[0, 0, 0, 0].item(), heads[0, 0, 0, 2].item()
    assert turned[0, 0, 0, 0].item() == pytest.approx(x * math.cos(angle) - y * math.sin(angle), abs=1e-5)


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        ({"rope_type": "yarm"}, "Did you mean 'yarn'"),
        ({"rope_type": "yarn", "factor": 2.0}, "needs original_max_position_embeddings"),
        ({"rope_type": "dynamic", "factor": 2.0}, "needs max_positions"),
    ],
)
def test_a_scaling_that_cannot_be_read_is_refused(scaling, said):
    with pytest.raises(RecipeError, match=said):
        Rotary(8, scaling=scaling)


def test_longrope_needs_a_factor_for_each_pair():
    with pytest.raises(RecipeError, match="read 8 numbers, a head of 8 turned features has 4 pairs"):
        Rotary(8, scaling={"type": "longrope", **SCALINGS["longrope"]}, max_positions=128)
