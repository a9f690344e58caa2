"""Optimizers and the parameter groups they work on; schedules lie in ``groundup.optim.schedules``."""

from groundup.optim.groups import parameter_groups
from groundup.optim.muon import Muon
from groundup.optim.optimizers import SGD, Adam, AdamW, Lion

__all__ = ["SGD", "Adam", "AdamW", "Lion", "Muon", "parameter_groups"]
