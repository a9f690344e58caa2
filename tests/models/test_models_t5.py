"""T5 of both versions against transformers' on tiny random weights, both ways, and against itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from groundup.core.errors import CheckpointError, GroundupError, RecipeError
from groundup.core.use import Use, make
from groundup.models.hugging_face import read_folder, write_folder
from groundup.nn.weights import write_names
from groundup.serving import Sampling, generate

transformers = pytest.importorskip("transformers")

VOCAB = 101
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "d_model": 48,
    "d_kv": 10,
    "d_ff": 80,
    "num_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.0,
}
V1_1 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
CASES: dict[str, dict[str, Any]] = {
    "1.0": {},
    "1.1": V1_1,
    "1.1, fewer layers that write": {**V1_1, "num_decoder_layers": 1},
    "gated, tied": {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 2},
}


def _theirs(case: str) -> Any:
    torch.manual_seed(0)
    config = transformers.T5Config(**SIZES, **CASES[case])
    config._attn_implementation = "eager"
    theirs = transformers.T5ForConditionalGeneration(config)
    if CASES[case].get("tie_word_embeddings") is False:  # published so, while transformers 5 begins with tied ones
        theirs.lm_head.weight = torch.nn.Parameter(torch.empty(VOCAB, SIZES["d_model"]))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in theirs.parameters():
            around = 0.0 if tensor.ndim > 1 else 1.0
            tensor.copy_(around + (0.3 if around else 0.15) * torch.randn(tensor.shape, generator=generator))
        for stack in (theirs.encoder, theirs.decoder):  # a bias that is large enough for a wrong bucket to show
            stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight.mul_(5.0)
    return theirs


@pytest.fixture(params=CASES, scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    theirs = _theirs(request.param)
    folder = tmp_path_factory.mktemp("theirs") / "m"
    theirs.save_pretrained(folder)
    return theirs.eval(), read_folder(folder).eval(), folder


def _tokens(batch: int, steps: int, seed: int = 0) -> Tensor:
    return torch.randint(3, VOCAB, (batch, steps), generator=torch.Generator().manual_seed(seed))


LENGTHS = torch.tensor([37, 20, 1])
KEPT = (torch.arange(37)[None] < LENGTHS[:, None]).long()


def _close(found: Tensor, wanted: Tensor, atol: float = 1e-5) -> None:
    scale = max(1.0, float(wanted.detach().abs().max()))
    torch.testing.assert_close(found, wanted, atol=atol * scale, rtol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_logits_loss_and_gradients_are_those_of_transformers(pair: Any, padded: bool) -> None:
    theirs, ours, _ = pair
    source, written = _tokens(3, 37), _tokens(3, 23, seed=1)
    given = {"attention_mask": KEPT} if padded else {}
    lengths = LENGTHS if padded else None
    targets = _tokens(3, 23, seed=2)
    targets[1, 9:] = -100
    output = theirs(input_ids=source, decoder_input_ids=written, labels=targets, **given)
    _close(ours(source, written, lengths), output.logits)
    for model in (theirs, ours):
        model.zero_grad(set_to_none=True)
    loss = ours(source, written, lengths, targets=targets)
    torch.testing.assert_close(loss, output.loss, atol=1e-5, rtol=1e-5)
    loss.backward()
    output.loss.backward()
    gradients = write_names({n: p.grad for n, p in ours.named_parameters()}, ours.WEIGHTS)
    published = {n: p.grad for n, p in theirs.named_parameters()}
    assert gradients.keys() == published.keys()
    for name, gradient in gradients.items():
        size = max(1.0, float(published[name].abs().max()))
        torch.testing.assert_close(gradient, published[name], atol=1e-5 * size, rtol=1e-4, msg=name)


def test_without_gradients_the_logits_are_the_same(pair: Any) -> None:
    theirs, ours, _ = pair
    with torch.no_grad():
        wanted = theirs(input_ids=_tokens(3, 37), decoder_input_ids=_tokens(3, 23), attention_mask=KEPT).logits
        _close(ours(_tokens(3, 37), _tokens(3, 23), LENGTHS), wanted)


def test_greedy_tokens_are_those_of_transformers_and_a_source_is_read_once(pair: Any) -> None:
    theirs, ours, _ = pair
    source = _tokens(3, 37)
    wanted = theirs.generate(
        source, attention_mask=KEPT, max_new_tokens=25, do_sample=False, num_beams=1, eos_token_id=None, pad_token_id=0
    )
    calls = []
    handle = ours.encoder.register_forward_hook(lambda *_: calls.append(1))
    writer = ours.writer(source, LENGTHS)
    cache = writer.new_cache(3, 26)
    tokens = new = torch.full((3, 1), ours.config.decoder_start_token_id)
    with torch.no_grad():
        for _ in range(25):
            new = writer(new, cache=cache)[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat((tokens, new), dim=1)
    handle.remove()
    assert torch.equal(tokens, wanted)
    assert len(calls) == 1
    with pytest.raises(GroundupError, match="made for 3 x 26 tokens and holds 25; 3 x 2 more do not fit"):
        writer(tokens[:, :2], cache=cache)
    alone = generate(ours.writer(source[1:2, :20]), [0], 25, Sampling(temperature=0))
    assert list(alone) == wanted[1, 1:].tolist()


@pytest.mark.parametrize("pieces", [(20,), (1,) * 20, (7, 1, 5, 7)])
def test_writing_with_a_cache_equals_writing_at_once(pair: Any, pieces: tuple[int, ...]) -> None:
    _, ours, _ = pair
    source, written = _tokens(3, 37), _tokens(3, 20, seed=3)
    writer = ours.writer(source, LENGTHS)
    cache = writer.new_cache(3, 20)
    with torch.no_grad():
        parts = [writer(part, cache=cache) for part in written.split(pieces, dim=1)]
        _close(torch.cat(parts, dim=1), ours(source, written, LENGTHS), atol=2e-5)


def test_padding_of_the_source_changes_nothing(pair: Any) -> None:
    _, ours, _ = pair
    source, written = _tokens(1, 9), _tokens(1, 12, seed=1)
    padded = torch.cat((source, _tokens(1, 6, seed=7)), dim=1)
    with torch.no_grad():
        _close(ours(padded, written, torch.tensor([9])), ours(source, written))


@pytest.mark.parametrize("shard_bytes", [5 * 10**9, 20_000])
def test_transformers_reads_what_we_write(pair: Any, tmp_path: Path, shard_bytes: int) -> None:
    theirs, ours, _ = pair
    write_folder(ours, tmp_path / "ours", shard_bytes=shard_bytes)
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) == 1 if shard_bytes > 10**9 else 3
    again = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()
    source, written = _tokens(2, 37), _tokens(2, 9, seed=1)
    with torch.no_grad():
        wanted = theirs(input_ids=source, decoder_input_ids=written).logits
        _close(again(input_ids=source, decoder_input_ids=written).logits, wanted)
        ours_again = read_folder(tmp_path / "ours").eval()
        assert torch.equal(ours_again(source, written), ours(source, written))
    assert ours_again.config == ours.config


def test_bf16_weights_give_nearly_the_same(pair: Any, tmp_path: Path) -> None:
    theirs, _, folder = pair
    short = read_folder(folder, dtype=torch.bfloat16).eval()
    assert {p.dtype for p in short.parameters()} == {torch.bfloat16}
    source, written = _tokens(3, 37), _tokens(3, 23, seed=1)
    with torch.no_grad():
        exact = theirs(input_ids=source, decoder_input_ids=written, attention_mask=KEPT).logits
        kind = type(theirs).from_pretrained(folder, dtype=torch.bfloat16).eval()
        reference = kind(input_ids=source, decoder_input_ids=written, attention_mask=KEPT).logits
        found = short(source, written, LENGTHS)
    distance = float((found - exact).norm() / exact.norm())
    assert distance < max(0.03, 2 * float((reference - exact).norm() / exact.norm()))


def test_gradients_in_mixed_precision_are_as_near_as_those_of_transformers(pair: Any) -> None:
    theirs, ours, _ = pair
    source, written, targets = _tokens(3, 37), _tokens(3, 23, seed=1), _tokens(3, 23, seed=2)

    def gradient(model: Any, mixed: bool) -> Tensor:
        model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            if model is ours:
                loss = model(source, written, LENGTHS, targets=targets)
            else:
                given = {"decoder_input_ids": written, "attention_mask": KEPT, "labels": targets}
                loss = model(input_ids=source, **given).loss
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    exact, short = gradient(ours, False), gradient(ours, True)
    reference = (gradient(theirs, True) - gradient(theirs, False)).norm() / exact.norm()
    assert 0 < (short - exact).norm() / exact.norm() < max(0.03, 2 * reference)


@pytest.mark.parametrize("sizes", [{}, V1_1])
def test_one_from_a_recipe_starts_at_the_loss_of_guessing_and_learns(sizes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    small = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
    model = make(Use("T5", **small, **sizes), "model", vocab_size=256, decoder_start_token_id=255)
    assert model.config.decoder_start_token_id == 255
    source = torch.randint(0, 255, (4, 32), generator=torch.Generator().manual_seed(1))
    written = F.pad(source[:, :-1], (1, 0), value=255)
    loss = model(source, written, targets=source)
    assert loss.item() == pytest.approx(math.log(256), rel=0.05)
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss = model(source, written, targets=source)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.8 * math.log(256)


def test_copies_of_the_embedding_are_read_once_and_must_be_equal(tmp_path: Path) -> None:
    import safetensors.torch

    theirs = _theirs("1.1").eval()
    theirs.save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    for part in ("encoder", "decoder"):  # as flan-t5 is published
        tensors[f"{part}.embed_tokens.weight"] = tensors["shared.weight"].clone()
    safetensors.torch.save_file(tensors, file)
    source, written = _tokens(2, 9), _tokens(2, 5)
    _close(read_folder(tmp_path / "m")(source, written), theirs(input_ids=source, decoder_input_ids=written).logits)
    tensors["encoder.embed_tokens.weight"][3, 4] += 1
    safetensors.torch.save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"encoder\.embed_tokens\.weight differs from the embedding"):
        read_folder(tmp_path / "m")


def test_settings_that_would_change_the_model_are_refused(tmp_path: Path) -> None:
    _theirs("1.0").save_pretrained(tmp_path / "m")
    table = json.loads((tmp_path / "m" / "config.json").read_text())
    for change, said in (
        ({"feed_forward_proj": "gated-silu"}, "feed_forward_proj: read 'gated-silu', expected 'relu' or 'gated-gelu'"),
        ({"is_encoder_decoder": False}, "is_encoder_decoder is False; this family is written for True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is not known"),
        ({"relative_attention_max_distance": 4}, "relative_attention_num_buckets 8, relative_attention_max_distance 4"),
    ):
        (tmp_path / "m" / "config.json").write_text(json.dumps({**table, **change}))
        with pytest.raises(CheckpointError, match=said):
            read_folder(tmp_path / "m")
    with pytest.raises(RecipeError, match="expected a multiple of 4"):
        make(Use("T5", relative_attention_num_buckets=6), "model", vocab_size=9)
