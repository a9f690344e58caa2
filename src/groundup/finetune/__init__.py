"""Methods of fine-tuning: functions ``(model, ...options) -> model``, changed in place."""

from __future__ import annotations

from groundup.finetune.freeze import freeze, full, only, unfreeze
from groundup.finetune.lora import lora

__all__ = ["freeze", "full", "lora", "only", "unfreeze"]
