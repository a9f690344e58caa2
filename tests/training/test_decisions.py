"""Precision, placement, compiling and timing: decided for stated reasons, and without a trace on the training."""

from __future__ import annotations

import copy
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from groundup.core import processor
from groundup.core.batch import Batch, Loss
from groundup.core.errors import RecipeError
from groundup.core.state import TrainState
from groundup.models import MLP, Llama
from groundup.nn.losses import mse
from groundup.optim import AdamW, parameter_groups
from groundup.training import (
    Precision,
    choose_device,
    choose_precision,
    compiler_problem,
    compiling,
    decisions,
    fit,
    language_modelling,
    measure_step_time,
    placement,
    seed_everything,
    set_threads,
    settle,
    steps_for,
    supervised,
)

# ------------------------------------------------------------------------------------ precision


@pytest.mark.parametrize(
    ("name", "fast", "parameters", "expected", "reason"),
    [
        ("auto", True, 2_000_000, "bf16", "has avx512_bf16"),
        ("auto", True, 10_000, "fp32", "10,000 parameters are too few"),
        ("auto", False, 2_000_000, "fp32", "no bf16"),
        ("fp32", True, 2_000_000, "fp32", "asked for"),
        ("bf16", True, 10, "bf16", "asked for"),
        ("bf16", False, 10, "bf16", "will be slow"),
    ],
)
def test_precision_is_chosen_for_a_reason(
    monkeypatch: pytest.MonkeyPatch, name: str, fast: bool, parameters: int, expected: str, reason: str
) -> None:
    flags = frozenset({"avx512_bf16"} if fast else {"avx2"})
    monkeypatch.setattr(processor, "_cpu_flags", lambda: flags)
    chosen = choose_precision(name, "cpu", parameters)
    assert chosen.name == expected
    assert reason in chosen.reason
    assert Precision(**chosen.to_dict()) == chosen


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(RecipeError, match="fp16"):
        choose_precision("fp16", "cpu", 1)


# ------------------------------------------------------------------------------------ placement


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == placement.available_devices()[0]
    with pytest.raises(RecipeError, match=r"recipe\.training\.device: read 'gpu', expected auto"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="read 'cuda', but this machine has only"):
            choose_device("cuda")


def test_threads_the_user_set_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    assert set_threads(1000) == before == torch.get_num_threads()


def test_freed_memory_stays_where_glibc_is() -> None:
    code = "from groundup.training import keep_freed_memory; print(keep_freed_memory())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(platform.libc_ver()[0] == "glibc")


def test_seeding_repeats_and_asks_for_kernels_that_do() -> None:
    try:
        seed_everything(2**40 + 7)
        first = torch.rand(3)
        seed_everything(2**40 + 7)
        assert torch.equal(first, torch.rand(3))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


# ------------------------------------------------------------------------------------ timing and decisions


def noisy() -> tuple[TrainState, Batch]:
    """A model with dropout and batch statistics, so that a measurement could leave a trace everywhere."""
    torch.manual_seed(0)
    model = MLP([8], in_features=3, out_features=1, norm="batch", dropout=0.5)
    state = TrainState(model, AdamW(parameter_groups(model)), total_steps=4)
    return state, Batch({"inputs": torch.randn(6, 3)}, {"targets": torch.randn(6, 1)})


def objective(model: nn.Module, batch: Batch) -> Loss:
    return supervised(model, batch, mse)


@pytest.mark.parametrize("begun", [False, True])
def test_measuring_leaves_no_trace(begun: bool) -> None:
    measured, _ = noisy()
    untouched, batch = noisy()
    for state in (measured, untouched):
        torch.manual_seed(5)
        if begun:
            next(iter(fit(state, [batch], objective)))
        if state is measured:
            state.model.eval()
            seconds = measure_step_time(state.model, objective, batch, Precision(), state.optimizer, accumulate=2)
            assert 0 < seconds < 10
            assert not state.model.training
            assert all(p.grad is None for p in state.model.parameters())
            state.model.train()
    torch.manual_seed(6)
    before = torch.get_rng_state()
    measure_step_time(measured.model, objective, batch, Precision())
    assert torch.equal(before, torch.get_rng_state())
    for (name, a), b in zip(measured.model.state_dict().items(), untouched.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    ours, theirs = measured.tensors(), untouched.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("optimizer"))


def test_minutes_become_steps() -> None:
    assert steps_for(2, 0.5) == 240
    assert steps_for(0.001, 60) == 1
    with pytest.raises(RecipeError, match="no steps"):
        steps_for(0, 1)


def test_settle_decides_once_and_fit_goes_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    state, batch = noisy()
    state.total_steps = 0
    with pytest.raises(RecipeError, match="budget"):
        settle(state, batch, objective)
    monkeypatch.setattr(decisions, "measure_step_time", lambda *_, **__: 0.25)
    settle(state, batch, objective, minutes=0.5)
    assert 60 <= state.total_steps <= 120  # less the time that deciding took
    assert state.decisions["precision"]["name"] == "fp32"
    assert state.decisions["compile"]["on"] is False
    assert "compil" in state.decisions["compile"]["reason"]
    decided = copy.deepcopy(state.decisions)
    settle(state, batch, objective, precision="bf16", compile="on", minutes=100)
    assert state.decisions == decided
    assert state.total_steps <= 120


