"""The plan is held against what really happens: the allocator's own count, and resident memory of a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from planned_nets import NETS, Conv, Decoder, conv_batch, decoder_batch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from groundup.core.batch import Batch, Loss
from groundup.core.errors import GroundupError
from groundup.planning import flops_per_step, plan_memory
from groundup.planning.simulation import default_objective
from groundup.planning.timeline import Timeline, peak

ALLOCATOR_TOLERANCE = 0.05
RESIDENT_TOLERANCE = 0.12


def allocated_peak(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, precision: str) -> int:
    """Bytes that one more step takes at its peak over what is held before it, by torch's own allocator."""

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            total = default_objective(model, batch).total
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    events.sort(key=lambda e: e["ts"])
    total = peak = 0
    for event in events:
        total += event["args"]["Bytes"]
        peak = max(peak, total)
    return peak


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_plan_is_what_the_allocator_counts(kind: str, precision: str) -> None:
    make, make_batch = NETS[kind]
    model, batch = make(), make_batch()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    measured = allocated_peak(model, optimizer, batch, precision)
    plan = plan_memory(model, batch, optimizer, None, precision)  # type: ignore[arg-type]
    planned = plan.memory_bytes["activations"] + plan.memory_bytes["gradients"]
    assert planned == pytest.approx(measured, rel=ALLOCATOR_TOLERANCE)


@pytest.mark.parametrize(("kind", "precision"), [("decoder", "fp32"), ("decoder", "bf16"), ("conv", "fp32")])
def test_plan_is_what_a_process_takes(kind: str, precision: str) -> None:
    """Each large block is returned to the system at once, so that gaps in the heap do not blur the figure."""
    script = Path(__file__).parent / "measure_peak.py"
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("resident memory is read from Linux's /proc")
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), kind, precision], env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["planned"] == pytest.approx(found["measured"], rel=RESIDENT_TOLERANCE)


def test_parts_of_a_dense_net_are_exact() -> None:
    model = nn.Sequential(nn.Linear(1000, 500), nn.Linear(500, 10))
    numbers = sum(p.numel() for p in model.parameters())
    batch = Batch({"input": torch.zeros(1, 1000)}, {})
    plan = plan_memory(model, batch, torch.optim.AdamW(model.parameters()))
    assert plan.num_parameters == plan.num_trainable == numbers
    assert plan.memory_bytes["weights"] == 4 * numbers
    assert plan.memory_bytes["optimizer"] == 8 * numbers + 4 * 4  # two moments, one step count for each tensor
    assert plan.memory_bytes["gradients"] == 4 * numbers, "a large net on a small batch is fullest in the update"
    assert plan.memory_bytes["batch"] == 4000
    assert plan.total_bytes == sum(plan.memory_bytes.values())


def test_frozen_weights_take_neither_gradients_nor_optimizer_state() -> None:
    model = nn.Sequential(nn.Linear(1000, 500), nn.Linear(500, 10))
    model[0].requires_grad_(False)
    trainable = [p for p in model.parameters() if p.requires_grad]
    plan = plan_memory(model, Batch({"input": torch.zeros(1, 1000)}, {}), torch.optim.AdamW(trainable))
    assert plan.num_trainable == 5010
    assert plan.memory_bytes["gradients"] == 4 * 5010
    assert plan.memory_bytes["optimizer"] == 8 * 5010 + 2 * 4


def test_meta_and_real_models_plan_alike() -> None:
    batch = decoder_batch(2, 64)
    with torch.device("meta"):
        ghost = Decoder()
    real = Decoder()
    make = lambda parameters: torch.optim.AdamW(parameters, fused=True)  # noqa: E731
    assert plan_memory(ghost, batch, make) == plan_memory(real, batch, torch.optim.AdamW(real.parameters(), fused=True))


def test_an_optimizer_is_found_by_its_name() -> None:
    with torch.device("meta"):
        ghost = Decoder()
    plan = plan_memory(ghost, decoder_batch(1, 32), "AdamW")
    assert plan.memory_bytes["optimizer"] == pytest.approx(8 * plan.num_trainable, rel=0.01)


