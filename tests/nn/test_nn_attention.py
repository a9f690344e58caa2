"""The attention kernels against plain arithmetic, in blocks and whole, with and without masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from groundup.core.errors import RecipeError
from groundup.core.use import Use
from groundup.nn import Attention, CrossAttention, LatentAttention, RMSNorm, attending
from groundup.nn.attending import Score, attend
from groundup.nn.cache import KeyValueCache
from groundup.nn.dense_attention import attend_dense
from groundup.nn.masks import causal_mask, full_mask, kept_of, padding_mask
from groundup.nn.positions import ALiBi
from groundup.nn.rope import Rotary, rotate


def _heads(steps: int, heads: int, groups: int, size: int = 8, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(steps)
    return [
        torch.randn(2, steps, count, size, generator=generator, dtype=dtype).requires_grad_()
        for count in (heads, groups, groups)
    ]


def _by_hand(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, cap: float | None = None) -> Tensor:
    """One head and one query at a time."""
    out = torch.zeros(*q.shape[:3], v.shape[3], dtype=q.dtype)
    share = q.shape[2] // k.shape[2]
    rows = []
    for b in range(q.shape[0]):
        for t in range(q.shape[1]):
            for h in range(q.shape[2]):
                scores = k[b, :, h // share] @ q[b, t, h] / q.shape[3] ** 0.5
                scores = scores if cap is None else cap * torch.tanh(scores / cap)
                weights = torch.softmax(scores.masked_fill(~allowed[b, t], float("-inf")), 0)
                rows.append(weights @ v[b, :, h // share])
    return torch.stack(rows).view_as(out)


KERNELS = {"blocks of 4": (4, 2048), "one block": (128, 2048), "torch's": (128, 0)}
"""Query steps of a block, and the longest input that goes in blocks."""


def _take(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """Have one kernel on any machine."""
    for name, value in zip(("BLOCK", "LONGEST_BLOCKED", "AMX"), (*KERNELS[kernel], False), strict=True):
        monkeypatch.setattr(attending, name, value)


DOCUMENTS = torch.tensor([[0] * 5 + [1] * 9 + [2] * 3, [4] * 12 + [5] * 5])


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("documents", [None, DOCUMENTS])
@pytest.mark.parametrize("kernel", KERNELS)
def test_attention_is_its_formula(monkeypatch, heads, groups, documents, kernel):
    _take(monkeypatch, kernel)
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


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("window", [1, 3, 4, 9, 17, 40])
@pytest.mark.parametrize("cap", [None, 0.7])
def test_windows_and_capped_scores(monkeypatch, kernel, window, cap):
    _take(monkeypatch, kernel)
    q, k, v = _heads(17, 4, 2)
    v = torch.randn(2, 17, 2, 5, dtype=torch.float64, requires_grad=True)  # values may be of another size
    back = torch.arange(17)[:, None] - torch.arange(17)
    allowed = ((back >= 0) & (back < window)).expand(2, 17, 17)
    found = attend(q, k, v, None, True, window, Score(cap=cap))
    wanted = _by_hand(q, k, v, allowed, cap)
    torch.testing.assert_close(found, wanted)
    weights = torch.randn(wanted.shape, dtype=wanted.dtype)
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), (q, k, v)),
        torch.autograd.grad((wanted * weights).sum(), (q, k, v)),
    )
    documents = causal_mask(17, torch.float64, torch.device("cpu"), documents=DOCUMENTS, window=window)
    apart = allowed & (DOCUMENTS[:, :, None] == DOCUMENTS[:, None])
    masked = attend(q, k, v, documents, True, window, Score(cap=cap))
    torch.testing.assert_close(masked, _by_hand(q, k, v, apart, cap))
    for new in (1, 5):  # the last steps alone, as generation reads them
        last = attend(q[:, -new:], k, v, None, True, window, Score(cap=cap))
        torch.testing.assert_close(last, wanted[:, -new:])
    near = (back.abs() < window).expand(2, 17, 17)
    torch.testing.assert_close(attend(q, k, v, None, False, window, Score(cap=cap)), _by_hand(q, k, v, near, cap))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_score_for_each_head_and_padding(monkeypatch, kernel):
    _take(monkeypatch, kernel)
    q, k, v = _heads(9, 4, 2)
    cpu = torch.device("cpu")
    penalties = ALiBi(4)(9, 9, torch.float64, cpu)
    assert [round(float(-penalties[0, h, 1, 0]), 6) for h in range(4)] == [0.25, 0.0625, 0.015625, 0.003906]
    triangle = torch.full((9, 9), float("-inf"), dtype=torch.float64).triu(1)
    found = attend(q, k, v, penalties + triangle, causal=True)
    scores = torch.einsum("bthd,bshd->bhts", q, k.repeat_interleave(2, 2)) / 8**0.5 + penalties + triangle
    torch.testing.assert_close(found, torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v.repeat_interleave(2, 2)))
    lengths = torch.tensor([9, 4])
    mask = causal_mask(9, torch.float64, cpu, kept=kept_of(lengths, 9))
    padded = attend(q, k, v, mask, causal=True)
    assert padded.isfinite().all()
    torch.testing.assert_close(padded[1, :4], attend(q[1:, :4], k[1:, :4], v[1:, :4], None, True)[0])
    mask = full_mask(9, torch.float64, cpu, kept=kept_of(lengths, 9))
    torch.testing.assert_close(attend(q, k, v, mask)[1, :4], attend(q[1:, :4], k[1:, :4], v[1:, :4])[0])
    assert causal_mask(9, torch.float64, cpu, kept=kept_of(torch.tensor([9, 9]), 9)) is None
    mask = padding_mask(lengths, 9, torch.float64)
    torch.testing.assert_close(attend(q, k, v, mask)[1], attend(q[1:], k[1:, :4], v[1:, :4])[0])
    assert padding_mask(torch.tensor([9, 9]), 9, torch.float64) is None


def test_a_learned_bias_has_its_gradient():
    q, k, v = _heads(9, 2, 2)
    bias = torch.randn(1, 2, 9, 9, dtype=torch.float64, requires_grad=True)
    attend(q, k, v, bias, causal=True).sum().backward()
    assert bias.grad is not None
    assert bias.grad.abs().max() > 0


@pytest.mark.parametrize("shape", [(1, 3, 6, 9), (2, 3, 6, 9), (2, 1, 1, 9)])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_a_learned_mask_and_all_others_have_the_gradients_of_the_formula(monkeypatch, shape, scale):
    generator = torch.Generator().manual_seed(3)
    taken = []
    monkeypatch.setattr(attending, "attend_dense", lambda *given: taken.append(1) or attend_dense(*given))

    def drawn(*sizes: int) -> Tensor:
        return torch.randn(sizes, dtype=torch.float64, generator=generator).requires_grad_()

    q, k, v, bias = drawn(2, 6, 3, 4), drawn(2, 9, 3, 4), drawn(2, 9, 3, 4), drawn(*shape)
    hidden = torch.zeros(2, 1, 1, 9, dtype=torch.float64)
    hidden[1, ..., 5:] = float("-inf")
    weights = torch.randn(2, 6, 3, 4, dtype=torch.float64, generator=generator)
    found = attend(q, k, v, bias + hidden, score=Score(scale))
    scores = torch.einsum("bthd,bshd->bhts", q, k) * scale + bias + hidden
    wanted = torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v)
    assert taken == [1]
    torch.testing.assert_close(found, wanted)
    results = [torch.autograd.grad((out * weights).sum(), (q, k, v, bias)) for out in (found, wanted)]
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("steps", [127, 128, 129, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_equal_torchs_kernel(monkeypatch, steps, dtype):
    heads = [h.detach().to(dtype).requires_grad_() for h in _heads(steps, 4, 2, size=32, dtype=torch.float32)]
    results = []
    for kernel in ("one block", "torch's"):
        _take(monkeypatch, kernel)
        out = attend(*heads, None, causal=True)
        results.append([out, *torch.autograd.grad(out.float().square().sum(), heads)])
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype == dtype
        assert (ours - theirs).norm() <= (1e-6 if dtype == torch.float32 else 0.01) * theirs.norm()


F32, BF16 = torch.float32, torch.bfloat16


@pytest.mark.parametrize(
    ("amx", "dtype", "steps", "training", "given", "blocks"),
    [
        (False, F32, 300, True, {}, True),
        (False, BF16, 300, False, {}, True),
        (True, F32, 600, True, {}, False),
        (True, F32, 600, False, {"cap": 5.0}, True),
        (True, F32, 600, False, {"window": 90}, True),
        (True, F32, 600, True, {"window": 700}, False),  # it hides nothing
        (True, F32, 600, True, {"window": 300}, False),
        (True, F32, 300, True, {"window": 90}, False),
        (True, F32, 600, True, {"documents": True}, False),
        (True, F32, 300, True, {"value": 5}, True),
        (True, BF16, 512, True, {}, True),
        (True, BF16, 512, True, {"groups": 4}, False),
        (True, BF16, 256, True, {"groups": 4}, True),
        (True, BF16, 600, True, {}, False),
        (True, BF16, 600, True, {"documents": True}, True),
        (True, BF16, 600, True, {"window": 90}, True),
        (True, BF16, 300, False, {"documents": True}, False),
    ],
)
def test_the_kernel_is_the_one_that_was_measured_to_be_faster(monkeypatch, amx, dtype, steps, training, given, blocks):
    monkeypatch.setattr(attending, "AMX", amx)
    calls = []
    kernel = attending._BlockedAttention.apply
    monkeypatch.setattr(attending._BlockedAttention, "apply", lambda *x: (calls.append(x), kernel(*x))[1])
    q, k, v = (h.detach().to(dtype) for h in _heads(steps, 4, given.get("groups", 2)))
    v = v[..., : given.get("value", 8)].requires_grad_(training)
    documents = torch.arange(steps).expand(2, -1) // 100 if "documents" in given else None
    mask = causal_mask(steps, dtype, torch.device("cpu"), documents=documents)
    found = attend(q, k, v, mask, True, given.get("window"), Score(cap=given.get("cap")))
    assert bool(calls) == blocks
    with torch.no_grad():
        attend(q, k, v, mask, True, given.get("window"), Score(cap=given.get("cap")))
    assert len(calls) == (2 if blocks and (not amx or dtype == F32) else int(blocks))
    assert found.dtype == dtype


@pytest.mark.parametrize(
    ("amx", "dtype", "steps", "seen", "given", "dense"),
    [
        (False, BF16, 300, 300, {}, True),
        (False, BF16, 300, 200, {"mask": True}, True),
        (False, BF16, 300, 300, {"window": 90}, True),
        (False, BF16, 1, 200, {}, False),
        (False, BF16, 1025, 200, {}, False),
        (False, BF16, 200, 1025, {}, False),
        (False, BF16, 300, 300, {"groups": 2}, False),
        (False, BF16, 200, 300, {"causal": True}, False),
        (False, F32, 300, 300, {}, False),
        (True, BF16, 300, 300, {}, False),
        (True, F32, 300, 300, {"mask": True, "learned": True}, True),
    ],
)
def test_dense_products_where_they_were_measured_to_be_faster(monkeypatch, amx, dtype, steps, seen, given, dense):
    monkeypatch.setattr(attending, "AMX", amx)
    taken = []
    monkeypatch.setattr(attending, "attend_dense", lambda *given: taken.append(1) or attend_dense(*given))
    given = dict(given)
    generator = torch.Generator().manual_seed(5)
    q, k, v = (
        torch.randn(2, length, heads, 16, generator=generator).to(dtype).requires_grad_()
        for length, heads in ((steps, 4), (seen, given.get("groups", 4)), (seen, given.pop("groups", 4)))
    )
    mask = torch.randn(2, 1, steps, seen, generator=generator).to(dtype) if given.pop("mask", False) else None
    if given.pop("learned", False):
        mask.requires_grad_()
    found = attend(q, k, v, mask, **given)
    assert bool(taken) == dense
    if dense:  # the same as torch's kernel gives
        monkeypatch.setattr(attending, "_dense_wins", lambda *_: False)
        wanted = attend(q, k, v, mask, **given)
        results = [(out, *torch.autograd.grad(out.float().square().sum(), (q, k, v))) for out in (found, wanted)]
        for ours, theirs in zip(*results, strict=True):
            assert ours.dtype == theirs.dtype == dtype
            assert (ours - theirs).norm() <= (1e-6 if dtype == F32 else 0.02) * theirs.norm()


def test_an_encoder_in_bf16_by_autocast_has_gradients():
    layer = Attention(4, causal=False, in_features=32)
    inputs = torch.randn(2, 9, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(inputs, lengths=torch.tensor([9, 4]))
    found.float().square().sum().backward()
    exact = layer(inputs, lengths=torch.tensor([9, 4]))
    torch.testing.assert_close(found.float(), exact, rtol=0.05, atol=0.02)
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_gradients_in_float64(monkeypatch):
    _take(monkeypatch, "blocks of 4")
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


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window": 3},
        {"positions": Use("Rotary", theta=100.0)},
        {"positions": Use("ALiBi")},
        {"positions": Use("ALiBi"), "window": 3},
        {"bias": True, "norm": Use("RMSNorm", eps=1e-5), "norm_over": "all"},
        {"bias": "inputs", "norm": RMSNorm, "cap": 2.0, "scale": 0.3},
    ],
)
def test_a_layer_reads_in_pieces_what_it_reads_at_once(options):
    torch.manual_seed(0)
    layer = Attention(4, 2, in_features=16, **options).double()
    inputs = torch.randn(2, 9, 16, dtype=torch.float64)
    cache, pieces = KeyValueCache(1, 2, 9), []
    for piece in inputs.split((4, 1, 3, 1), dim=1):
        pieces.append(layer(piece, cache=cache))
        cache.advance(piece.shape[1])
    torch.testing.assert_close(torch.cat(pieces, dim=1), layer(inputs))
    assert (layer.output.bias is None) == (options.get("bias") is not True)
    assert layer.query_norm is None or layer.query_norm.weight.numel() == (16 if "norm_over" in options else 4)


def test_padding_is_not_seen_by_a_layer_that_sees_all():
    layer = Attention(2, causal=False, in_features=8, positions=Use("ALiBi"))
    inputs = torch.randn(2, 6, 8)
    short = layer(inputs[:, :4])
    torch.testing.assert_close(layer(inputs, lengths=torch.tensor([4, 4]))[:, :4], short)


def test_torchs_own_layer_gives_the_same():
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True).double()
    inputs, context = (torch.randn(2, n, 16, dtype=torch.float64) for n in (5, 7))
    for ours in (Attention(4, causal=False, in_features=16, bias=True), CrossAttention(4, in_features=16, bias=True)):
        ours.double()
        for part, weight, bias in zip(
            (ours.query, ours.key, ours.value),
            theirs.in_proj_weight.chunk(3),
            theirs.in_proj_bias.chunk(3),
            strict=True,
        ):
            part.load_state_dict({"weight": weight, "bias": bias})
        ours.output.load_state_dict(theirs.out_proj.state_dict())
        torch.testing.assert_close(ours(inputs), theirs(inputs, inputs, inputs)[0])
    torch.testing.assert_close(ours(inputs, context), theirs(inputs, context, context)[0])
    torch.testing.assert_close(ours(inputs, ours.remembered(context)), ours(inputs, context))


@pytest.mark.parametrize("query_rank", [None, 24])
def test_latent_attention_equals_transformers(query_rank):
    transformers = pytest.importorskip("transformers")
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding

    scaling = {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    }
    config = transformers.DeepseekV3Config(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=4,
        q_lora_rank=query_rank,
        kv_lora_rank=12,
        qk_nope_head_dim=8,
        qk_rope_head_dim=6,
        v_head_dim=10,
        rope_interleave=False,
        max_position_embeddings=64,
        rope_parameters={"rope_theta": 100.0, **scaling},
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    theirs = DeepseekV3Attention(config, 0).eval()
    rotary = Rotary(6, 100.0, scaling, 64)
    layer = LatentAttention(
        4,
        12,
        query_rank,
        in_features=32,
        plain_dim=8,
        rotary_dim=6,
        value_dim=10,
        scale=theirs.scaling,
        positions=rotary,
    )
    names = {
        "q_a_proj": "query_down",
        "q_a_layernorm": "query_norm",
        "q_b_proj": "query",
        "q_proj": "query",
        "kv_a_proj_with_mqa": "key_value_down",
        "kv_a_layernorm": "key_value_norm",
        "kv_b_proj": "key_value",
        "o_proj": "output",
    }
    renamed = {f"{names[name.split('.')[0]]}.weight": weight for name, weight in theirs.state_dict().items()}
    layer.load_state_dict(renamed)
    inputs = torch.randn(2, 20, 32)
    tables = DeepseekV3RotaryEmbedding(config)(inputs, torch.arange(20)[None])
    mask = torch.full((20, 20), float("-inf")).triu(1)[None, None]
    wanted = theirs(inputs, tables, mask)[0]
    found = layer(inputs)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    cache, pieces = KeyValueCache(1, 2, 20), []
    for piece in inputs.split((12, 1, 7), dim=1):
        pieces.append(layer(piece, cache=cache))
        cache.advance(piece.shape[1])
    torch.testing.assert_close(torch.cat(pieces, dim=1), found, atol=1e-5, rtol=1e-4)
    assert sum(kept.shape[-1] for kept in cache._stores[0]) == 12 + 6, "more than the latent was kept"
