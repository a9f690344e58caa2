"""Every decoder family against transformers' on tiny random weights, both ways, and against itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundup.core.errors import CheckpointError, GroundupError
from groundup.core.use import Use, make, with_defaults
from groundup.models.hugging_face import FAMILIES, read_folder, write_folder
from groundup.nn.weights import write_names

transformers = pytest.importorskip("transformers")

VOCAB = 101
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
WINDOWED = ["sliding_attention", "full_attention", "sliding_attention"]
YARN = {
    "rope_type": "yarn",
    "rope_theta": 5000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "beta_fast": 32,
    "beta_slow": 1,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 5000.0,
    "short_factor": [1.0, 1.1, 1.2],
    "long_factor": [1.5, 2.0, 3.0],
    "partial_rotary_factor": 0.5,
}
DEEPSEEK = {
    "moe_intermediate_size": 24,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 20,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 10,
    "num_key_value_heads": 4,
    "head_dim": 8,
}

CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mistral": ("Mistral", "mistral", {"sliding_window": 7, "head_dim": 16}),
    "mistral, no window": ("Mistral", "mistral", {"sliding_window": None, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2", "qwen2", {"tie_word_embeddings": True}),
    "qwen2, windows": (
        "Qwen2",
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", "qwen3", {"head_dim": 20, "tie_word_embeddings": True}),
    "qwen3, biases and yarn": ("Qwen3", "qwen3", {"head_dim": 16, "attention_bias": True, "rope_parameters": YARN}),
    "qwen3_moe": (
        "Qwen3Moe",
        "qwen3_moe",
        {
            "moe_intermediate_size": 24,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            "mlp_only_layers": [1],
            "head_dim": 16,
        },
    ),
    "mixtral": ("Mixtral", "mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": None}),
    "gemma2": (
        "Gemma2",
        "gemma2",
        {"head_dim": 16, "query_pre_attn_scalar": 20, "sliding_window": 7, "attn_logit_softcapping": 3.0},
    ),
    "gemma3_text": (
        "Gemma3Text",
        "gemma3_text",
        {"head_dim": 16, "query_pre_attn_scalar": 20, "sliding_window": 7, "layer_types": WINDOWED},
    ),
    "phi3": ("Phi3", "phi3", {"sliding_window": 9}),
    "phi3, longrope": (
        "Phi3",
        "phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": 64, "tie_word_embeddings": True},
    ),
    "olmo2": ("Olmo2", "olmo2", {}),
    "smollm3": ("SmolLM3", "smollm3", {"no_rope_layers": [1, 0, 1]}),
    "granite": (
        "Granite",
        "granite",
        {
            "embedding_multiplier": 6.0,
            "attention_multiplier": 0.1,
            "residual_multiplier": 0.3,
            "logits_scaling": 4.0,
            "tie_word_embeddings": True,
        },
    ),
    "gpt2": ("GPT2LMHeadModel", "gpt2", {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 128}),
    "gpt_neox": ("GPTNeoX", "gpt_neox", {"rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 5000.0}}),
    "gpt_neox, in sequence": ("GPTNeoX", "gpt_neox", {"use_parallel_residual": False, "hidden_size": 64}),
    "deepseek_v3": ("DeepseekV3", "deepseek_v3", DEEPSEEK),
    "deepseek_v3, yarn": (
        "DeepseekV3",
        "deepseek_v3",
        {**DEEPSEEK, "q_lora_rank": None, "rope_interleave": False, "rope_parameters": YARN, "attention_bias": True},
    ),
    "mamba2": (
        "Mamba2",
        "mamba2",
        {"num_heads": 6, "head_dim": 16, "state_size": 12, "n_groups": 2, "chunk_size": 16, "expand": 2},
    ),
}
LEFT_OUT = {
    "gpt2": set(SIZES) - {"vocab_size", "bos_token_id", "eos_token_id"},
    "gpt_neox": {"num_key_value_heads", "rms_norm_eps"},
    "mamba2": {"intermediate_size", "num_attention_heads", "num_key_value_heads", "rms_norm_eps"}
    | {"max_position_embeddings"},
}
RECURRENT = {"mamba2"}


def _shake(model: torch.nn.Module, seed: int = 1) -> None:
    """Weights that are large enough, norms included, for a wrong one to show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if isinstance(tensor, torch.nn.Parameter) or "correction" in name:
                noise = torch.randn(tensor.shape, generator=generator)
                around = 0.0 if tensor.ndim > 1 or name.endswith("bias") else 1.0
                tensor.copy_(around + (0.3 if around else 0.15) * noise)


def _theirs(case: str) -> Any:
    name, family, changes = CASES[case]
    kind = transformers.models.auto.configuration_auto.CONFIG_MAPPING[family]
    sizes = {n: v for n, v in SIZES.items() if n not in LEFT_OUT.get(family, ())}
    config = kind(**{**sizes, **changes})
    config._attn_implementation = "eager"
    if family == "gemma3_text":
        return transformers.Gemma3ForCausalLM(config)
    made = getattr(transformers, name if name.endswith("Model") else f"{name}ForCausalLM")
    return made(config)


