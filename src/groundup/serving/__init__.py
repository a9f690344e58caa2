"""Serving: a checkpoint takes raw input and gives answers in a person's units."""

from groundup.serving.generation import Sampling, generate
from groundup.serving.predictor import Predictor

__all__ = ["Predictor", "Sampling", "generate"]
