"""From a designed model to its checkpoints: what is known before the first step, the loop, and what it keeps."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shutil
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from groundup import terminal
from groundup.core.batch import Bookmark, Step
from groundup.core.checkpoint import Checkpoint
from groundup.core.errors import CheckpointError, DataError, NonFiniteError
from groundup.core.plan import Plan
from groundup.core.preprocessing import step_name, what_was_learned
from groundup.core.report import Proof, machine
from groundup.core.run import Run
from groundup.core.schema import Schema
from groundup.core.state import TrainState
from groundup.core.use import make
from groundup.data import any_size
from groundup.data.shards import gather_removed
from groundup.evaluation import mean_loss, run_page
from groundup.stages.designing import optimizer, steps_of
from groundup.stages.prepared import Prepared
from groundup.stages.preparing import ledger, ledger_lines
from groundup.stages.trained import Trained
from groundup.training import Precision, choose_device, fit, keep_freed_memory, move, set_threads, settle


@contextlib.contextmanager
def not_without_a_checkpoint(run: Run) -> Iterator[None]:
    """A run that ends before its first checkpoint can neither be used nor resumed: its folder goes."""
    try:
        yield
    except BaseException:
        if not any(run.checkpoints.glob("step-*")):
            shutil.rmtree(run.folder, ignore_errors=True)
        raise


def write_borders(run: Run, prepared: Prepared, proof: Proof, planned: Plan) -> None:
    """What is known before the first step: the ledger, what was fitted, the proof and the plan."""
    entries = ledger(prepared.splits)
    run.write("ledger.jsonl", ledger_lines(entries))
    if prepared.shop.folder.exists():  # of data in shards the ledger lists the first removed rows alone
        gather_removed([prepared.shop.folder], run.folder / "removed.jsonl")
    run.write("preprocessing.json", prepared.preprocessing.to_json())
    samples = {"step": step_name(prepared.samples), "split": "train", "rows": prepared.samples.learned["rows"]}
    learned = what_was_learned(prepared.preprocessing.prepare, entries)
    run.write_json("statistics.json", [*learned, {**samples, "columns": []}])
    run.write_json("proof.json", dataclasses.asdict(proof))
    if prepared.start is not None:
        run.write_json("start.json", prepared.start.about())
    if prepared.sample():
        run.write_json("sample.json", prepared.sample())
    run.write_json("plan.json", planned.to_dict())
    rows = {name: len(part) for name, part in prepared.splits.parts().items()}
    read = any_size.write_quarantine(prepared.shop, prepared.splits.train, run.folder)
    samples = {name: len(encoded) for name, encoded in prepared.encoded.items()}
    about = {"fingerprint": prepared.fingerprint, **read, "in_shards": prepared.in_shards}
    run.write_json("data.json", {**about, "rows": rows, "samples": samples})
    if isinstance(prepared.preprocessing.schema, Schema):
        run.write_json("schema.json", prepared.preprocessing.schema.to_dict())


def demand_same_data(run: Run, checkpoint: Checkpoint, prepared: Prepared, *, refuse: bool) -> None:
    """Warn where the data are not those of the run; or raise DataError, since a resume must go on with the same."""
    if prepared.fingerprint != checkpoint.json("provenance.json")["data"]:
        changed = f"{prepared.recipe.data.source}: the data is no longer what the run was trained on"
        if refuse:
            raise DataError(f"{changed}; a resume must go on with the same. Restore it, or start a new run.")
        terminal.warn(f"{changed}; figures may differ for that reason")
    in_shards = prepared.in_shards
    if refuse and in_shards != run.read_json("data.json").get("in_shards", in_shards):
        raise DataError(
            f"{run.folder}: its data lay in {'memory' if in_shards else 'shards'} and do so no longer, since another "
            "part of the memory is free; batches would come in another order. Set data.memory as it was: a large one, "
            "such as data.memory=64GB, keeps data in memory."
        )


def begin(trained: Trained, *, measure: bool = True) -> TrainState:
    """A state at step 0, with the decisions that hold for the whole run: device, precision, compiling, steps."""
    training, prepared = trained.training, trained.prepared
    set_threads()
    keep_freed_memory()
    model = move(trained.model, choose_device(training.device))
    schedule = make(training.schedule, "schedule") if training.schedule is not None else None
    steps = steps_of(prepared, training) or 0
    state = TrainState(model, optimizer(model, training), schedule, total_steps=steps)
    if measure:
        settle(
            state,
            next(prepared.batches(training, Bookmark())),
            trained.objective,
            precision=training.precision,
            compile=training.compile,
            minutes=training.minutes,
            accumulate=training.accumulate,
        )
        terminal.decisions(state.decisions, state.total_steps)
    return state


def restored(trained: Trained, checkpoint: Checkpoint) -> TrainState:
    """The state as it was when the checkpoint was written; the log is wound back to there."""
    state = begin(trained, measure=False)
    state.model.load_state_dict(checkpoint.tensors("model.safetensors"))
    state.restore(checkpoint.tensors("training.safetensors"), checkpoint.json("state.json"))
    here = next(state.model.parameters()).device.type
    if not str(state.decisions["device"]).startswith(here):
        raise CheckpointError(
            f"{trained.run.folder}: started on {state.decisions['device']}; it goes on exactly there only, not on "
            f"{here}."
        )
    trained.run.rewind(state.step)
    return state


def learn(trained: Trained, state: TrainState) -> None:
    """The loop: step, log, evaluate, save; the periods are the recipe's own."""
    run, prepared, training = trained.run, trained.prepared, trained.training
    evaluating = training.evaluate_every or max(1, state.total_steps // 10)
    saving = training.save_every or evaluating
    stream = prepared.batches(training, state.bookmark)
    logged = run.logged()  # of what went before, if this is a resume
    started = time.monotonic() - (logged[-1]["time_s"] if logged else 0.0)
    unit = "tokens" if prepared.samples.task == "generate" else "samples"
    with terminal.bar("training", state.total_steps, unit) as bar:
        for step in fit(state, stream, trained.objective, clip_norm=training.clip_norm, accumulate=training.accumulate):
            bar.step(step)
            if step.every(training.log_every) or step.last:
                run.log(kind="train", step=step.number, time_s=time.monotonic() - started, **_values(step))
            improved = False
            if step.every(evaluating) or step.last:
                loss = _validate(trained, state)
                if not math.isfinite(loss):
                    raise NonFiniteError(f"step {step.number}: the loss on the validation split is {loss}; lower lr.")
                improved = loss < run.best()[1]
                run.log(kind="valid", step=step.number, loss=loss, time_s=time.monotonic() - started)
                bar.mark(f"valid {loss:.4f}")
            if step.every(saving) or step.last or (improved and training.keep == "best"):
                _save(trained, state)


def _validate(trained: Trained, state: TrainState) -> float:
    """Mean loss on the first batches of the validation split, as many as the recipe says."""
    training = trained.training
    batches = islice(trained.prepared.once("valid", training.batch_size), training.evaluate_batches)
    with Precision(**state.decisions["precision"]).autocast():
        return mean_loss(state.model, batches, trained.objective)


def _values(step: Step) -> dict[str, Any]:
    names = ("loss", "learning_rate", "gradient_norm", "samples", "tokens")
    return {name: getattr(step, name) for name in names} | dict(step.parts)


def _save(trained: Trained, state: TrainState) -> None:
    run, prepared, training = trained.run, trained.prepared, trained.training
    best_step = run.best()[0]
    run.save(
        state.step,
        {"model.safetensors": state.model.state_dict(), "training.safetensors": state.tensors()},
        {"state.json": state.to_json(), **carried(prepared)},
        keep={best_step} if training.keep == "best" and best_step is not None else set(),
    )


def carried(prepared: Prepared) -> dict[str, str]:
    """What a checkpoint carries beside its tensors, so that it can take raw input anywhere."""
    about = {"digest": prepared.recipe.digest(), "data": prepared.fingerprint, "machine": machine()}
    return {
        "recipe.toml": prepared.recipe.resolved().to_toml(),
        "preprocessing.json": prepared.preprocessing.to_json(),
        "sizes.json": json.dumps(prepared.sizes),
        "provenance.json": json.dumps(about, indent=1),
    }


def kept(trained: Trained) -> Checkpoint:
    """The checkpoint that the recipe keeps, the last or the best; the model is given its weights."""
    run = trained.run
    best = run.best()[0] if trained.training.keep == "best" else None
    step = run.logged()[-1]["step"] if best is None else best
    checkpoint = Checkpoint.open(run.checkpoints / f"step-{step}")
    trained.model.load_state_dict(checkpoint.tensors("model.safetensors"))
    return checkpoint


def write_page(run: Run) -> None:
    """``report.html``: everything the run's folder holds, on one page that needs no network."""
    run.write("report.html", run_page(run))