@pytest.fixture(params=CASES, scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Any]:
    torch.manual_seed(0)
    theirs = _theirs(request.param)
    _shake(theirs)
    folder = tmp_path_factory.mktemp("theirs")
    theirs.save_pretrained(folder / "m")
    return CASES[request.param][1], theirs.eval(), read_folder(folder / "m")


def _tokens(batch: int, steps: int, seed: int = 0) -> Tensor:
    return torch.randint(3, VOCAB, (batch, steps), generator=torch.Generator().manual_seed(seed))


def test_logits_loss_and_gradients_are_those_of_transformers(pair: Any) -> None:
    _, theirs, ours = pair
    tokens = _tokens(2, 37)
    wanted = theirs(tokens).logits
    scale = max(1.0, float(wanted.detach().abs().max()))
    torch.testing.assert_close(ours(tokens), wanted, atol=1e-5 * scale, rtol=1e-5)
    targets = tokens.roll(-1, dims=1)
    targets[:, -1] = -100
    theirs.zero_grad(set_to_none=True)
    ours.zero_grad(set_to_none=True)
    loss, reference = ours(tokens, targets=targets), theirs(tokens, labels=tokens).loss
    torch.testing.assert_close(loss, reference, atol=1e-5, rtol=1e-5)
    loss.backward()
    reference.backward()
    gradients = write_names({n: p.grad for n, p in ours.named_parameters() if p.grad is not None}, ours.WEIGHTS)
    published = {n: p.grad for n, p in theirs.named_parameters()}
    compared = 0
    for name, gradient in gradients.items():
        if name in published:  # experts are held apart there while they are published one by one
            size = max(1.0, float(published[name].abs().max()))
            torch.testing.assert_close(gradient, published[name], atol=1e-5 * size, rtol=1e-4, msg=name)
            compared += 1
    assert compared > 0.5 * len(published)


