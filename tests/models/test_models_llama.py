"""Llama against transformers' on tiny random weights, and against itself: packing, cache, no look-ahead."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.core.errors import CheckpointError, GroundupError, RecipeError
from groundup.core.use import Use, check, make
from groundup.models import Llama
from groundup.models.hugging_face import read_folder, write_folder
from groundup.models.llama import LlamaConfig
from groundup.nn.decoder import Context

transformers = pytest.importorskip("transformers")

SIZES = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 101,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5000.0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
KINDS = {
    "grouped and tied": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "every head its own, untied": {"num_key_value_heads": 4, "tie_word_embeddings": False},
    "one for all heads, llama3 positions": {
        "num_key_value_heads": 1,
        "tie_word_embeddings": False,
        "rope_scaling": LLAMA3,
    },
    "linear positions": {
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    },
}


def _tokens(batch: int, steps: int, vocab: int = 101, seed: int = 0) -> Tensor:
    return torch.randint(0, vocab, (batch, steps), generator=torch.Generator().manual_seed(seed))


def _shake(model: torch.nn.Module, seed: int = 1) -> None:
    """Weights that are large enough, norms included, for a wrong one to show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if parameter.ndim == 1 else 0.15 * noise)


def _theirs(kind: str):
    config = transformers.LlamaConfig(**SIZES, **KINDS[kind], attn_implementation="eager")
    model = transformers.LlamaForCausalLM(config)
    _shake(model)
    return model.eval()


@pytest.fixture(params=KINDS)
def pair(request, tmp_path):
    theirs = _theirs(request.param)
    theirs.save_pretrained(tmp_path / "theirs")
    return theirs, read_folder(tmp_path / "theirs")


def test_logits_and_gradients_are_those_of_transformers(pair):
    theirs, ours = pair
    tokens = _tokens(2, 37)
    wanted = theirs(tokens)
    torch.testing.assert_close(ours(tokens), wanted.logits, atol=1e-5, rtol=1e-5)
    targets = tokens.roll(-1, dims=1)
    targets[:, -1] = -100
    loss = ours(tokens, targets=targets)
    reference = theirs(tokens, labels=tokens).loss
    torch.testing.assert_close(loss, reference, atol=1e-6, rtol=1e-6)
    loss.backward()
    reference.backward()
    published = dict(theirs.named_parameters())
    from groundup.nn.weights import write_names

    gradients = write_names({name: p.grad for name, p in ours.named_parameters()}, ours.WEIGHTS)
    assert gradients.keys() == published.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, published[name].grad, atol=1e-5, rtol=1e-5, msg=name)


def test_greedy_tokens_are_those_of_transformers(pair):
    theirs, ours = pair
    prompt = _tokens(1, 5)
    wanted = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=30,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert torch.equal(_greedy(ours, prompt, 30), wanted)


def test_transformers_reads_what_we_write(pair, tmp_path):
    _, ours = pair
    _shake(ours, seed=3)
    write_folder(ours, tmp_path / "ours")
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "ours").eval()
    tokens = _tokens(2, 37)
    torch.testing.assert_close(theirs(tokens).logits, ours(tokens), atol=1e-5, rtol=1e-5)
    again = read_folder(tmp_path / "ours")
    assert torch.equal(again(tokens), ours(tokens))
    assert again.config == ours.config


@torch.no_grad()
def _greedy(model: Llama, prompt: Tensor, count: int) -> Tensor:
    cache = model.new_cache(len(prompt), prompt.shape[1] + count)
    tokens, new = prompt, prompt
    for _ in range(count):
        new = model(new, cache=cache)[:, -1].argmax(-1, keepdim=True)
        tokens = torch.cat((tokens, new), dim=1)
    return tokens


def _small(**changes) -> Llama:
    torch.manual_seed(0)
    model = Llama(**{**SIZES, "num_key_value_heads": 2, **changes})
    _shake(model)
    return model


# --- against itself


def test_a_step_sees_nothing_of_what_comes_after():
    model = _small()
    tokens = _tokens(2, 30)
    documents = torch.arange(30).div(11, rounding_mode="floor").expand(2, -1)
    changed = tokens.clone()
    changed[:, 17:] = (changed[:, 17:] + 1) % 101
    for packed in (None, documents):
        before, after = model(tokens, packed), model(changed, packed)
        assert torch.equal(before[:, :17], after[:, :17])
        assert not torch.allclose(before[:, 17:], after[:, 17:])


