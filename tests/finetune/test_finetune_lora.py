"""LoRA starts as the model was, trains what it should, and merges to what it had become."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use, check, make
from groundup.finetune import lora
from groundup.finetune.lora import LoRALinear, lora_layers, merge
from groundup.models import MLP, Llama

TOKENS = torch.randint(0, 60, (2, 21), generator=torch.Generator().manual_seed(0))


def _model(**changes) -> Llama:
    torch.manual_seed(0)
    return Llama(60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, **changes)


def _trained(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    return model


@pytest.mark.parametrize("where", ["blocks.*.attention.*", "blocks.*", "*", "blocks.1.feed_forward.down"])
def test_outputs_are_unchanged_at_the_start_bit_for_bit(where):
    model = _model()
    before = model(TOKENS)
    assert lora(model, where=where) is model
    assert torch.equal(model(TOKENS), before)


def test_from_a_recipe():
    use = check(Use("lora", rank=4, where="blocks.*.attention.[qv]*"), "method", "recipe.finetune.method")
    model = make(use, "method")(_model())
    assert lora_layers(model) == [f"blocks.{i}.attention.{kind}" for i in (0, 1) for kind in ("query", "value")]
    with pytest.raises(RecipeError, match="Did you mean 'rank'"):
        check(Use("lora", rang=4), "method", "recipe.finetune.method")


def test_only_the_thin_matrices_train():
    model = lora(_model(), rank=4)
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    kinds = ("query", "key", "value", "output")
    assert trains == {f"blocks.{i}.attention.{kind}.lora_{ab}" for i in (0, 1) for kind in kinds for ab in "ab"}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1.0)
    targets = TOKENS.roll(-1, 1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = model(TOKENS, targets=targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != (name in trains), name
        assert (parameter.grad is None) == (name not in trains), name


@pytest.mark.parametrize("where", ["blocks.*.attention.*", "blocks.*", "*"])
@pytest.mark.parametrize("tied", [True, False])
def test_merged_equals_trained(where, tied):
    model = _model(tie_word_embeddings=tied)
    names = set(model.state_dict())
    before = model(TOKENS)
    _trained(lora(model, rank=4, alpha=8.0, where=where))
    model.eval()
    after = model(TOKENS)
    loss = model(TOKENS, targets=TOKENS)
    assert not torch.allclose(after, before, atol=1e-3)
    assert merge(model) is model
    assert lora_layers(model) == []
    assert set(model.state_dict()) == names
    torch.testing.assert_close(model(TOKENS), after, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(TOKENS, targets=TOKENS), loss, atol=1e-6, rtol=1e-6)


def test_the_layer_is_its_formula():
    base = nn.Linear(6, 5)
    layer = LoRALinear.from_linear(base, rank=2, alpha=3.0)
    nn.init.normal_(layer.lora_b)
    inputs = torch.randn(4, 6)
    expected = inputs @ (base.weight + 1.5 * layer.lora_b @ layer.lora_a).T + base.bias
    torch.testing.assert_close(layer(inputs), expected)
    assert layer.fuse() is base
    torch.testing.assert_close(base(inputs), expected)
    assert layer.lora_a.abs().max().item() <= 6**-0.5


def test_dropout_acts_in_training_on_the_thin_path_alone():
    layer = LoRALinear(nn.Linear(50, 50), dropout=0.5)
    nn.init.normal_(layer.lora_b)
    inputs = torch.randn(3, 50)
    assert not torch.equal(layer(inputs), layer(inputs))
    layer.eval()
    assert torch.equal(layer(inputs), layer(inputs))


def test_the_head_takes_lora_too():
    """The loss multiplies by the head's weight itself; the thin matrices must be in it, with their gradient."""
    model = _trained(lora(_model(tie_word_embeddings=False), where="head"))
    full = nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten())
    loss = model(TOKENS, targets=TOKENS)
    torch.testing.assert_close(loss, full)
    head = model.head
    assert isinstance(head, LoRALinear)
    found = torch.autograd.grad(loss, (head.lora_a, head.lora_b))
    torch.testing.assert_close(found, torch.autograd.grad(full, (head.lora_a, head.lora_b)))


def test_what_cannot_be_done_is_said():
    with pytest.raises(RecipeError, match=r"lora\.where: the pattern 'blocks\.\*\.atention\.\*' matches nothing"):
        lora(_model(), where="blocks.*.atention.*")
    with pytest.raises(RecipeError, match="matches no linear layer, only RMSNorm"):
        lora(_model(), where="*norm")
    with pytest.raises(RecipeError, match="between 1 and 16"):
        lora(_model(), rank=17, where="*.key")
    model = lora(_model())
    with pytest.raises(RecipeError, match="has LoRA already"):
        lora(model)
    with pytest.raises(RecipeError, match="no LoRA layers"):
        merge(_model())
    unchanged = _model()
    with pytest.raises(RecipeError):
        lora(unchanged, where="*norm")
    assert all(p.requires_grad for p in unchanged.parameters())


def test_any_model_with_linear_layers():
    model = MLP([8, 8], in_features=4, out_features=2)
    inputs = torch.randn(3, 4)
    before = model(inputs)
    lora(model, rank=2, where="layers.*")
    assert torch.equal(model(inputs), before)
    assert len(lora_layers(model)) == 3


def test_in_bf16():
    model = lora(_model().bfloat16())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    model(TOKENS, targets=TOKENS).backward()
    model = _trained(lora(_model()))
    exact = model(TOKENS, targets=TOKENS)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(TOKENS, targets=TOKENS)
        loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=0.01)
