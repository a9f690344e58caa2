"""Training: the loop as an iterator, its objectives, and what is decided before the first step."""

from groundup.training.compiling import compiler_problem
from groundup.training.decisions import settle
from groundup.training.loop import fit
from groundup.training.objectives import language_modelling, supervised
from groundup.training.placement import choose_device, keep_freed_memory, move, set_threads
from groundup.training.precision import Precision, choose_precision, has_bf16
from groundup.training.seeds import seed_everything
from groundup.training.timing import measure_step_time, steps_for

__all__ = [
    "Precision",
    "choose_device",
    "choose_precision",
    "compiler_problem",
    "fit",
    "has_bf16",
    "keep_freed_memory",
    "language_modelling",
    "measure_step_time",
    "move",
    "seed_everything",
    "set_threads",
    "settle",
    "steps_for",
    "supervised",
]