def test_packed_documents_equal_separate_ones():
    model = _small()
    lengths = (9, 1, 14, 6)
    pieces = [_tokens(1, n, seed=n) for n in lengths]
    targets = [_tokens(1, n, seed=n + 50) for n in lengths]
    targets[2][:, 3:5] = -100
    documents = torch.cat([torch.full((1, n), i) for i, n in enumerate(lengths)], dim=1)
    packed = model(torch.cat(pieces, dim=1), documents)
    separate = torch.cat([model(piece) for piece in pieces], dim=1)
    torch.testing.assert_close(packed, separate, atol=1e-5, rtol=1e-5)
    parameters = list(model.parameters())
    joint = model(torch.cat(pieces, dim=1), documents, torch.cat(targets, dim=1))
    found = torch.autograd.grad(joint, parameters)
    counts = [int((t >= 0).sum()) for t in targets]
    apart = sum(
        model(piece, targets=target) * count / sum(counts)
        for piece, target, count in zip(pieces, targets, counts, strict=True)
    )
    torch.testing.assert_close(joint, apart, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found, torch.autograd.grad(apart, parameters), atol=1e-5, rtol=1e-5)
    # In two rows of one batch: a row with one document beside a row with several.
    rows = torch.cat((torch.cat(pieces, dim=1), _tokens(1, 30, seed=9)))
    both = model(rows, torch.cat((documents, torch.full((1, 30), 7))))
    torch.testing.assert_close(both[1:], model(rows[1:]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both[:1], separate, atol=1e-5, rtol=1e-5)


def test_a_document_that_comes_back_is_not_taken_for_one():
    model = _small()
    tokens = _tokens(1, 12)
    documents = torch.tensor([[0] * 4 + [1] * 4 + [0] * 4])
    changed = tokens.clone()
    changed[:, 4:8] = (changed[:, 4:8] + 1) % 101
    before, after = model(tokens, documents), model(changed, documents)
    torch.testing.assert_close(before[:, 8:], after[:, 8:])
    assert not torch.allclose(before, model(tokens))


def test_loss_is_the_cross_entropy_of_the_logits():
    model = _small()
    tokens, targets = _tokens(3, 20), _tokens(3, 20, seed=4)
    targets[0, :15] = -100
    expected = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(model(tokens, targets=targets), expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(model(tokens, targets=targets), model(tokens=tokens, documents=None, targets=targets))


@pytest.mark.parametrize("pieces", [(20,), (1,) * 20, (7, 1, 5, 7), (13, 1, 1, 5)])
def test_reading_with_a_cache_equals_reading_at_once(pieces):
    model = _small()
    tokens = _tokens(2, 20)
    cache = model.new_cache(2, 20)
    with torch.no_grad():
        parts = [model(part, cache=cache) for part in tokens.split(pieces, dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), atol=1e-5, rtol=1e-5)
    with pytest.raises(GroundupError, match="made for 2 x 20 tokens and holds 20; 2 x 1 more do not fit"):
        model(tokens[:, :1], cache=cache)
    with pytest.raises(GroundupError, match="1 x 1 more"):
        model(tokens[:1, :1], cache=model.new_cache(2, 20))


def test_prompts_of_different_lengths_share_a_batch_as_documents():
    model = _small()
    prompts = [_tokens(1, n, seed=n) for n in (3, 8)]
    alone = [_greedy(model, prompt, 6)[0, -6:] for prompt in prompts]
    padded = torch.zeros(2, 8, dtype=torch.int64)
    documents = torch.full((2, 8), -1)
    for row, prompt in enumerate(prompts):
        padded[row, 8 - prompt.shape[1] :] = prompt
        documents[row, 8 - prompt.shape[1] :] = row
    cache = model.new_cache(2, 14)
    with torch.no_grad():
        new = model(padded, documents, cache=cache)[:, -1:].argmax(-1)
        found = [new]
        for _ in range(5):
            new = model(new, cache=cache)[:, -1:].argmax(-1)
            found.append(new)
    assert torch.equal(torch.cat(found, dim=1), torch.stack(alone))


def test_in_bf16_under_autocast_and_as_weights():
    model = _small()
    tokens, targets = _tokens(2, 40), _tokens(2, 40, seed=5)
    documents = torch.arange(40).div(13, rounding_mode="floor").expand(2, -1)
    exact = model(tokens, documents, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(tokens, documents, targets)
        assert model(tokens).dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.01)
    loss.backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
    short = _small().bfloat16()
    assert short(tokens, documents, targets).item() == pytest.approx(exact.item(), rel=0.01)
    cache = short.new_cache(2, 40)
    with torch.no_grad():
        at_once, logits = short(tokens), model(tokens)
        parts = torch.cat([short(part, cache=cache) for part in tokens.split(10, dim=1)], dim=1)
    for found in (at_once, parts):
        assert (found - logits).norm() < 0.03 * logits.norm()


def test_dropout_acts_in_training_alone():
    model = _small(dropout=0.3)
    tokens = _tokens(1, 10)
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), _small()(tokens))


