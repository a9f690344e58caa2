"""Models, one file per family, named by its Hugging Face model_type; what ``model`` in a recipe is looked up in."""

from __future__ import annotations

from groundup.models.llama import Llama
from groundup.models.lstm import LSTM
from groundup.models.mlp import MLP
from groundup.models.rev_in import RevIN
from groundup.models.text_cnn import TextCNN

__all__ = ["LSTM", "MLP", "Llama", "RevIN", "TextCNN"]