def test_going_on_with_other_threads_is_said() -> None:
    state, batch = noisy()
    state.decisions["threads"] = torch.get_num_threads() + 1
    with pytest.warns(UserWarning, match="sums are then made in another order"):
        fit(state, [batch], objective)


def test_settling_leaves_no_trace() -> None:
    settled, batch = noisy()
    plain, _ = noisy()
    losses = []
    for state in (settled, plain):
        torch.manual_seed(1)
        if state is settled:
            settle(state, batch, objective)
        losses.append([step.loss for step in fit(state, [batch] * 4, objective)])
    assert losses[0] == losses[1]


# ------------------------------------------------------------------------------------ compiling


@pytest.fixture
def fresh_probe() -> object:
    compiler_problem.cache_clear()
    yield None
    compiler_problem.cache_clear()


@pytest.mark.parametrize("script", [None, "#!/bin/sh\necho 'fatal error: no headers' >&2; exit 1\n", "not a program"])
def test_without_a_working_compiler_everything_runs_uncompiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh_probe: object, script: str | None
) -> None:
    compiler = tmp_path / "broken-compiler"
    if script is not None:
        compiler.write_text(script)
        compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert "C++ compiler" in str(compiler_problem())
    state, batch = noisy()
    settle(state, batch, objective, compile="on")
    assert state.decisions["compile"]["on"] is False
    assert "C++ compiler" in state.decisions["compile"]["reason"]
    assert len(list(fit(state, [batch] * 4, objective))) == 4


def test_a_resume_without_the_compiler_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh_probe: object
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    state, batch = noisy()
    state.decisions["compile"] = {"on": True, "reason": "faster"}
    with pytest.warns(UserWarning, match="goes on uncompiled, as there is no C"):
        assert len(list(fit(state, [batch] * 4, objective))) == 4


def test_a_compiler_that_fails_half_way_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> object:
        raise subprocess.CalledProcessError(1, "g++")

    monkeypatch.setattr(compiling, "_try", failing)
    monkeypatch.setattr(compiling, "compiler_problem", lambda kind: None)
    state, batch = noisy()
    settle(state, batch, objective, compile="on")
    assert state.decisions["compile"]["on"] is False
    assert "compiling failed" in state.decisions["compile"]["reason"]


@pytest.mark.parametrize(
    ("wanted", "steps", "compiled_loss", "compiled_s", "on", "reason"),
    [
        ("off", 1e9, 2.0, 0.1, False, "asked for"),
        ("auto", 50, 2.0, 0.1, False, "likely to save 12.5 s"),
        ("auto", 1000, 2.0, 0.7, True, "0.7 s compiled, 1 s plain"),
        ("auto", 1000, 2.0, 0.99, False, "0.99 s compiled, 1 s plain"),
        ("on", 50, 2.0, 1.5, True, "1.5 s compiled"),
        ("on", 50, 2.5, 0.5, False, "the loss is 2.5 where it should be 2"),
        ("on", 50, float("nan"), 0.5, False, "the loss is nan"),
    ],
)
def test_compiling_has_to_pay(
    monkeypatch: pytest.MonkeyPatch,
    wanted: str, steps: float, compiled_loss: float, compiled_s: float, on: bool, reason: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(compiling, "_try", lambda *_: (2.0, compiled_loss, compiled_s))
    monkeypatch.setattr(compiling, "compiler_problem", lambda kind: None)
    state, batch = noisy()
    decision = compiling.decide_compile(wanted, state.model, objective, batch, Precision(), 1.0, steps)
    assert decision.on is on
    assert reason in decision.reason


@pytest.mark.slow
@pytest.mark.skipif(compiler_problem() is not None, reason="needs a C++ compiler")
def test_compiled_steps_learn_alike_and_only_steps_are_compiled() -> None:
    from torch._dynamo.utils import counters

    tokens = torch.randint(0, 19, (2, 9), generator=torch.Generator().manual_seed(0))
    batch = Batch({"tokens": tokens[:, :-1]}, {"targets": tokens[:, 1:]})
    losses = []
    for compile in ("off", "on"):
        torch.manual_seed(0)
        model = Llama(19, hidden_size=16, num_hidden_layers=4, num_attention_heads=2)
        state = TrainState(model, AdamW(parameter_groups(model)), total_steps=6)
        counters.clear()
        settle(state, batch, language_modelling, compile=compile)
        assert state.decisions["compile"]["on"] is (compile == "on"), state.decisions
        losses.append([])
        for step in fit(state, [batch] * 6, language_modelling):
            losses[-1].append(step.loss)
            graphs = counters["stats"]["unique_graphs"]
            with torch.no_grad():
                model(tokens[:1, : step.number])  # another shape each time, as generation has
            assert counters["stats"]["unique_graphs"] == graphs
    assert graphs == 1  # four blocks, one compilation
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