# --- the dial, the recipe, the start


@pytest.mark.parametrize(
    ("depth", "hidden", "heads", "groups", "inner"),
    [(1, 64, 1, 1, 192), (4, 256, 4, 2, 704), (5, 320, 5, 1, 896), (6, 384, 6, 3, 1024), (12, 768, 12, 6, 2048)],
)
def test_one_dial_sets_the_sizes(depth, hidden, heads, groups, inner):
    with torch.device("meta"):
        config = Llama(1000, depth).config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (depth, hidden, inner)
    assert (config.num_attention_heads, config.num_key_value_heads) == (heads, groups)


def test_sizes_may_be_given_beside_the_dial_or_without_it():
    with torch.device("meta"):
        config = Llama(1000, 6, hidden_size=256, num_key_value_heads=4).config
        assert (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads) == (6, 4, 4)
        config = Llama(65, hidden_size=128, num_hidden_layers=4, num_attention_heads=4).config
        assert (config.num_key_value_heads, config.intermediate_size) == (4, 384)
    with pytest.raises(RecipeError, match="give depth"):
        Llama(1000)
    with pytest.raises(RecipeError, match="must divide"):
        Llama(1000, hidden_size=100, num_hidden_layers=2, num_attention_heads=3)
    with pytest.raises(RecipeError, match=r"rope_scaling: kind 'lama3' is not known\. Did you mean 'llama3'"):
        Llama(1000, depth=1, rope_scaling={"rope_type": "lama3"})
    with pytest.raises(RecipeError, match="'linear' needs factor"):
        Llama(1000, depth=1, rope_scaling={"rope_type": "linear"})


def test_from_a_recipe():
    use = check(Use("Llama", depth=1), "model", "recipe.model")
    model = make(use, "model", vocab_size=50, length=512, input_shape=(512,), out_features=50)
    assert model(torch.zeros(1, 4, dtype=torch.int64)).shape == (1, 4, 50)
    with pytest.raises(RecipeError, match="Did you mean 'depth'"):
        check(Use("Llama", dept=1), "model", "recipe.model")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("depth", [2, 6])
def test_the_first_loss_is_that_of_guessing_and_every_weight_gets_a_gradient(tied, depth):
    torch.manual_seed(0)
    model = Llama(512, depth, tie_word_embeddings=tied)
    loss = model(_tokens(4, 128, 512), targets=_tokens(4, 128, 512, seed=1))
    assert loss.item() == pytest.approx(math.log(512), rel=0.05)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_a_block_starts_as_almost_the_identity():
    torch.manual_seed(0)
    model = Llama(512, 4)
    states = F.rms_norm(torch.randn(2, 64, 256), (256,))
    after = model.blocks[0](states, Context(states).given(0, model.blocks[0]))
    assert 0 < (after - states).std().item() < 0.02
    assert model.blocks[0].attention.query(states).std().item() == pytest.approx(1.0, abs=0.1)


# --- folders


def test_the_real_tiny_model_writes_the_story_it_should(shared_data):
    folder = shared_data / "w_stories260K" / "hf"
    if not folder.is_dir():
        pytest.skip("w_stories260K is not there")
    reference = json.loads((folder / "reference.json").read_text())
    model = read_folder(folder)
    prompt = torch.tensor([reference["ids"]])
    with torch.no_grad():
        logits = model(prompt)[0, -1]
    torch.testing.assert_close(logits[:8], torch.tensor(reference["last_logits_first8"]), atol=1e-4, rtol=1e-5)
    wanted = reference["greedy_200_ids"]
    assert _greedy(model, prompt, len(wanted) - 5)[0].tolist() == wanted


def _written(folder: Path, **changes) -> tuple[Llama, Path]:
    model = _small(**changes)
    write_folder(model, folder)
    return model, folder


