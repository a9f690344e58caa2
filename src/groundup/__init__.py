"""groundup: neural networks from raw data to something fine-tuned, evaluated and served.

Verbs and nouns are imported when they are first asked for, so that ``import groundup`` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groundup.core.batch import Batch
    from groundup.core.checkpoint import Checkpoint
    from groundup.core.dataset import Dataset
    from groundup.core.errors import GroundupError
    from groundup.core.plan import Plan
    from groundup.core.recipe import DataRecipe, Evaluation, Finetune, Recipe, Training
    from groundup.core.report import Report
    from groundup.core.state import TrainState
    from groundup.core.use import Use
    from groundup.explain import explain
    from groundup.workflow import (
        check,
        clean,
        convert,
        diff,
        evaluate,
        fetch,
        finetune,
        inspect,
        labels,
        new,
        plan,
        predict,
        run,
        show,
        train,
        undo,
    )

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Checkpoint",
    "DataRecipe",
    "Dataset",
    "Evaluation",
    "Finetune",
    "GroundupError",
    "Plan",
    "Recipe",
    "Report",
    "TrainState",
    "Training",
    "Use",
    "__version__",
    "check",
    "clean",
    "convert",
    "diff",
    "evaluate",
    "explain",
    "fetch",
    "finetune",
    "inspect",
    "labels",
    "new",
    "plan",
    "predict",
    "run",
    "show",
    "train",
    "undo",
]

_HOMES = {
    "groundup.workflow": (
        "run",
        "train",
        "finetune",
        "evaluate",
        "predict",
        "check",
        "plan",
        "labels",
        "clean",
        "new",
        "inspect",
        "diff",
        "undo",
        "show",
        "fetch",
        "convert",
    ),
    "groundup.explain": ("explain",),
    "groundup.core.recipe": ("Recipe", "DataRecipe", "Training", "Evaluation", "Finetune"),
    "groundup.core.use": ("Use",),
    "groundup.core.dataset": ("Dataset",),
    "groundup.core.batch": ("Batch",),
    "groundup.core.state": ("TrainState",),
    "groundup.core.checkpoint": ("Checkpoint",),
    "groundup.core.plan": ("Plan",),
    "groundup.core.report": ("Report",),
    "groundup.core.errors": ("GroundupError",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(types.ModuleType):
    """This package, whose verbs are not hidden by modules of the same name once those are imported.

    ``groundup.finetune`` is a verb, and ``groundup/finetune/`` the folder of its parts: importing the
    folder would set the attribute to the module. ``from groundup.finetune import lora`` is not affected.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME_OF and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
