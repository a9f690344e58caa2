"""The checks that a run must pass; each gives a Check that says what it saw and, if it failed, how to mend it."""

from groundup.proof.contract import contract, public_layers
from groundup.proof.data import constant_target, end_of_text_learned, masks, no_leaks
from groundup.proof.model import fits_memory, gradients, initial_loss, overfits_one_batch, same_outputs
from groundup.proof.signal import promised_scale, signal

__all__ = [
    "constant_target",
    "contract",
    "end_of_text_learned",
    "fits_memory",
    "gradients",
    "initial_loss",
    "masks",
    "no_leaks",
    "overfits_one_batch",
    "promised_scale",
    "public_layers",
    "same_outputs",
    "signal",
]
