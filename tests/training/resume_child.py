"""Run by test_resume in processes of its own: train, resume from every checkpoint, or train while being killed.

resume_child.py straight FOLDER    both tasks from start to end, a checkpoint behind every step
resume_child.py each FOLDER        resume from each of these checkpoints, compare with what came of them
resume_child.py killed FOLDER      train in forked processes that are killed at random moments until done,
                               again and again until they were killed 20 times
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groundup.core.batch import Batch, Bookmark
from groundup.core.checkpoint import Checkpoint, latest_checkpoint, write_checkpoint
from groundup.core.errors import CheckpointError
from groundup.core.state import TrainState
from groundup.models import MLP, Llama
from groundup.nn.losses import cross_entropy
from groundup.optim import AdamW, Muon, parameter_groups
from groundup.optim.schedules import cosine, trapezoid
from groundup.training import fit, language_modelling, seed_everything, supervised

SEED = 3
NUM_ROWS, BATCH_SIZE, EPOCHS = 30, 4, 2
STEPS_PER_EPOCH = NUM_ROWS // BATCH_SIZE  # two rows of each epoch are left over, as in real data
TOTAL_STEPS = EPOCHS * STEPS_PER_EPOCH


def dense(positions: np.ndarray, epoch: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Rows with noise that is drawn for (seed, epoch, row), as augmentation is."""
    rows = [np.random.default_rng([SEED, row]).normal(size=6) for row in positions]
    noise = [np.random.default_rng([SEED, epoch, row]).normal(size=6) for row in positions]
    inputs = torch.tensor(np.array(rows) + 0.1 * np.array(noise), dtype=torch.float32)
    return {"inputs": inputs}, {"targets": torch.tensor(positions % 3)}


