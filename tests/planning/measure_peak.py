"""Run in a process of its own: the peak of resident memory over what was there before, beside the plan."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from planned_nets import NETS

from groundup.core.batch import Batch
from groundup.planning import plan_memory
from groundup.planning.simulation import default_objective


def status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(field)


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, precision: str) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        total = default_objective(model, batch).total
    total.backward()
    optimizer.step()
    optimizer.zero_grad()


def main(kind: str, precision: str) -> None:
    make, make_batch = NETS[kind]
    model, batch = make(), make_batch(1)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    step(model, optimizer, batch, precision)  # libraries set themselves up once
    del model, optimizer, batch
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    model, batch = make(), make_batch()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(2):
        step(model, optimizer, batch, precision)
    measured = status("VmHWM") - before
    print(
        json.dumps({"measured": measured, "planned": plan_memory(model, batch, optimizer, None, precision).total_bytes})
    )


main(sys.argv[1], sys.argv[2])