def test_accumulation_holds_gradients_through_the_forward_pass() -> None:
    batch = decoder_batch(2, 256)
    once = plan_memory(Decoder(), batch, None)
    often = plan_memory(Decoder(), batch, None, accumulate=4)
    assert often.total_bytes > once.total_bytes + 0.8 * 4 * once.num_parameters
    assert often.flops == pytest.approx(4 * once.flops)
    assert any("4 micro-batches" in line for line in often.assumptions)


def test_planning_leaves_everything_as_it_was() -> None:
    model, batch = Conv(), conv_batch(2)
    optimizer = torch.optim.AdamW(model.parameters())
    model.eval()
    model.features.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    dropping = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    random = torch.get_rng_state()
    plan_memory(dropping, Batch({"input": torch.ones(4, 4)}, {}), None)
    plan_memory(model, batch, optimizer)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not optimizer.state
    assert model.features.training
    assert not model.training


class LooksAtValues(nn.Module):
    """A model that a simulation cannot follow: it hands its input to numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 256)

    def forward(self, inputs: Tensor) -> Tensor:
        assert np.isfinite(inputs.detach().numpy()).all()
        return self.linear(inputs).exp().sin()


def test_a_model_that_looks_at_values_is_run_on_little() -> None:
    model = LooksAtValues()
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    before = model.linear.weight.clone()
    plan = plan_memory(model, Batch({"inputs": torch.randn(1000, 64)}, {}), optimizer)
    assert any("looks at values" in line for line in plan.assumptions)
    assert plan.memory_bytes["batch"] == 1000 * 64 * 4
    assert plan.memory_bytes["optimizer"] == 4 * plan.num_parameters
    assert plan.memory_bytes["activations"] >= 3 * 1000 * 256 * 4
    assert torch.equal(model.linear.weight, before)
    assert not optimizer.state


def test_errors_name_the_model() -> None:
    with torch.device("meta"):
        ghost = LooksAtValues()
    with pytest.raises(GroundupError, match="LooksAtValues could not be carried out on tensors without values"):
        plan_memory(ghost, Batch({"inputs": torch.randn(4, 64)}, {}))
    with pytest.raises(GroundupError, match=r"Linear itself does not fit the shape \(5,\).*made for in_features = 3"):
        plan_memory(nn.Linear(3, 2), Batch({"input": torch.randn(4, 5)}, {}))
    with pytest.raises(GroundupError, match="the plan's optimizer"):
        plan_memory(nn.Linear(3, 2), Batch({"input": torch.randn(4, 3)}, {}), "NoSuchOptimizer")


def test_the_objective_is_planned_too() -> None:
    def heavy(model: nn.Module, batch: Batch) -> Loss:
        output = model(**batch.inputs)
        return Loss((output[:, :, None] * output[:, None, :]).exp().mean(), batch.num_samples)

    batch = Batch({"input": torch.randn(8, 16)}, {})
    light = plan_memory(nn.Linear(16, 200), batch)
    assert plan_memory(nn.Linear(16, 200), batch, objective=heavy).total_bytes > light.total_bytes + 8 * 200 * 200 * 4


def test_flops_of_known_layers() -> None:
    batch = Batch({"input": torch.zeros(32, 100)}, {})
    forward_and_weights = 2 * (2 * 32 * 100 * 50)
    assert flops_per_step(nn.Linear(100, 50), batch) == forward_and_weights, "inputs need no gradient"
    tokens = decoder_batch(2, 128)
    six = 6 * sum(p.numel() for p in Decoder().parameters()) * 2 * 128
    assert flops_per_step(Decoder(), tokens) == pytest.approx(six, rel=0.25)


def test_timeline_sees_reuse_and_release() -> None:
    timeline = Timeline()
    held = torch.zeros(1000)
    assert timeline.see(held) == timeline.see(held.view(10, 100)) == 0
    for _ in range(3):
        timeline.see(torch.zeros(500))
    best, when = peak(timeline.events, {0: "weights"}, [(0, "all of it")])
    assert best == {"weights": 4000, "activations": 2000}
    assert when == "all of it"
