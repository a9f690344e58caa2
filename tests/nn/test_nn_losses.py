"""Losses against plain arithmetic in float64, and the chunked cross entropy against the full one."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from groundup.core.errors import DataError, RecipeError
from groundup.nn.losses import (
    binary_cross_entropy,
    cross_entropy,
    focal,
    huber,
    linear_cross_entropy,
    mae,
    mse,
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
    assert cross_entropy(logits, labels, weight=weight).item() == pytest.approx(expected, abs=1e-12)
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
        focal(_random(4, 2), torch.zeros(4, dtype=torch.int64), weight=[1.0, 1.0, 1.0])


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