def test_greedy_tokens_are_those_of_transformers(pair: Any) -> None:
    _, theirs, ours = pair
    prompt = _tokens(1, 5)
    wanted = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=30,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    cache = ours.new_cache(1, 35)
    tokens = new = prompt
    with torch.no_grad():
        for _ in range(30):
            new = ours(new, cache=cache)[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat((tokens, new), dim=1)
    assert torch.equal(tokens, wanted)


def test_transformers_reads_what_we_write(pair: Any, tmp_path: Path) -> None:
    _, theirs, ours = pair
    write_folder(ours, tmp_path / "ours")
    again = type(theirs).from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    tokens = _tokens(2, 37)
    with torch.no_grad():
        wanted = theirs(tokens).logits
        scale = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(again(tokens).logits, wanted, atol=1e-6 * scale, rtol=1e-5)
        ours_again = read_folder(tmp_path / "ours")
        assert torch.equal(ours_again(tokens), ours(tokens))
    assert ours_again.config == ours.config


def test_bf16_weights_give_nearly_the_same(pair: Any, tmp_path: Path) -> None:
    _, theirs, ours = pair
    write_folder(ours, tmp_path / "ours")
    short = read_folder(tmp_path / "ours", dtype=torch.bfloat16)
    assert {p.dtype for p in short.parameters()} == {torch.bfloat16}
    tokens = _tokens(2, 37)
    with torch.no_grad():
        exact = theirs(tokens).logits
        reference = type(theirs).from_pretrained(tmp_path / "ours", dtype=torch.bfloat16).eval()(tokens).logits
        found = short(tokens)
    if hasattr(ours.config, "num_experts_per_tok"):  # rounding sends a few tokens to other experts, in any of the two
        assert _of_a_token(found, exact) < max(0.02, 1.5 * _of_a_token(reference, exact))
    else:
        distance = float((found - exact).norm() / exact.norm())
        assert distance < max(0.03, 2 * float((reference - exact).norm() / exact.norm()))


def _of_a_token(found: Tensor, exact: Tensor) -> float:
    """The distance of the middle token."""
    return float(((found - exact).norm(dim=-1) / exact.norm(dim=-1)).median())


def test_packed_documents_equal_separate_ones(pair: Any) -> None:
    _, _, ours = pair
    lengths = (9, 1, 14, 6)
    pieces = [_tokens(1, n, seed=n) for n in lengths]
    documents = torch.cat([torch.full((1, n), i) for i, n in enumerate(lengths)], dim=1)
    with torch.no_grad():
        packed = ours(torch.cat(pieces, dim=1), documents)
        separate = torch.cat([ours(piece) for piece in pieces], dim=1)
    scale = max(1.0, float(separate.abs().max()))
    torch.testing.assert_close(packed, separate, atol=2e-5 * scale, rtol=1e-5)


@pytest.mark.parametrize("pieces", [(20,), (1,) * 20, (7, 1, 5, 7)])
def test_reading_with_a_cache_equals_reading_at_once(pair: Any, pieces: tuple[int, ...]) -> None:
    _, _, ours = pair
    tokens = _tokens(2, 20)
    cache = ours.new_cache(2, 20)
    with torch.no_grad():
        parts = [ours(part, cache=cache) for part in tokens.split(pieces, dim=1)]
        wanted = ours(tokens)
        scale = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(torch.cat(parts, dim=1), wanted, atol=2e-5 * scale, rtol=1e-5)
    with pytest.raises(GroundupError, match="made for 2 x 20 tokens and holds 20; 2 x 1 more do not fit"):
        ours(tokens[:, :1], cache=cache)


def test_prompts_of_different_lengths_share_a_batch_as_documents(pair: Any) -> None:
    _, _, ours = pair
    prompts = [_tokens(1, n, seed=n) for n in (3, 8)]
    with torch.no_grad():
        alone = torch.cat([ours(prompt)[:, -1] for prompt in prompts])
        padded = torch.zeros(2, 8, dtype=torch.int64)
        documents = torch.full((2, 8), -1)
        for row, prompt in enumerate(prompts):
            padded[row, 8 - prompt.shape[1] :] = prompt
            documents[row, 8 - prompt.shape[1] :] = row
        together = ours(padded, documents, cache=ours.new_cache(2, 9))[:, -1]
    scale = max(1.0, float(alone.abs().max()))
    torch.testing.assert_close(together, alone, atol=2e-5 * scale, rtol=1e-5)


SMALL = {
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "GPTNeoX": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "Mamba2": {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 16, "n_groups": 2},
    "DeepseekV3": {**DEEPSEEK, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}
    | {"num_hidden_layers": 2},
    "Qwen3Moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}
USUAL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16}
DECODERS = {kind: name for kind, name in FAMILIES.items() if kind in {case[1] for case in CASES.values()}}


@pytest.mark.parametrize("kind", DECODERS)
def test_one_from_a_recipe_starts_at_the_loss_of_guessing_and_learns(kind: str) -> None:
    name = DECODERS[kind]
    sizes = SMALL.get(name, USUAL) if "hidden_size" in SMALL.get(name, {"hidden_size": 0}) else {**USUAL, **SMALL[name]}
    if name == "GPT2":
        sizes = SMALL[name]
    torch.manual_seed(0)
    model = make(Use(f"groundup.models.{kind}:{name}", **sizes), "model", vocab_size=256, length=64)
    assert with_defaults(Use(name, **sizes), "model").arguments.items() >= sizes.items()
    tokens = torch.randint(0, 256, (4, 65), generator=torch.Generator().manual_seed(1))
    loss = model(tokens[:, :-1], targets=tokens[:, 1:])
    assert loss.item() == pytest.approx(math.log(256), rel=0.05)
    loss.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert [n for n in silent if "experts" not in n and "router" not in n] == []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss = model(tokens[:, :-1], targets=tokens[:, 1:])
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.8 * math.log(256)


@pytest.mark.parametrize("case", ["qwen2", "qwen3", "mistral, no window", "gemma2"])
def test_a_tied_head_that_is_written_out_must_be_the_embedding(case: str, tmp_path: Path) -> None:
    _theirs(case).save_pretrained(tmp_path / "m")
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    save_file({**tensors, "lm_head.weight": embedding.clone()}, tmp_path / "m" / "model.safetensors")
    assert torch.equal(read_folder(tmp_path / "m").embedding.weight, embedding)
    save_file({**tensors, "lm_head.weight": embedding + 1}, tmp_path / "m" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"ties the embeddings, but lm_head\.weight differs"):
        read_folder(tmp_path / "m")


def test_settings_that_would_change_the_model_are_refused(tmp_path: Path) -> None:
    _theirs("qwen2").save_pretrained(tmp_path / "m")
    table = json.loads((tmp_path / "m" / "config.json").read_text())
    for change, said in (
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; this family is written for 'silu'"),
        ({"layer_types": ["chunked_attention"] * 3}, "layer_types has"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is not known"),
    ):
        (tmp_path / "m" / "config.json").write_text(json.dumps({**table, **change}))
        with pytest.raises(CheckpointError, match=said):
            read_folder(tmp_path / "m")


def test_positions_that_are_scaled_by_length_are_those_of_transformers_and_never_mixed(tmp_path: Path) -> None:
    theirs = _theirs("phi3, longrope")
    theirs.config.original_max_position_embeddings = 20
    theirs.config.rope_parameters["original_max_position_embeddings"] = 20
    theirs.save_pretrained(tmp_path / "m")
    theirs = type(theirs).from_pretrained(tmp_path / "m").eval()
    ours = read_folder(tmp_path / "m")
    for steps in (12, 37):
        tokens = _tokens(2, steps)
        with torch.no_grad():
            torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=1e-5, rtol=1e-5)
    cache = ours.new_cache(2, 37)
    with torch.no_grad():
        ours(tokens[:, :18], cache=cache)
        with pytest.raises(GroundupError, match=r"scaled anew.*new cache"):
            ours(tokens[:, 18:25], cache=cache)