def test_shards_with_an_index(tmp_path):
    model = _small(tie_word_embeddings=False)
    write_folder(model, tmp_path / "m", shard_bytes=40_000, texts={"tokenizer.json": "{}"})
    files = sorted(p.name for p in (tmp_path / "m").glob("*.safetensors"))
    assert len(files) > 2
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == files
    tokens = _tokens(1, 9)
    assert torch.equal(read_folder(tmp_path / "m")(tokens), model(tokens))
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "m").eval()
    torch.testing.assert_close(theirs(tokens).logits, model(tokens), atol=1e-5, rtol=1e-5)
    (tmp_path / "m" / files[1]).unlink()
    with pytest.raises(CheckpointError, match=files[1]):
        read_folder(tmp_path / "m")


def test_what_is_read_trains_in_the_type_that_was_asked_for(tmp_path):
    _, folder = _written(tmp_path / "m")
    model = read_folder(folder, dtype=torch.bfloat16)
    assert {(p.dtype, p.requires_grad, p.device.type) for p in model.parameters()} == {(torch.bfloat16, True, "cpu")}
    model(_tokens(1, 5), targets=_tokens(1, 5)).backward()


def _edit(folder: Path, change) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_tensors_without_a_place_or_missing_are_errors(tmp_path):
    _, folder = _written(tmp_path / "m")
    _edit(folder, lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(48)}))
    with pytest.raises(CheckpointError, match=r"'model.layers.0.self_attn.q_proj.bias' has no place"):
        read_folder(folder)
    _edit(folder, lambda t: (t.pop("model.layers.0.self_attn.q_proj.bias"), t.pop("model.layers.1.mlp.up_proj.weight")))
    with pytest.raises(CheckpointError, match=r"'blocks.1.feed_forward.up.weight' \(published as 'model.layers.1.mlp"):
        read_folder(folder)
    _, folder = _written(tmp_path / "n")
    _edit(folder, lambda t: t.update({"model.norm.weight": torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=r"'norm.weight' is \(3,\), config.json says \(48,\)"):
        read_folder(folder)
    _, folder = _written(tmp_path / "o")
    _edit(folder, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(6)}))
    read_folder(folder)


def test_a_tied_head_that_is_written_out_must_be_the_embedding(tmp_path):
    model, folder = _written(tmp_path / "m")
    _edit(folder, lambda t: t.update({"lm_head.weight": model.embedding.weight.detach().clone()}))
    read_folder(folder)
    _edit(folder, lambda t: t.update({"lm_head.weight": model.embedding.weight.detach() + 1}))
    with pytest.raises(CheckpointError, match=r"ties the embeddings, but lm_head\.weight differs"):
        read_folder(folder)


def test_settings_that_would_change_the_model_are_refused(tmp_path):
    _, folder = _written(tmp_path / "m")
    table = json.loads((folder / "config.json").read_text())

    def read(ignore: tuple[str, ...] = (), **changes) -> Llama:
        (folder / "config.json").write_text(json.dumps({**table, **changes}))
        return read_folder(folder, ignore=ignore)

    with pytest.raises(CheckpointError, match="hidden_act is 'gelu'; this family is written for 'silu'"):
        read(hidden_act="gelu")
    with pytest.raises(CheckpointError, match="attention_bias is True"):
        read(attention_bias=True)
    with pytest.raises(CheckpointError, match="head_dim is 64; this family is written for 12"):
        read(head_dim=64)
    with pytest.raises(CheckpointError, match="quantization_config is not known"):
        read(quantization_config={"bits": 4})
    with pytest.raises(CheckpointError, match=r"model_type 'lama' is not known\. Did you mean 'llama'"):
        read(model_type="lama")
    read(sliding=None, ignore=("sliding",))
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        read_folder(folder)
    with pytest.raises(CheckpointError, match="no such folder"):
        read_folder(tmp_path / "nowhere")


def test_the_config_goes_both_ways():
    config = LlamaConfig(
        **SIZES, num_key_value_heads=2, rope_scaling=LLAMA3, eos_token_id=[1, 2], max_position_embeddings=64
    )
    assert LlamaConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert Llama.from_config(config).config == config
    with pytest.raises(CheckpointError, match="hidden_size, vocab_size is missing"):
        LlamaConfig.from_dict({"intermediate_size": 3, "num_hidden_layers": 1, "num_attention_heads": 1})


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path):
    model, folder = _written(tmp_path / "m")
    with pytest.raises(CheckpointError, match="exists already"):
        write_folder(model, folder)
    with pytest.raises(CheckpointError, match="could not be written"):
        write_folder(model, tmp_path / "n", texts={"no/such/place.json": "{}"})
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    model.blocks[0].attention.query = torch.nn.Linear(48, 48)
    with pytest.raises(CheckpointError, match=r"'blocks.0.attention.query.bias' has no published name"):
        write_folder(model, tmp_path / "o")