def decoder(positions: np.ndarray, epoch: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Packed tokens of two documents each, with some targets masked."""
    tokens = torch.tensor(np.array([np.random.default_rng([SEED, row]).integers(0, 23, 13) for row in positions]))
    targets = tokens[:, 1:].clone()
    targets[:, : epoch + 1] = -100
    documents = (torch.arange(12) > 6).long().expand(len(positions), 12)
    return {"tokens": tokens[:, :-1], "documents": documents}, {"targets": targets}


TASKS: dict[str, tuple[Any, Any]] = {
    "dense": (dense, lambda model, batch: supervised(model, batch, cross_entropy)),
    "decoder": (decoder, language_modelling),
    "compiled": (decoder, language_modelling),
}
QUICK = ("dense", "decoder")
MIN_KILLS = 20


def stream(task: str, bookmark: Bookmark) -> Iterator[Batch]:
    epoch, start = bookmark
    while True:
        order = np.random.default_rng([SEED, epoch]).permutation(NUM_ROWS)
        for position in range(start, NUM_ROWS - BATCH_SIZE + 1, BATCH_SIZE):
            rows = order[position : position + BATCH_SIZE]
            yield Batch(*TASKS[task][0](rows, epoch), bookmark=Bookmark(epoch, position + BATCH_SIZE), rows=rows)
        epoch, start = epoch + 1, 0


def begin(task: str, seed: int = SEED) -> TrainState:
    seed_everything(seed)
    optimizer: torch.optim.Optimizer
    if task == "dense":
        model = MLP([16, 8], in_features=6, out_features=3, dropout=0.3, norm="batch")
        optimizer = AdamW(parameter_groups(model, 0.1), lr=0.01)
        return TrainState(model, optimizer, lambda x: cosine(x, warmup=0.1), total_steps=TOTAL_STEPS)
    model = Llama(23, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, dropout=0.1)
    optimizer = Muon(parameter_groups(model, 0.1), lr=0.02, adam_lr=0.01)
    state = TrainState(model, optimizer, lambda x: trapezoid(x, warmup=0.1, cooldown=0.4), total_steps=TOTAL_STEPS)
    if task == "compiled":
        state.decisions = {"precision": {"name": "bf16"}, "compile": {"on": True}}
    return state


def save(state: TrainState, folder: Path) -> None:
    weights = state.model.state_dict()
    tensors = {"model.safetensors": weights, "training.safetensors": state.tensors()}
    write_checkpoint(folder / f"step-{state.step}", tensors, {"state.json": state.to_json()})


def load(task: str, checkpoint: Checkpoint) -> TrainState:
    state = begin(task, seed=999)  # what was saved must overrule every seed and weight
    state.model.load_state_dict(checkpoint.tensors("model.safetensors"))
    state.restore(checkpoint.tensors("training.safetensors"), checkpoint.json("state.json"))
    return state


def losses(folder: Path) -> list[dict[str, Any]]:
    path = folder / "losses.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def train(task: str, folder: Path) -> None:
    """From the newest checkpoint, or from the start, to the end."""
    folder.mkdir(exist_ok=True)
    try:
        state = load(task, latest_checkpoint(folder)[0])
    except CheckpointError:
        state = begin(task)
    kept = [line for line in losses(folder) if line["step"] <= state.step]
    (folder / "losses.tmp").write_text("".join(json.dumps(line) + "\n" for line in kept))
    (folder / "losses.tmp").replace(folder / "losses.jsonl")
    with (folder / "losses.jsonl").open("a") as file:
        for step in fit(state, stream(task, state.bookmark), TASKS[task][1]):
            file.write(
                json.dumps({"step": step.number, "loss": step.loss.hex(), "norm": step.gradient_norm.hex()}) + "\n"
            )
            file.flush()
            save(state, folder)


def compare(task: str, folder: Path) -> list[str]:
    """Resume from every checkpoint of a finished training; what differs from it."""
    final = Checkpoint.open(folder / f"step-{TOTAL_STEPS}")
    expected, wrong = losses(folder), []
    for number in range(1, TOTAL_STEPS):
        state = load(task, Checkpoint.open(folder / f"step-{number}"))
        for step in fit(state, stream(task, state.bookmark), TASKS[task][1]):
            line = {"step": step.number, "loss": step.loss.hex(), "norm": step.gradient_norm.hex()}
            if line != expected[step.number - 1]:
                wrong.append(f"{task}: resumed behind step {number}: {line} for {expected[step.number - 1]}")
        got = {**state.model.state_dict(), **state.tensors()}
        for name, tensor in {**final.tensors("model.safetensors"), **final.tensors("training.safetensors")}.items():
            if not torch.equal(got[name], tensor):
                wrong.append(f"{task}: resumed behind step {number}: {name} differs")
        if state.to_json() != final.text("state.json"):
            wrong.append(f"{task}: resumed behind step {number}: state.json differs")
    return wrong


def until_done(work: Callable[[], None], progress: Callable[[], int], span_s: float) -> int:
    """Do ``work`` in forked processes, each killed within ``span_s`` or so, until one ends by itself; the kills."""
    chance, kills = random.Random(0), 0
    while True:
        before = progress()
        child = os.fork()
        if child == 0:
            try:
                work()
                os._exit(0)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
        deadline = time.monotonic() + chance.uniform(0, span_s)
        while time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                raise SystemExit("the training failed by itself")
            return kills
        kills += 1
        span_s *= 1.5 if progress() == before else 0.9


def main(mode: str, folder: Path, tasks: list[str]) -> None:
    torch.set_num_threads(1)
    wrong: list[str] = []
    kills, rounds = 0, 0
    if mode == "killed":
        while kills < MIN_KILLS:
            for task in QUICK:
                where = folder / f"round-{rounds}" / task
                where.mkdir(parents=True)
                kills += until_done(
                    lambda task=task, where=where: train(task, where),  # type: ignore[misc]
                    lambda where=where: len(list(where.glob("step-*"))),  # type: ignore[misc]
                    span_s=0.03,
                )
            rounds += 1
    for task in tasks or QUICK:
        if mode == "straight":
            train(task, folder / task)
        elif mode == "each":
            wrong += compare(task, folder / task)
    print(json.dumps({"wrong": wrong, "kills": kills, "rounds": rounds}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
