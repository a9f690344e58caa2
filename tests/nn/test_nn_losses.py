"""Losses against plain arithmetic in float64, and the chunked cross entropy against the full one."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from groundup.core.errors import DataError, RecipeError
from groundup.nn import Dense
from groundup.nn.losses import (
    binary_cross_entropy,
    binary_focal,
    contrastive,
    cross_entropy,
    ctc,
    dice,
    focal,
    gaussian,
    huber,
    info_nce,
    kl_divergence,
    linear_cross_entropy,
    mae,
    mse,
    poisson,
    quantile,
)


def _random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_regression_losses_are_their_formulas():
    output, targets = _random(7), _random(7, seed=1) * 2
    errors = [(o - t) for o, t in zip(output.tolist(), targets.tolist(), strict=True)]
    assert mse(output, targets).item() == pytest.approx(sum(e * e for e in errors) / 7, abs=1e-12)
    assert mae(output, targets).item() == pytest.approx(sum(map(abs, errors)) / 7, abs=1e-12)
    expected = sum(e * e / 2 if abs(e) <= 0.5 else 0.5 * (abs(e) - 0.25) for e in errors) / 7
    assert huber(output, targets, delta=0.5).item() == pytest.approx(expected, abs=1e-12)


def _by_hand(logits: torch.Tensor, label: int) -> float:
    row = logits.tolist()
    return math.log(sum(math.exp(v) for v in row)) - row[label]


def test_cross_entropy_is_its_formula():
    logits, labels = _random(5, 3), torch.tensor([0, 2, -100, 1, 2])
    kept = [i for i in range(5) if labels[i] >= 0]
    terms = [_by_hand(logits[i], int(labels[i])) for i in kept]
    assert cross_entropy(logits, labels).item() == pytest.approx(sum(terms) / 4, abs=1e-12)
    weight = [1.0, 2.0, 0.5]
    counts = [weight[int(labels[i])] for i in kept]
    expected = sum(w * t for w, t in zip(counts, terms, strict=True)) / sum(counts)
    assert cross_entropy(logits, labels, class_weights=weight).item() == pytest.approx(expected, abs=1e-12)
    smooth = [
        0.7 * _by_hand(logits[i], int(labels[i])) + 0.1 * sum(_by_hand(logits[i], c) for c in range(3)) for i in kept
    ]
    assert cross_entropy(logits, labels, label_smoothing=0.3).item() == pytest.approx(sum(smooth) / 4, abs=1e-12)


def test_focal_is_its_formula_and_gamma_0_is_cross_entropy():
    logits, labels = _random(5, 3), torch.tensor([0, 2, -100, 1, 2])
    expected = 0.0
    for i in (0, 1, 3, 4):
        p = math.exp(-_by_hand(logits[i], int(labels[i])))
        expected -= (1 - p) ** 2 * math.log(p) / 4
    assert focal(logits, labels).item() == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(focal(logits, labels, gamma=0.0), cross_entropy(logits, labels))


def test_binary_cross_entropy_is_its_formula():
    logits, labels = _random(6, 1), torch.tensor([1, 0, 1, 1, 0, 0])
    expected = 0.0
    for z, t in zip(logits.flatten().tolist(), labels.tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        expected -= (3 * t * math.log(p) + (1 - t) * math.log(1 - p)) / 6
    assert binary_cross_entropy(logits, labels, positive_weight=3.0).item() == pytest.approx(expected, abs=1e-12)


def test_short_types_are_summed_in_fp32():
    logits = _random(1000, 10).bfloat16()
    labels = torch.arange(1000) % 10
    loss = cross_entropy(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), labels))
    assert mse(logits, logits.float() + 1).dtype == torch.float32


@pytest.mark.parametrize("loss", [mse, mae, huber, binary_cross_entropy])
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(RecipeError, match=r"\(4, 2\) and targets \(4,\)"):
        loss(_random(4, 2), _random(4))
    torch.testing.assert_close(loss(_random(4, 1), _random(4).abs()), loss(_random(4), _random(4).abs()))


def test_class_losses_refuse_what_they_cannot_read():
    with pytest.raises(RecipeError, match="whole-numbered"):
        cross_entropy(_random(4, 2), _random(4))
    with pytest.raises(RecipeError, match="3 numbers for 2 classes"):
        focal(_random(4, 2), torch.zeros(4, dtype=torch.int64), class_weights=[1.0, 1.0, 1.0])


def test_a_neuron_and_its_loss_are_the_textbook():
    inputs, weights, bias, target = [0.5, -1.5, 2.0], [0.3, 0.8, -0.2], 0.1, 1.0
    neuron = Dense(1, in_features=3).double()
    neuron.weight.data = torch.tensor([weights], dtype=torch.float64)
    neuron.bias.data.fill_(bias)
    z = sum(w * x for w, x in zip(weights, inputs, strict=True)) + bias
    output = neuron(torch.tensor([inputs], dtype=torch.float64))
    assert output.item() == pytest.approx(z, abs=1e-15)
    p = 1 / (1 + math.exp(-z))
    assert output.sigmoid().item() == pytest.approx(p, abs=1e-15)
    targets = torch.tensor([target], dtype=torch.float64)
    loss = binary_cross_entropy(output, targets)
    assert loss.item() == pytest.approx(-math.log(p), abs=1e-15)
    loss.backward()
    for found, x in zip(neuron.weight.grad[0].tolist(), inputs, strict=True):
        assert found == pytest.approx((p - target) * x, abs=1e-15)  # the chain rule by hand
    assert mse(output, targets).item() == pytest.approx((z - target) ** 2, abs=1e-15)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.93])
def test_the_quantile_loss_is_least_at_the_quantile(q):
    targets = _random(1001)
    candidates = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    losses = [quantile(torch.full_like(targets, float(c)), targets, [q]).item() for c in candidates[::20]]
    assert candidates[::20][losses.index(min(losses))].item() == pytest.approx(targets.quantile(q).item(), abs=0.05)


def test_several_quantiles_and_a_likelihood():
    output, targets = _random(6, 2, 3), _random(6, 2, seed=1)
    qs = [0.1, 0.5, 0.9]
    expected = sum(quantile(output[..., i], targets, [q]) for i, q in enumerate(qs)) / 3
    torch.testing.assert_close(quantile(output, targets, qs), expected)
    pair = output[..., :2]
    normal = torch.distributions.Normal(pair[..., 0], (pair[..., 1].exp() + 1e-6).sqrt())
    torch.testing.assert_close(gaussian(pair, targets), -normal.log_prob(targets).mean())
    torch.testing.assert_close(gaussian(pair[:, 0], targets[:, :1]), gaussian(pair[:, 0], targets[:, 0]))
    with pytest.raises(RecipeError, match="ValueHead with per_value = 2"):
        gaussian(output, targets)
    with pytest.raises(RecipeError, match="between 0 and 1"):
        quantile(output[..., 0], targets, [1.5])


def test_poisson_is_its_likelihood():
    output, counts = _random(9), torch.tensor([0.0, 1, 2, 5, 9, 0, 3, 1, 7], dtype=torch.float64)
    expected = -torch.distributions.Poisson(output.exp()).log_prob(counts).mean()
    torch.testing.assert_close(poisson(output, counts), expected)


def test_soft_targets_weigh_as_their_numbers_would():
    logits, labels = _random(5, 3), torch.tensor([0, 2, 1, 1, 2])
    hard = F.one_hot(labels, 3).double()
    for options in ({}, {"class_weights": [1.0, 2.0, 0.5]}, {"label_smoothing": 0.2}):
        torch.testing.assert_close(cross_entropy(logits, hard, **options), cross_entropy(logits, labels, **options))
    torch.testing.assert_close(
        focal(logits, hard, class_weights=[1.0, 2.0, 0.5]), focal(logits, labels, class_weights=[1.0, 2.0, 0.5])
    )
    mixed = 0.3 * hard + 0.7 * hard.flip(0)
    expected = 0.3 * cross_entropy(logits, labels) + 0.7 * cross_entropy(logits, labels.flip(0))
    torch.testing.assert_close(cross_entropy(logits, mixed), expected)
    assert kl_divergence(hard.log().clamp_min(-1e4), hard).item() == pytest.approx(0.0, abs=1e-12)
    entropy = -(mixed * mixed.clamp_min(1e-300).log()).sum(1).mean()
    torch.testing.assert_close(kl_divergence(logits, mixed), cross_entropy(logits, mixed) - entropy)
    torch.testing.assert_close(kl_divergence(logits, labels), cross_entropy(logits, labels))
    torch.testing.assert_close(
        kl_divergence(logits, labels.masked_fill(labels == 1, -100)),
        cross_entropy(logits[[0, 1, 4]], labels[[0, 1, 4]]),
    )
    with pytest.raises(RecipeError, match="whole-numbered targets"):
        kl_divergence(logits, labels[:3])


def test_binary_focal_without_focus_is_cross_entropy():
    logits, labels = _random(6), torch.tensor([1, 0, 1, 1, 0, 0])
    torch.testing.assert_close(
        binary_focal(logits, labels, 0.0, 3.0), binary_cross_entropy(logits, labels, positive_weight=3.0)
    )
    p = logits.sigmoid().where(labels == 1, 1 - logits.sigmoid())
    torch.testing.assert_close(binary_focal(logits, labels), (-((1 - p) ** 2) * p.log()).mean())
    smooth = binary_cross_entropy(logits, labels * 0.8 + 0.1)
    torch.testing.assert_close(binary_cross_entropy(logits, labels, label_smoothing=0.2), smooth)


def test_yes_or_no_of_two_classes_is_their_softmax():
    logits, labels = _random(6, 2), torch.tensor([1, 0, -100, 1, 0, 0])
    kept = labels >= 0
    torch.testing.assert_close(binary_cross_entropy(logits, labels), cross_entropy(logits, labels))
    torch.testing.assert_close(binary_focal(logits, labels), focal(logits, labels))
    weighted = binary_cross_entropy(logits, labels, positive_weight=3.0)
    p = logits.softmax(-1)[kept]
    terms = torch.where(labels[kept] == 1, -3 * p[:, 1].log(), -p[:, 0].log())
    torch.testing.assert_close(weighted, terms.mean())
    with pytest.raises(RecipeError, match=r"yes or no is two classes, and the output \(6, 3\) has 3"):
        binary_cross_entropy(_random(6, 3), labels)


def test_dice_counts_overlap():
    sure = torch.tensor([[60.0, 60, -60, -60], [60, -60, -60, -60]], dtype=torch.float64)
    truth = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0]])
    assert dice(sure, truth).item() == pytest.approx((0 + (1 - 1 / 3)) / 2, abs=1e-9)
    classes = torch.tensor([[0, 1, 2, 2], [1, 1, 0, -100]])
    logits = 60 * F.one_hot(classes.clamp_min(0), 3).double()
    assert dice(logits, classes).item() == pytest.approx(0.0, abs=1e-9)
    p = _random(2, 4, 3).softmax(-1)
    terms = []
    for b in range(2):
        kept = classes[b] >= 0
        for c in range(3):
            t, q = (classes[b] == c)[kept].double(), p[b, kept, c]
            terms.append(1 - (2 * (q * t).sum() + 1) / (q.square().sum() + t.sum() + 1))
    torch.testing.assert_close(dice(p.log(), classes), torch.stack(terms).mean())
    rows = _random(5, 3)
    torch.testing.assert_close(dice(rows, classes.flatten()[:5]), dice(rows[:, None], classes.flatten()[:5, None]))


def test_ctc_is_the_sum_over_every_alignment():
    logits, target = _random(1, 4, 3), [1, 2]
    p = logits[0].softmax(-1).tolist()
    total = 0.0
    for path in itertools.product(range(3), repeat=4):
        merged = [c for i, c in enumerate(path) if (i == 0 or c != path[i - 1]) and c != 0]
        if merged == target:
            total += math.prod(p[t][c] for t, c in enumerate(path))
    targets = torch.tensor([[*target, -100]])
    assert ctc(logits, targets).item() == pytest.approx(-math.log(total) / 2, abs=1e-12)
    longer = torch.cat([logits, _random(1, 2, 3, seed=4)], dim=1)
    torch.testing.assert_close(ctc(longer, targets, lengths=torch.tensor([4])), ctc(logits, targets))


def test_contrast():
    left, right = _random(5, 4), _random(5, 4, seed=1)
    cosines = F.cosine_similarity(left[:, None], right[None], dim=-1) / 0.5
    rows = sum(_by_hand(cosines[i], i) for i in range(5)) / 5
    columns = sum(_by_hand(cosines.T[i], i) for i in range(5)) / 5
    assert info_nce(left, right, 0.5, symmetric=False).item() == pytest.approx(rows, abs=1e-12)
    assert info_nce(left, right, 0.5).item() == pytest.approx((rows + columns) / 2, abs=1e-12)
    both, groups = torch.cat([left, right]), torch.arange(5).repeat(2)
    cosines = F.cosine_similarity(both[:, None], both[None], dim=-1) / 0.5
    expected = 0.0  # NT-Xent: each view against the 9 others
    for i in range(10):
        others = [cosines[i, k].item() for k in range(10) if k != i]
        expected += (math.log(sum(math.exp(v) for v in others)) - cosines[i, (i + 5) % 10].item()) / 10
    assert contrastive(both, groups, 0.5).item() == pytest.approx(expected, abs=1e-12)
    groups = torch.tensor([0, 0, 0, 1, 2, 3])
    assert torch.autograd.gradcheck(lambda vectors: contrastive(vectors, groups), both[:6].requires_grad_())
    with pytest.raises(DataError, match="nothing to contrast"):
        contrastive(both, torch.arange(10))


# --- linear_cross_entropy


def _case(n: int = 50, d: int = 16, v: int = 37, dtype: torch.dtype = torch.float32):
    hidden = _random(n, d, dtype=dtype).requires_grad_()
    weight = _random(v, d, seed=1, dtype=dtype).requires_grad_()
    targets = torch.arange(n) * 7 % v
    targets[::5] = -100
    return hidden, weight, targets


@pytest.mark.parametrize("chunk", [None, 1, 7, 40, 1000])
@pytest.mark.parametrize("masked", [True, False])
def test_chunked_equals_full_in_loss_and_gradients(chunk, masked):
    hidden, weight, targets = _case()
    if not masked:
        targets = targets.clamp_min(0)
    full = F.cross_entropy(hidden @ weight.T, targets)
    wanted = torch.autograd.grad(full * 3.5, (hidden, weight))
    loss = linear_cross_entropy(hidden, weight, targets, chunk)
    found = torch.autograd.grad(loss * 3.5, (hidden, weight))
    torch.testing.assert_close(loss, full, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(linear_cross_entropy(hidden, weight, targets, chunk), loss)


def test_gradcheck_in_float64():
    hidden, weight, targets = _case(9, 4, 6, torch.float64)
    assert torch.autograd.gradcheck(lambda h, w: linear_cross_entropy(h, w, targets, chunk=4), (hidden, weight))


def test_only_what_trains_gets_a_gradient():
    hidden, weight, targets = _case()
    wanted = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets), hidden)[0]
    loss = linear_cross_entropy(hidden, weight.detach(), targets)
    torch.testing.assert_close(torch.autograd.grad(loss, hidden, retain_graph=True)[0], wanted)
    torch.testing.assert_close(torch.autograd.grad(loss, hidden)[0], wanted)  # a second pass gives it again
    assert linear_cross_entropy(hidden.detach(), weight.detach(), targets).grad_fn is None


def test_under_autocast_products_are_short_and_the_sum_is_not():
    hidden, weight, targets = _case(4000, 32, 500)
    hidden, weight = (hidden * 3).detach().requires_grad_(), weight.detach().requires_grad_()
    logits = (hidden.bfloat16() @ weight.bfloat16().T).float()
    exact = F.cross_entropy(logits, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, targets, chunk=512)
    assert loss.dtype == torch.float32
    # Equal to fp32 log-sum-exp and sum over bf16 logits; a bf16 sum would be off by up to 0.4%.
    torch.testing.assert_close(loss, exact, rtol=1e-6, atol=0)
    assert abs(loss.item() - F.cross_entropy(hidden @ weight.T, targets).item()) > 1e-6, "autocast was not honoured"
    loss.backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32
    reference = torch.autograd.grad(F.cross_entropy(hidden @ weight.T, targets), (hidden, weight))
    with torch.autocast("cpu", torch.bfloat16):
        plain = F.cross_entropy((hidden @ weight.T).float(), targets)
    for ours, theirs, exact in zip(
        (hidden.grad, weight.grad), torch.autograd.grad(plain, (hidden, weight)), reference, strict=True
    ):
        assert (ours - exact).norm() <= 1.1 * (theirs - exact).norm()


def test_bf16_weights_without_autocast():
    hidden, weight, targets = _case(300, 32, 64)
    short_hidden, short_weight = (
        hidden.detach().bfloat16().requires_grad_(),
        weight.detach().bfloat16().requires_grad_(),
    )
    loss = linear_cross_entropy(short_hidden, short_weight, targets, chunk=100)
    loss.backward()
    assert (loss.dtype, short_hidden.grad.dtype, short_weight.grad.dtype) == (torch.float32, *[torch.bfloat16] * 2)
    wanted = torch.autograd.grad(F.cross_entropy(hidden @ weight.T, targets), weight)[0]
    assert ((short_weight.grad.float() - wanted).norm() / wanted.norm()).item() < 0.02


def test_nothing_to_learn_from_and_targets_outside_are_errors():
    hidden, weight, targets = _case()
    with pytest.raises(DataError, match="every one of the 50 targets is masked"):
        linear_cross_entropy(hidden, weight, torch.full_like(targets, -100))
    with pytest.raises(DataError, match=r"\[0, 99\], the vocabulary is \[0, 37\)"):
        linear_cross_entropy(hidden, weight, torch.where(targets == 7, 99, targets).clamp_min(0))
    with pytest.raises(DataError, match=r"\[-1, "):
        linear_cross_entropy(hidden, weight, torch.where(targets == 7, -1, targets))
    with pytest.raises(RecipeError, match="expected hidden"):
        linear_cross_entropy(hidden, weight.T, targets)


PEAK = """
import re, sys, torch
import torch.nn.functional as F
from groundup.nn.losses import linear_cross_entropy
n, d, v = 4096, 64, 8192
hidden, weight = torch.randn(n, d, requires_grad=True), torch.randn(v, d, requires_grad=True)
targets = torch.randint(0, v, (n,))
def peak():  # of this process alone; getrusage would count the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
if sys.argv[1] == "full":
    F.cross_entropy(F.linear(hidden, weight), targets).backward()
else:
    linear_cross_entropy(hidden, weight, targets).backward()
print((peak() - before) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_is_a_fraction_of_the_full_logits():
    peaks = {
        kind: int(subprocess.run([sys.executable, "-c", PEAK, kind], capture_output=True, text=True, check=True).stdout)
        for kind in ("full", "chunked")
    }
    full_logits_mb = 4096 * 8192 * 4 // 2**20
    assert peaks["full"] >= 2 * full_logits_mb * 0.9  # logits and their gradient at least
    assert peaks["chunked"] < full_logits_mb, peaks
