"""The attention kernels against plain arithmetic, in blocks and whole, with and without masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from groundup.core.errors import RecipeError
from groundup.nn import Attention, attention
from groundup.nn.attention import KeyValueCache, attend, causal_mask
from groundup.nn.rope import Rotary, rotate


def _heads(steps: int, heads: int, groups: int, size: int = 8, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(steps)
    return [
        torch.randn(2, steps, count, size, generator=generator, dtype=dtype).requires_grad_()
        for count in (heads, groups, groups)
    ]


def _by_hand(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """One head and one query at a time."""
    out = torch.zeros_like(q)
    share = q.shape[2] // k.shape[2]
    rows = []
    for b in range(q.shape[0]):
        for t in range(q.shape[1]):
            for h in range(q.shape[2]):
                scores = k[b, :, h // share] @ q[b, t, h] / q.shape[3] ** 0.5
                weights = torch.softmax(scores.masked_fill(~allowed[b, t], float("-inf")), 0)
                rows.append(weights @ v[b, :, h // share])
    return torch.stack(rows).view_as(out)


DOCUMENTS = torch.tensor([[0] * 5 + [1] * 9 + [2] * 3, [4] * 12 + [5] * 5])


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("documents", [None, DOCUMENTS])
@pytest.mark.parametrize("kernel", ["blocks of 4", "one block", "torch's"])
def test_attention_is_its_formula(monkeypatch, heads, groups, documents, kernel):
    monkeypatch.setattr(attention, "BLOCK", 4 if kernel == "blocks of 4" else 128)
    monkeypatch.setattr(attention, "LONGEST_BLOCKED", 0 if kernel == "torch's" else 2048)
    heads_of = _heads(17, heads, groups)
    allowed = torch.ones(2, 17, 17, dtype=torch.bool).tril()
    if documents is not None:
        allowed &= documents[:, :, None] == documents[:, None]
    mask = causal_mask(17, torch.float64, torch.device("cpu"), documents=documents)
    assert (mask is None) == (documents is None)
    found, wanted = attend(*heads_of, mask, causal=True), _by_hand(*heads_of, allowed)
    torch.testing.assert_close(found, wanted)
    weights = torch.randn(wanted.shape, dtype=wanted.dtype, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), heads_of), torch.autograd.grad((wanted * weights).sum(), heads_of)
    )


@pytest.mark.parametrize("steps", [127, 128, 129, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_equal_torchs_kernel(monkeypatch, steps, dtype):
    heads = [h.detach().to(dtype).requires_grad_() for h in _heads(steps, 4, 2, size=32, dtype=torch.float32)]
    results = []
    for longest in (2048, 0):
        monkeypatch.setattr(attention, "LONGEST_BLOCKED", longest)
        out = attend(*heads, None, causal=True)
        results.append([out, *torch.autograd.grad(out.float().square().sum(), heads)])
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype == dtype
        assert (ours - theirs).norm() <= (1e-6 if dtype == torch.float32 else 0.01) * theirs.norm()


def test_gradients_in_float64(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 3)
    heads = _heads(7, 2, 1, size=4)
    assert torch.autograd.gradcheck(lambda *x: attend(*x, None, causal=True), heads)


def test_a_layer_that_sees_all_or_only_what_is_before():
    inputs = torch.randn(2, 9, 16)
    changed = inputs.clone()
    changed[:, -1] += 1
    for causal in (True, False):
        layer = Attention(4, 2, causal, in_features=16)
        before, after = layer(inputs), layer(changed)
        assert torch.equal(before[:, :-1], after[:, :-1]) == causal
        padding = torch.zeros(2, 1, 9, 9)
        padding[..., -1] = float("-inf")
        padding[..., -1, :] = 0
        if not causal:
            torch.testing.assert_close(layer(inputs, mask=padding)[:, :-1], layer(changed, mask=padding)[:, :-1])


def test_rotary_products_depend_on_the_distance_alone():
    rotary = Rotary(8)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def product(at: int, other: int) -> float:
        device = torch.device("cpu")
        turned = rotate(q, *rotary(at, 1, torch.float32, device)), rotate(k, *rotary(other, 1, torch.float32, device))
        return (turned[0] * turned[1]).sum().item()

    assert product(3, 1) == pytest.approx(product(903, 901), abs=1e-4)
    assert product(3, 1) != pytest.approx(product(3, 2), abs=1e-3)
    assert product(0, 0) == pytest.approx((q * k).sum().item(), abs=1e-5)
    with pytest.raises(RecipeError, match="even head size"):
        Rotary(7)


def test_rotary_tables_are_made_once_and_grow():
    rotary = Rotary(8)
    cpu = torch.device("cpu")
    first, again = rotary(0, 10, torch.float32, cpu)[0], rotary(0, 500, torch.float32, cpu)[0]
    assert first.data_ptr() == again.data_ptr()
    longer = rotary(600, 10, torch.float32, cpu)[0]
    assert longer.data_ptr() != first.data_ptr()
    torch.testing.assert_close(rotary(0, 10, torch.float32, cpu)[0], first, atol=0, rtol=0)
    assert list(rotary.state_dict()) == []


def test_the_cache_holds_what_was_added():
    cache = KeyValueCache(1, 2, 6)
    parts = [torch.randn(2, n, 3, 4) for n in (2, 1, 3)]
    for part in parts:
        assert cache.start(part[..., 0, 0], None) is None
        keys, values = cache.add(0, part, -part)
        cache.advance(part.shape[1])
    assert torch.equal(keys, torch.cat(parts, dim=1))
    assert torch.equal(values, -keys)
